import type { AgentRow } from "../api_types.ts";
import { useApp } from "../context.ts";
import { Act } from "./act.tsx";
import { Inline } from "./text.tsx";

/** What is to be built anew and is not on its way to that. */
export const isStale = (row: AgentRow) => row.needs_update !== "" && !row.updating;

/** That what runs of an agent is not what is deployed and installed, and why; what a failed config says stands elsewhere. */
export function NeedsUpdate({ row }: { row: AgentRow }) {
  if (!row.needs_update && !row.updating) return null;
  return (
    <span class="needs-update">
      <span class="chip chip-warn" data-testid="needs-update">
        {row.updating ? "rebuilds after its turn" : "needs update"}
      </span>
      {row.needs_update && (
        <span class="reason" data-testid="update-reason">
          <Inline text={row.needs_update} />
        </span>
      )}
    </span>
  );
}

/** Builds one agent anew, once its turn is over. */
export function Rebuild({ row }: { row: AgentRow }) {
  const { api } = useApp().store;
  const { name } = row;
  if (!isStale(row)) return null;
  return (
    <Act
      label={`rebuild ${name}`}
      testId="rebuild"
      kind="good"
      until={`${row.updating} ${row.needs_update}`}
      run={async () => {
        await api.rebuild(name);
        return `${name} is built anew after its turn`;
      }}
    >
      rebuild
    </Act>
  );
}

const renderAgents = (count: number) => (count === 1 ? "1 agent" : `${count} agents`);

/** All that are stale, by one click. */
export function UpdateAll() {
  const { store } = useApp();
  const rows = store.agents.keys.value.map((name) => store.agents.cell(name)?.value);
  const count = rows.filter((row) => row !== undefined && isStale(row)).length;
  if (count === 0) return null;
  return (
    <div class="update-all" data-testid="update-all-row">
      <span>{renderAgents(count)} not up to date</span>
      <span class="acts">
        <Act
          label={`update all agents that need it: ${count}`}
          testId="update-all"
          kind="good"
          until={count}
          confirm={`rebuild ${renderAgents(count)}, each after its turn? open terminals end`}
          run={async () => renderUpdating((await store.api.updateAll()).agents)}
        >
          update all ({count})
        </Act>
      </span>
    </div>
  );
}

const renderUpdating = (names: string[]) =>
  names.length === 0 ? "nothing is stale" : `built anew after their turns: ${names.join(", ")}`;
