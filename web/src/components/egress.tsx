import { type Signal, useComputed, useSignal } from "@preact/signals";
import type { EgressGrant, EgressRequest } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { approvalPath } from "../route.ts";
import { renderSize } from "../text.ts";
import { now, renderCountdown } from "../time.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Link } from "./link.tsx";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

/** A request that was let through is no event of the hive's: it is looked at again this often while somebody looks. */
const LOOK_MS = 3_000;
const MINUTES = 30;
const HTTPS = 443;
const HTTP = 80;

/** The approvals that were asked for here, by what they would allow. */
type Proposed = Signal<Record<string, number>>;

/** What the agent asked the egress proxy for and what became of it, and what it may reach for a while. */
export function Egress({ agent }: { agent: string }) {
  const { api, egressEpochs, epochs } = useApp().store;
  const epoch = useComputed(() => egressEpochs.of(agent).value + Math.floor(now.value / LOOK_MS));
  const requests = useFetched(`egress-${agent}`, () => api.egress(agent), epoch);
  const moved = useComputed(() => egressEpochs.of(agent).value + epochs.of(agent).value);
  const grants = useFetched(`egress-grants-${agent}`, () => api.egressGrants(agent), moved);
  const rows = requests.value.value;
  const granted = grants.value.value ?? [];
  const offered = chooseOffered(rows ?? [], granted);
  const proposed: Proposed = useSignal({});
  const refresh = async () => {
    await Promise.all([requests.fetchNow(), grants.fetchNow()]);
  };
  return (
    <section class="panel" aria-label={`egress of ${agent}`} data-testid="egress">
      <h3>egress</h3>
      <FetchNote fetched={grants} what="the grants" />
      <ul class="versions" data-testid="egress-grants">
        {granted.map((row) => (
          <GrantRow key={row.id} row={row} onDone={refresh} />
        ))}
      </ul>
      <FetchNote fetched={requests} what="the requests" />
      {rows?.length === 0 && <p class="empty">{agent} asked for no host yet</p>}
      <ul class="versions" data-testid="egress-requests">
        {rows?.map((row, index) => (
          <RequestRow
            key={`${row.at} ${row.method} ${row.host} ${row.port} ${countSame(rows, index)}`}
            row={row}
            offered={offered.has(row)}
            proposed={proposed}
            onDone={refresh}
          />
        ))}
      </ul>
    </section>
  );
}

interface GrantProps {
  row: EgressGrant;
  onDone: () => Promise<void>;
}

function GrantRow({ row, onDone }: GrantProps) {
  const { api } = useApp().store;
  const place = renderPlace(row.host, row.port);
  return (
    <li class="version" data-testid={`egress-grant-${row.id}`}>
      <span class="version-what">
        <strong>
          <Inline text={place} />
        </strong>
        <span class="chip egress-granted">granted</span>
        <span class="dim">
          for <time dateTime={row.until}>{renderCountdown(Date.parse(row.until) - now.value)}</time> more
        </span>
      </span>
      <div class="acts">
        <Act
          label={`revoke ${place} of ${row.agent}`}
          testId="egress-revoke"
          kind="danger"
          run={async () => {
            await api.revokeEgress(row.id);
            await onDone();
            return `${row.agent} may not reach ${place} by the grant any more`;
          }}
        >
          revoke
        </Act>
      </div>
    </li>
  );
}

interface RequestProps {
  row: EgressRequest;
  offered: boolean;
  proposed: Proposed;
  onDone: () => Promise<void>;
}

function RequestRow({ row, offered, ...rest }: RequestProps) {
  return (
    <li class="version" data-testid="egress-request" data-verdict={row.verdict}>
      <span class="version-what">
        <span class={`chip egress-${row.verdict}`}>{row.verdict}</span>
        <span class="egress-place">
          <Inline text={renderAsked(row)} />
        </span>
        <span class="dim">
          <Inline text={renderWhy(row)} />
          {row.verdict === "allowed" &&
            ` · ${renderSize(row.bytes_up)} up, ${renderSize(row.bytes_down)} down`}{" "}
          · <Age at={row.at} /> ago
        </span>
      </span>
      {offered && <Offers row={row} {...rest} />}
    </li>
  );
}

