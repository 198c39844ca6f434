import type { Signal } from "@preact/signals";
import type { AgentRow } from "../api_types.ts";
import { useApp } from "../context.ts";
import { Act } from "./act.tsx";
import { ConfigToggle } from "./config_viewer.tsx";
import { State } from "./containers.tsx";
import { Inline } from "./text.tsx";

const WORKING = new Set(["thinking", "compacting"]);
const DOWN = new Set(["stopped", "failed", "crashed", "unknown"]);

/** One line on an agent: what it does and why, its model, how the last turn ended, and what fits the moment. */
export function AgentState({
  row,
  onJournal,
  journal,
  config,
}: {
  row: AgentRow;
  config: Signal<boolean>;
  onJournal: () => void;
  journal: boolean;
}) {
  const { api } = useApp().store;
  const { name } = row;
  return (
    <div class="agent-state" data-testid="agent-state" data-state={row.state}>
      <State row={row} />
      <span class="chips">
        <span class="chip" data-testid="model">
          {row.model ? <Inline text={row.model} /> : "model not known yet"}
        </span>
        {row.waiting > 0 && (
          <span class="chip chip-warn" data-testid="waiting">
            {row.waiting} waiting
          </span>
        )}
        {row.turns > 0 && (
          <span class={row.last_outcome === "ok" ? "chip" : "chip chip-warn"} data-testid="last-turn">
            {row.turns} turn{row.turns === 1 ? "" : "s"}, last:{" "}
            <Inline text={row.last_outcome.replaceAll("_", " ")} />
          </span>
        )}
      </span>
      <span class="acts">
        {WORKING.has(row.state) && (
          <Act
            label={`cancel the turn of ${name}`}
            testId="cancel-turn"
            kind="danger"
            until={row.state}
            run={async () => renderCancel(name, (await api.cancelTurn(name)).cancelled)}
          >
            cancel turn
          </Act>
        )}
        {DOWN.has(row.state) && (
          <Act
            label={`start ${name}`}
            testId="start"
            kind="good"
            until={`${row.state} ${row.since}`}
            run={async () => {
              await api.start(name);
              return `${name} is starting`;
            }}
          >
            start
          </Act>
        )}
        <ConfigToggle agent={name} open={config} />
        <button
          type="button"
          class="act act-quiet"
          aria-expanded={journal}
          aria-label={`journal of ${name}`}
          data-testid="journal-toggle"
          onClick={onJournal}
        >
          journal
        </button>
      </span>
    </div>
  );
}

export const renderCancel = (name: string, cancelled: boolean) =>
  cancelled ? `the turn of ${name} is cancelled` : `${name} has no turn to cancel`;
