import { useComputed } from "@preact/signals";
import type { StatsUsage, UsageRow } from "../api_types.ts";
import { FetchNote } from "../components/fetch_note.tsx";
import { Fold } from "../components/fold.tsx";
import { Inline } from "../components/text.tsx";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { EVERYONE } from "../store.ts";
import { renderCount } from "../text.ts";
import { now } from "../time.ts";
import type { Stats } from "./page.ts";
import { renderCost } from "./words.ts";

/** The tables of a month are read from all its requests: looked at again more seldom than a chart. */
const LOOK_MS = 60_000;
const LONG_LOOK_MS = 300_000;
const TOOLS_SHOWN = 12;

type Table = "agents" | "days" | "models";

/** Tokens and cost by agent, by day and by model. */
export function UsageTables({ agent, range, long }: { agent: string; range: string; long: boolean }) {
  const { api } = useApp().store;
  const epoch = useComputed(() => Math.floor(now.value / (long ? LONG_LOOK_MS : LOOK_MS)));
  const fetched = useFetched(`usage-${agent}-${range}`, () => api.usage(agent, range), epoch);
  const usage = fetched.value.value;
  return (
    <div class="usage" data-testid="usage">
      <FetchNote fetched={fetched} what="tokens and cost" />
      {usage !== null && (
        <>
          {agent === EVERYONE && <UsageTable usage={usage} table="agents" title="by agent" range={range} />}
          <UsageTable usage={usage} table="models" title="by model" range={range} />
          <UsageTable usage={usage} table="days" title="by day, in UTC" range={range} />
        </>
      )}
    </div>
  );
}

interface UsageTableProps {
  usage: StatsUsage;
  table: Table;
  title: string;
  range: string;
}

function UsageTable({ usage, table, title, range }: UsageTableProps) {
  const rows = usage[table];
  const heading = `tokens and cost ${title}`;
  return (
    <div class="usage-table" data-testid={`usage-${table}`}>
      <div class="usage-head">
        <h3>{heading}</h3>
        <CsvLink agent={usage.agent} range={range} table={table} what={heading} />
      </div>
      {rows.length === 0 ? (
        <p class="empty">no request to the model service in that time</p>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is to be scrolled by keyboard
        // biome-ignore lint/a11y/useSemanticElements: a section of its own would be one more heading to pass
        <div class="slots" tabIndex={0} role="group" aria-label={heading}>
          <table class="figures">
            <thead>
              <tr>
                <th scope="col">{table.slice(0, -1)}</th>
                {[
                  "requests",
                  "failed",
                  "tokens",
                  "input",
                  "output",
                  "cache writes",
                  "cache reads",
                  "cost",
                ].map((name) => (
                  <th key={name} scope="col">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <Row key={row.name} row={row} />
              ))}
            </tbody>
            {rows.length > 1 && (
              <tfoot>
                <Row row={usage.total} />
              </tfoot>
            )}
          </table>
        </div>
      )}
    </div>
  );
}

function Row({ row }: { row: UsageRow }) {
  const tokens = [row.work_tokens, row.input_tokens, row.output_tokens, row.cache_write_tokens];
  return (
    <tr>
      <th scope="row">
        <Inline text={row.name} />
      </th>
      <td>{renderCount(row.requests)}</td>
      <td>{renderCount(row.failures)}</td>
      {[...tokens, row.cache_read_tokens].map((count, index) => (
        <td key={index}>{renderCount(count)}</td>
      ))}
      <td>{renderCost(row)}</td>
    </tr>
  );
}

/** How often each tool was called, the most called first. */
export function Tools({ stats, range }: { stats: Stats; range: string }) {
  const most = stats.tools[0]?.[1] ?? 1;
  const bar = ([name, calls]: readonly [string, number]) => (
    <li key={name}>
      <span class="tool-name">
        <Inline text={name} />
      </span>
      <progress max={most} value={calls} aria-hidden="true" />
      <span class="tool-calls">{renderCount(calls)}</span>
    </li>
  );
  const rest = stats.tools.slice(TOOLS_SHOWN);
  return (
    <div class="chart" data-testid="tools">
      <div class="usage-head">
        <h3>tool calls</h3>
        <CsvLink agent={stats.agent} range={range} table="tools" what="tool calls" />
      </div>
      {stats.tools.length === 0 && <p class="empty">no tool was called</p>}
      <ul class="tools">{stats.tools.slice(0, TOOLS_SHOWN).map(bar)}</ul>
      {rest.length > 0 && (
        <Fold summary={<span class="dim">{rest.length} more</span>}>
          <ul class="tools">{rest.map(bar)}</ul>
        </Fold>
      )}
    </div>
  );
}

interface CsvLinkProps {
  agent: string;
  range: string;
  table: string;
  what: string;
  /** The first and the last slot, in seconds since 1970. */
  slots?: [first: number, last: number] | undefined;
}

export function CsvLink({ agent, range, table, what, slots }: CsvLinkProps) {
  const query = new URLSearchParams({ agent, since: range, table });
  if (slots) {
    query.set("first", String(slots[0]));
    query.set("last", String(slots[1]));
  }
  return (
    <a
      class="csv"
      href={`/api/stats.csv?${query}`}
      download=""
      aria-label={`${what} as CSV`}
      data-testid={`csv-${table}`}
    >
      csv
    </a>
  );
}