/** What may be done about a refusal. */
function Offers({ row, proposed, onDone }: Omit<RequestProps, "offered">) {
  const { api, approvals } = useApp().store;
  const { agent, host, port } = row;
  const place = renderPlace(host, port);
  const entry = renderEntry(row);
  const asked = proposed.value[entry];
  const waits = asked !== undefined && approvals.cell(asked)?.value.status === "pending";
  return (
    <div class="acts">
      <Act
        label={`allow ${agent} ${place} for ${MINUTES} minutes`}
        testId="egress-allow"
        kind="good"
        run={async () => {
          await api.grantEgress({ agent, host, port, minutes: MINUTES });
          await onDone();
          return `${agent} may reach ${place} for ${MINUTES} minutes`;
        }}
      >
        allow {MINUTES} min
      </Act>
      {row.rule !== "network.allow" ? null : waits ? (
        <Link to={approvalPath(asked)} class="act" data-testid="egress-proposed">
          look at approval {asked}
        </Link>
      ) : (
        <Act
          label={`allow ${agent} ${entry} for good`}
          testId="egress-propose"
          run={async () => {
            const approval = await api.proposeEgress({ agent, entry });
            const { id } = approval;
            // Its event may have come already, and be newer than this answer.
            if (approvals.find(id) === undefined) approvals.put(approval);
            proposed.value = { ...proposed.peek(), [entry]: id };
            return `approval ${id} would add ${entry} to the config of ${agent}: look at it and approve it`;
          }}
        >
          allow for good
        </Act>
      )}
    </div>
  );
}

/**
 * The rows with something to offer: of what was refused for not being listed the newest of each, unless it is granted
 * by now. What can never be reached, and what was no request, has none.
 */
export function chooseOffered(
  rows: readonly EgressRequest[],
  grants: readonly EgressGrant[],
): Set<EgressRequest> {
  const seen = new Set(grants.map((grant) => renderPlace(grant.host, grant.port)));
  const chosen = new Set<EgressRequest>();
  for (const row of rows) {
    const place = renderPlace(row.host, row.port);
    const listed = row.verdict === "refused" && row.rule.startsWith("network.");
    if (!listed || row.host === "" || row.host === "*" || seen.has(place)) continue;
    seen.add(place);
    chosen.add(row);
  }
  return chosen;
}

/** Why what was asked for did not come about, by its rule. */
const REASONS: Record<string, string> = {
  "network.allow": "not listed in network.allow",
  address: "at no public address, which is never reached",
  request: "the proxy could make nothing of it",
  config: "its config cannot be used now",
  lookup: "its name could not be looked up",
  connect: "it takes no connection",
  timeout: "it could not be reached in time",
  tunnels: "too many connections at once",
  "tunnels of the hive": "too many connections of all agents",
};

const renderWhy = ({ verdict, rule }: EgressRequest) =>
  verdict !== "allowed" && Object.hasOwn(REASONS, rule) ? (REASONS[rule] ?? rule) : rule;

const renderPlace = (host: string, port: number) =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

/** As it is to stand in network.allow. */
export function renderEntry({ host, port, method, path }: EgressRequest): string {
  if (method) return `${method} http://${host}${port === HTTP ? "" : `:${port}`}${path}`;
  return port === HTTPS ? host : `${host}:${port}`;
}

function renderAsked(row: EgressRequest): string {
  if (row.host === "") return "what was no request";
  if (row.host === "*") return "several other hosts";
  return row.method ? renderEntry(row) : renderPlace(row.host, row.port);
}

/** How many of the rows above are of the same instant and place: what tells them apart. */
function countSame(rows: readonly EgressRequest[], index: number): number {
  const row = rows[index];
  return rows.slice(index + 1).filter((other) => other.at === row?.at && other.host === row.host).length;
}
