import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import type { AgentRow } from "../api_types.ts";
import { useApp } from "../context.ts";
import { agentPath } from "../route.ts";
import { describeOutcome } from "../transcript/outcome.ts";
import { Act } from "./act.tsx";
import { Badge } from "./badge.tsx";
import { HiveBudget } from "./budget.tsx";
import { BudgetChip, ContextChip, ModelChip, WaitingChip } from "./chips.tsx";
import { ConfigError, ConfigToggle, ConfigViewer } from "./config_viewer.tsx";
import { Journal } from "./journal.tsx";
import { Link, Name } from "./link.tsx";
import { needsLogin } from "./login_box.tsx";
import { ParkChip } from "./park.tsx";
import { Empty, Section } from "./section.tsx";
import { Steering } from "./steering.tsx";
import { Inline } from "./text.tsx";
import { NeedsUpdate, Rebuild, UpdateAll } from "./update.tsx";
import { Age } from "./when.tsx";

const DOWN = new Set(["stopped", "failed", "crashed"]);

export function Containers() {
  const { store } = useApp();
  const names = store.agents.keys.value;
  return (
    <Section title="containers" leet="C0NTAINERS" testId="containers" count={names.length}>
      <HiveBudget />
      <UpdateAll />
      {names.length === 0 && <Empty>{store.loaded.value ? "no agent yet" : "loading…"}</Empty>}
      <ul class="rows">
        {names.map((name) => (
          <Container key={name} name={name} />
        ))}
      </ul>
    </Section>
  );
}

function Container({ name }: { name: string }) {
  const { store } = useApp();
  const journal = useSignal(false);
  const config = useSignal(false);
  const row = store.agents.cell(name)?.value;
  if (row === undefined) return null;
  return (
    <li class="row container" data-testid={`agent-${name}`} data-state={row.state}>
      <div class="container-who">
        <Name name={name} />
        <State row={row} />
      </div>
      <RowActs row={row}>
        <ConfigToggle agent={name} open={config} />
        <button
          type="button"
          class="act act-quiet"
          aria-expanded={journal.value}
          aria-label={`journal of ${name}`}
          data-testid="journal-toggle"
          onClick={() => (journal.value = !journal.value)}
        >
          journal
        </button>
      </RowActs>
      <div class="container-facts">
        <Parked row={row} />
        <NeedsUpdate row={row} />
        <Chips row={row} />
      </div>
      <ConfigError row={row} />
      {config.value && <ConfigViewer agent={name} />}
      {journal.value && <Journal agent={name} />}
    </li>
  );
}

function Chips({ row }: { row: AgentRow }) {
  return (
    <span class="chips">
      {(row.model || row.chosen_model) && <ModelChip row={row} />}
      <ContextChip row={row} />
      <BudgetChip row={row} />
      <WaitingChip row={row} />
      {row.last_outcome && row.last_outcome !== "ok" && (
        <span class="chip chip-warn">
          last turn: <Inline text={describeOutcome(row.last_outcome).words} />
        </span>
      )}
    </span>
  );
}

/** What an agent does, since when, and why. Why it is parked, `Parked` tells in full. */
export function State({ row }: { row: AgentRow }) {
  const told = row.park !== null && (row.state === "parked" || row.state === "needs_login");
  return (
    <span class="state">
      <Badge state={row.state} />
      <Age at={row.since} />
      {row.reason && !told && (
        <span class="reason" data-testid="reason">
          <Inline text={row.reason} />
        </span>
      )}
    </span>
  );
}

/** Why an agent runs no turns, if it does not; and that it could not for want of a login. */
export function Parked({ row }: { row: AgentRow }) {
  const silent = row.state === "needs_login" || row.park?.kind === "login";
  return (
    <>
      {row.park !== null && <ParkChip park={row.park} />}
      {needsLogin(row) && !silent && (
        <span class="chip chip-warn" data-testid="needs-login">
          needs login
        </span>
      )}
    </>
  );
}

/** The acts on a container. Those that make no sense in its state are not there. */
function RowActs({ row, children }: { row: AgentRow; children: ComponentChildren }) {
  const { api } = useApp().store;
  const { name } = row;
  const until = `${row.state} ${row.since}`;
  const down = DOWN.has(row.state);
  return (
    <div class="acts">
      {children}
      {needsLogin(row) && (
        <Link to={agentPath(name)} class="act act-good" aria-label={`log ${name} in`}>
          log in
        </Link>
      )}
      {(!down || row.park !== null) && <Steering row={row} />}
      {(down || row.state === "unknown") && (
        <Act
          label={`start ${name}`}
          testId="start"
          kind="good"
          until={until}
          run={async () => {
            await api.start(name);
            return `${name} is starting`;
          }}
        >
          start
        </Act>
      )}
      <Rebuild row={row} />
      {!down && (
        <>
          <Act
            label={`restart ${name}`}
            testId="restart"
            until={until}
            confirm={`restart ${name}? a running turn is given up`}
            run={async () => {
              await api.restart(name);
              return `${name} is restarting`;
            }}
          >
            restart
          </Act>
          <Act
            label={`stop ${name}`}
            testId="stop"
            until={until}
            confirm={`stop ${name}? its messages wait`}
            run={async () => {
              await api.stop(name);
              return `${name} is stopping`;
            }}
          >
            stop
          </Act>
        </>
      )}
      {!row.manager && (
        <Act
          label={`destroy ${name}`}
          testId="destroy"
          kind="danger"
          until={until}
          confirm={`destroy ${name}? its notes and login are kept until you purge them`}
          run={async () => {
            await api.destroy(name);
            return `${name} is destroyed; its state is kept`;
          }}
        >
          destroy
        </Act>
      )}
    </div>
  );
}
