import { useApp } from "../context.ts";
import { renderClock } from "../time.ts";
import { Act } from "./act.tsx";
import { ParkLine } from "./park.tsx";
import { Inline } from "./text.tsx";

/** What holds for the whole page: a rehearsal, a lost connection, rows that could not be fetched. */
export function Banners() {
  const { store, connection } = useApp();
  const { state, lastSeenAt } = connection.value;
  const seen =
    lastSeenAt === null ? "" : ` What you see is from ${renderClock(new Date(lastSeenAt).toISOString())}.`;
  return (
    <div class="banners" aria-live="polite">
      {store.hive.value?.rehearsal && (
        <p class="banner banner-rehearsal" data-testid="banner-rehearsal">
          rehearsal: no model behind this
        </p>
      )}
      <HivePark />
      <PortProblems />
      {state === "down" && (
        <p class="banner banner-lost" data-testid="banner-lost">
          <span class="spinner" aria-hidden="true" /> the hive is not answering; trying again.{seen}
        </p>
      )}
      {state === "up" && store.loadError.value && (
        <p class="banner banner-lost" data-testid="banner-stale">
          not everything could be fetched: <Inline text={store.loadError.value} />{" "}
          <button type="button" class="link" onClick={() => void store.load()}>
            look again
          </button>
        </p>
      )}
    </div>
  );
}

/** Agents whose page is not at their own port: in a large hive there are several. */
function PortProblems() {
  const { store } = useApp();
  const problems = store.hive.value?.port_problems ?? [];
  const [first] = problems;
  if (first === undefined) return null;
  return (
    <div class="banner banner-warn" data-testid="banner-port">
      {problems.length === 1 ? (
        <Inline text={first} />
      ) : (
        <details>
          <summary>{problems.length} ports of agents do not lead to one page each</summary>
          <ul>
            {problems.map((problem) => (
              <li key={problem}>
                <Inline text={problem} />
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

/** Why the whole hive stands still. What the operator paused is resumed in the header; the rest is mended here. */
function HivePark() {
  const { store } = useApp();
  const park = store.hive.value?.park ?? null;
  if (park === null) return null;
  return (
    <div class="banner banner-warn banner-park" data-testid="banner-park" data-kind={park.kind}>
      <span>
        <ParkLine park={park} />
      </span>
      {(park.kind === "limit" || park.kind === "failing" || park.kind === "login") && (
        <Act
          label="try now, for the whole hive"
          testId="try-all"
          until={park.since}
          run={async () => {
            await store.api.resumeAll();
            return "the hive tries again";
          }}
        >
          try now
        </Act>
      )}
      {park.kind === "budget" && (
        <Act
          label="grant half of the budget of the hive on top"
          testId="grant-all"
          until={`${park.since} ${park.reason}`}
          run={async () => {
            await store.api.grantHive();
            return "the hive: half of the budget more, for 24 hours";
          }}
        >
          grant half more
        </Act>
      )}
    </div>
  );
}
