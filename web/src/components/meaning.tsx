import type { Change, MeaningRow } from "../api_types.ts";
import { EffectChip } from "./effect.tsx";
import { Exact } from "./text.tsx";

const CHANGES: Record<Change, { sign: string; tone: string }> = {
  added: { sign: "+", tone: "good" },
  removed: { sign: "−", tone: "bad" },
  changed: { sign: "±", tone: "warn" },
};

/** The sign of a change, with its word for those who cannot see it. */
export function ChangeSign({ change }: { change: Change }) {
  const { sign, tone } = CHANGES[change];
  return (
    <span class={`change-sign tone-${tone}`} role="img" aria-label={change} title={change}>
      {sign}
    </span>
  );
}

/** What a change comes to, a row for each thing that it adds, takes away or makes another. */
export function Meaning({ rows, testId }: { rows: MeaningRow[]; testId: string }) {
  if (rows.length === 0)
    return (
      <p class="empty" data-testid={testId}>
        no change that has a meaning to the hive: what differs is in the files
      </p>
    );
  return (
    <table class="meaning" data-testid={testId}>
      <caption class="visually-hidden">what the change means</caption>
      <thead>
        <tr>
          <th scope="col">
            <span class="visually-hidden">change</span>
          </th>
          <th scope="col">area</th>
          <th scope="col">what</th>
          <th scope="col">before → after</th>
          <th scope="col">takes effect</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row, index) => (
          <tr key={index} data-change={row.change}>
            <td class="meaning-sign">
              <ChangeSign change={row.change} />
            </td>
            <td class="meaning-area">
              <Exact text={row.area} />
            </td>
            <td class="meaning-subject">{row.subject !== row.area && <Exact text={row.subject} />}</td>
            <td class="meaning-values">
              <Values row={row} />
            </td>
            <td class="meaning-effect">
              <EffectChip effect={row.effect} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Values({ row }: { row: MeaningRow }) {
  // An entry of a list is named by its value: once is enough.
  const only = row.change === "changed" ? "" : row.before || row.after;
  if (only && (row.subject === only || row.subject.endsWith(`: ${only}`))) return null;
  return <BeforeAfter row={row} multiline />;
}

/** What was there and what takes its place, either of which may be nothing. */
export function BeforeAfter({
  row,
  multiline = false,
}: {
  row: Pick<MeaningRow, "change" | "before" | "after">;
  multiline?: boolean;
}) {
  return (
    <>
      {row.before && (
        <del>
          <Exact text={row.before} multiline={multiline} />
        </del>
      )}
      {row.change === "changed" && <span class="arrow">{" → "}</span>}
      {row.after && (
        <ins>
          <Exact text={row.after} multiline={multiline} />
        </ins>
      )}
    </>
  );
}
