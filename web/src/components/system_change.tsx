import { useEffect, useMemo } from "preact/hooks";
import type { Approval, Change, PackageChange, SystemChange } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { renderSize } from "../text.ts";
import { FetchNote } from "./fetch_note.tsx";
import { Fold } from "./fold.tsx";
import { BeforeAfter, ChangeSign } from "./meaning.tsx";
import { Exact } from "./text.tsx";

/** Packages that are shown at once; of more there is a line with their number. */
const OPEN_PACKAGES = 20;
const WORDS: readonly Change[] = ["added", "removed", "changed"];

/**
 * What an approval does to the agent's system. It takes the hive minutes to find out, so it is asked for when the change
 * is shown already, and given up when nobody looks any more.
 */
export function SystemSection({ approval }: { approval: Approval }) {
  const { api, epochs } = useApp().store;
  const left = useMemo(() => new AbortController(), [approval.id]);
  useEffect(() => () => left.abort(), [left]);
  const fetched = useFetched(
    `system-${approval.id}`,
    () => api.systemChange(approval.id, left.signal),
    epochs.of(approval.agent),
  );
  const change = fetched.value.value;
  const working = change === null && !fetched.error.value;
  return (
    <section
      class="review-part"
      aria-label="packages of the agent's system"
      data-testid={`system-${approval.id}`}
    >
      <h3>packages of the agent's system</h3>
      {working ? (
        <p class="system-working dim" role="status">
          <span class="spinner" aria-hidden="true" />
          being worked out, which may take a minute or two: nothing waits for it
        </p>
      ) : (
        <FetchNote fetched={fetched} what="what it changes of them" />
      )}
      {change && <Packages change={change} />}
    </section>
  );
}

function Packages({ change }: { change: SystemChange }) {
  const { packages, problem } = change;
  if (packages.length === 0)
    return <p class="empty">none comes, goes or becomes another: what else there is to it is in the diff</p>;
  const table = <PackageTable packages={packages} leftOut={change.left_out} />;
  return (
    <>
      {!change.base && <p class="dim">beyond a system of which its config says nothing</p>}
      {packages.length > OPEN_PACKAGES ? (
        <Fold testId="system-packages" summary={renderCounts(change)}>
          {table}
        </Fold>
      ) : (
        table
      )}
      {problem ? (
        <p class="system-sizes" data-testid="system-sizes">
          what it takes on the disk is not known: <Exact text={problem} />
        </p>
      ) : (
        <Sizes change={change} />
      )}
    </>
  );
}

function PackageTable({ packages, leftOut }: { packages: PackageChange[]; leftOut: number }) {
  return (
    <table class="meaning packages">
      <caption class="visually-hidden">packages of the system that become others</caption>
      <thead>
        <tr>
          <th scope="col">
            <span class="visually-hidden">change</span>
          </th>
          <th scope="col">package</th>
          <th scope="col">before → after</th>
        </tr>
      </thead>
      <tbody>
        {packages.map((row, index) => (
          <tr key={index} data-change={row.change}>
            <td class="meaning-sign">
              <ChangeSign change={row.change} />
            </td>
            <td class="package-name">
              <Exact text={row.name} />
            </td>
            <td class="meaning-values">
              <BeforeAfter row={row} />
            </td>
          </tr>
        ))}
      </tbody>
      {leftOut > 0 && (
        <tfoot>
          <tr>
            <td colSpan={3}>and {leftOut} more</td>
          </tr>
        </tfoot>
      )}
    </table>
  );
}

function renderCounts({ packages, left_out }: SystemChange): string {
  const counts = WORDS.map((word) => [packages.filter((row) => row.change === word).length, word] as const);
  const told = counts.filter(([count]) => count > 0).map(([count, word]) => `${count} ${word}`);
  return `packages: ${told.join(", ")}${left_out > 0 ? `, and ${left_out} more` : ""}`;
}

/** What the machine gets and loses, in one line. */
function Sizes({ change }: { change: SystemChange }) {
  const { added_bytes: added, removed_bytes: removed, download_bytes: download, built } = change;
  const words: string[] = [];
  if (added > 0) words.push(`${renderSize(added)} more on the disk`);
  else if (built.length === 0) words.push("nothing more on the disk");
  if (removed > 0) words.push(`at most ${renderSize(removed)} no longer needed`);
  if (download > 0) words.push(`${renderSize(download)} to download`);
  if (built.length > 0)
    words.push(
      `${built.length === 1 ? "1 package is" : `${built.length} packages are`} built here, of a size not known yet`,
    );
  return (
    <p class="system-sizes" data-testid="system-sizes">
      {words.join(", ")}
      {built.length > 0 && (
        <>
          : <Exact text={built.join(", ")} />
        </>
      )}
    </p>
  );
}
