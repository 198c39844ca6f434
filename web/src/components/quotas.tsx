import type { AgentQuotas, AgentRow, QuotaUse } from "../api_types.ts";
import { useApp } from "../context.ts";
import { type Fetched, useFetched } from "../fetched.ts";
import { renderSize } from "../text.ts";
import { renderClock } from "../time.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Inline } from "./text.tsx";

/** From this part of a limit on it is marked. */
const NEAR = 0.8;
const HOUR_S = 3600;

const NAMES: Record<string, string> = {
  memory: "memory of its container",
  tasks: "processes and threads",
  disk: "folders on the disk",
  files: "files in them",
  messages: "messages sent",
  inbox: "messages waiting for it",
  questions: "open questions to you",
  reminders: "reminders",
  transcript: "transcript kept",
  events: "events of the transcript",
  event_bytes: "their size",
  acts: "other requests to the hive",
  requests: "requests to the model on their way",
  request_bytes: "what they hold",
  request_rate: "requests to the model",
  terminals: "terminals",
  log: "log kept",
};

/** What an agent takes of all that is shared, and how much it may. */
export function Quotas({ row }: { row: AgentRow }) {
  const { api, epochs } = useApp().store;
  const { name } = row;
  const fetched = useFetched(`quotas-${name}`, () => api.quotas(name), epochs.of(name));
  const found = fetched.value.value;
  return (
    <section class="panel" aria-label={`quotas of ${name}`} data-testid="quotas">
      <h3>quotas</h3>
      <FetchNote fetched={fetched} what="the quotas" />
      {found !== null && <Found found={found} fetched={fetched} />}
      <Unlimited />
    </section>
  );
}

/** What the kernel sets no bound to here, and why: a config that asks for one is refused. */
function Unlimited() {
  const { hive } = useApp().store;
  const reasons = groupReasons(hive.value?.unlimited ?? {});
  return reasons.map(([reason, limits]) => (
    <p key={reason} class="tone-warn quotas-unlimited" data-testid="unlimited">
      not limited on this machine: {limits.join(", ")}{" "}
      <span class="dim">
        (<Inline text={reason} />)
      </span>
    </p>
  ));
}

/** The limits of each reason. */
export function groupReasons(unlimited: Record<string, unknown>): [reason: string, limits: string[]][] {
  const found = new Map<string, string[]>();
  for (const [limit, reason] of Object.entries(unlimited))
    found.set(String(reason), [...(found.get(String(reason)) ?? []), limit]);
  return [...found];
}

function Found({ found, fetched }: { found: AgentQuotas; fetched: Fetched<AgentQuotas> }) {
  const disk = found.quotas.find((use) => use.quota === "disk");
  return (
    <>
      {found.over !== "" && (
        <p class="tone-bad" data-testid="over-quota">
          stopped: <Inline text={found.over} />
        </p>
      )}
      {found.allowed_until !== null && (
        <p class="dim">more of the disk is allowed until {renderClock(found.allowed_until)}</p>
      )}
      <table class="quotas">
        <thead>
          <tr>
            <th scope="col">quota</th>
            <th scope="col">used</th>
            <th scope="col">of</th>
          </tr>
        </thead>
        <tbody>
          {found.quotas.map((use) => (
            <QuotaRow key={use.quota} use={use} />
          ))}
        </tbody>
      </table>
      <div class="acts quotas-acts">
        <Act
          label={`look again at the quotas of ${found.agent}`}
          testId="quotas-again"
          run={async () => {
            await fetched.fetchNow();
            return "looked at again";
          }}
        >
          look again
        </Act>
        {disk !== undefined && disk.limit !== null && <Allow found={found} disk={disk} fetched={fetched} />}
      </div>
    </>
  );
}

function QuotaRow({ use }: { use: QuotaUse }) {
  const near = isNear(use);
  return (
    <tr data-testid={`quota-${use.quota}`} class={near ? "tone-warn" : ""}>
      <th scope="row">{NAMES[use.quota] ?? use.quota}</th>
      <td>
        {renderAmount(use.used, use)}
        {near && <span class="visually-hidden"> (nearly all)</span>}
      </td>
      <td>{use.limit === null ? "any" : renderAmount(use.limit, use) + (isRate(use) ? " a minute" : "")}</td>
    </tr>
  );
}

function Allow({
  found,
  disk,
  fetched,
}: {
  found: AgentQuotas;
  disk: QuotaUse;
  fetched: Fetched<AgentQuotas>;
}) {
  const { api } = useApp().store;
  const size = Math.ceil(Math.max((disk.limit ?? 0) * 1.5, (disk.used ?? 0) * 1.2));
  return (
    <Act
      label={`allow ${renderSize(size)} for an hour on the disk of ${found.agent}`}
      testId="allow-disk"
      confirm={`allow its folders ${renderSize(size)} for an hour?`}
      run={async () => {
        await api.allowDisk(found.agent, { size_bytes: size, for_s: HOUR_S });
        await fetched.fetchNow();
        return `${found.agent} may have ${renderSize(size)} for an hour`;
      }}
    >
      allow {renderSize(size)} for an hour
    </Act>
  );
}

const isRate = (use: QuotaUse) => use.unit === "per_minute" || use.unit === "bytes_per_minute";

function isNear({ used, limit, unit }: QuotaUse): boolean {
  return used !== null && limit !== null && (unit === "count" || unit === "bytes") && used >= limit * NEAR;
}

function renderAmount(value: number | null, { unit }: QuotaUse): string {
  if (value === null) return "?";
  return unit === "bytes" || unit === "bytes_per_minute"
    ? renderSize(value)
    : Math.round(value).toLocaleString("en");
}
