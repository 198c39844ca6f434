import "../style/stats.css";
import { type Signal, useComputed, useSignal } from "@preact/signals";
import { useMemo, useRef } from "preact/hooks";
import type { StatsPage } from "../api_types.ts";
import { FetchNote } from "../components/fetch_note.tsx";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { now } from "../time.ts";
import { Chart } from "./chart.tsx";
import { CHARTS } from "./charts.ts";
import {
  clampZoom,
  findSlots,
  readPage,
  type Span,
  type Stats,
  scaleSpan,
  shiftSpan,
  wholeSpan,
} from "./page.ts";
import { type DrawPlot, drawPlot } from "./plot.ts";
import { CsvLink, Tools, UsageTables } from "./usage.tsx";
import { renderSpan } from "./words.ts";

interface Range {
  since: string;
  title: string;
  /** How often the newest point is fetched anew while somebody looks. */
  lookMs: number;
  long?: boolean;
}

const RANGES: readonly Range[] = [
  { since: "1h", title: "1 h", lookMs: 5_000 },
  { since: "6h", title: "6 h", lookMs: 10_000 },
  { since: "24h", title: "24 h", lookMs: 20_000 },
  { since: "7d", title: "7 d", lookMs: 60_000, long: true },
  { since: "30d", title: "30 d", lookMs: 60_000, long: true },
];
const FIRST_RANGE = RANGES[1] as Range;

/** The stats of an agent, or of EVERYONE: charts that follow what happens, tables, files. */
export function StatsView({ agent, draw = drawPlot }: { agent: string; draw?: DrawPlot }) {
  const range = useSignal(FIRST_RANGE);
  const zoom = useSignal<Span | null>(null);
  const { page, note } = usePage(agent, range.value);
  const stats = useMemo(() => (page === null ? null : readPage(page)), [page]);
  return (
    <div class="stats" data-testid="stats" data-range={range.value.since}>
      <div class="stats-bar">
        {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for fields */}
        <div class="acts" role="group" aria-label="how far back">
          {RANGES.map((one) => (
            <button
              key={one.since}
              type="button"
              class="act act-quiet"
              aria-pressed={one === range.value}
              data-testid={`range-${one.since}`}
              onClick={() => {
                zoom.value = null;
                range.value = one;
              }}
            >
              {one.title}
            </button>
          ))}
        </div>
        {stats !== null && <ZoomBar stats={stats} zoom={zoom} range={range.value.since} />}
      </div>
      {note}
      {stats !== null && (
        <>
          <Charts stats={stats} zoom={zoom} range={range.value.since} draw={draw} />
          <UsageTables agent={agent} range={range.value.since} long={range.value.long ?? false} />
        </>
      )}
    </div>
  );
}

/** What the hive tells of a range. While another range is fetched, the one before stays to be looked at. */
function usePage(agent: string, range: Range) {
  const { api } = useApp().store;
  const epoch = useComputed(() => Math.floor(now.value / range.lookMs));
  const fetched = useFetched(`stats-${range.since}`, () => api.stats(agent, range.since), epoch);
  const shown = useRef<StatsPage | null>(null);
  if (fetched.value.value !== null) shown.current = fetched.value.value;
  return { page: shown.current, note: <FetchNote fetched={fetched} what="the stats" /> };
}

interface ZoomBarProps {
  stats: Stats;
  zoom: Signal<Span | null>;
  range: string;
}

/** What is shown of the range, closer and wider, and all that is shown as a file. */
function ZoomBar({ stats, zoom, range }: ZoomBarProps) {
  const span = zoom.value ?? wholeSpan(stats);
  const [first, end] = findSlots(stats, span);
  const slots: [number, number] | undefined =
    zoom.value === null ? undefined : [stats.at[first] ?? 0, stats.at[end - 1] ?? 0];
  const show = (wanted: Span | null) => {
    zoom.value = wanted === null ? null : clampZoom(stats, wanted);
  };
  const button = (label: string, sign: string, testId: string, wanted: Span | null, off = false) => (
    <button
      type="button"
      class="act"
      aria-label={label}
      title={label}
      aria-disabled={off}
      data-testid={testId}
      onClick={() => {
        if (!off) show(wanted);
      }}
    >
      {sign}
    </button>
  );
  const whole = zoom.value === null;
  return (
    <>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for fields */}
      <div class="acts" role="group" aria-label="zoom">
        {button("earlier", "←", "earlier", shiftSpan(span, -0.5), whole)}
        {button("closer", "+", "closer", scaleSpan(span, 2))}
        {button("wider", "−", "wider", scaleSpan(span, 0.5), whole)}
        {button("later", "→", "later", shiftSpan(span, 0.5), whole)}
        {button("all: the whole range", "all", "zoom-out", null, whole)}
      </div>
      <span class="dim stats-span" data-testid="span" data-from={span.from} data-to={span.to}>
        {renderSpan(span, stats)}
        {!whole && " (zoomed in)"}
      </span>
      <CsvLink
        agent={stats.agent}
        range={range}
        table="series"
        what="the series that are shown"
        slots={slots}
      />
    </>
  );
}

function Charts({ stats, zoom, range, draw }: ZoomBarProps & { draw: DrawPlot }) {
  const whole = zoom.value === null;
  const span = useMemo(() => zoom.value ?? wholeSpan(stats), [stats, zoom.value]);
  return (
    <>
      <p class="rule">
        mark a part of a chart to look closer, click twice to come back
        {whole ? "" : "; new points come in all the same"}. hatched: nobody looked, as the hive or the agent
        was not running, or nothing was known yet
      </p>
      <div class="charts">
        {CHARTS.map((spec) => (
          <Chart
            key={spec.id}
            stats={stats}
            spec={spec}
            span={span}
            draw={draw}
            onZoom={(wanted) => {
              zoom.value = wanted === null ? null : clampZoom(stats, wanted);
            }}
          />
        ))}
        <Tools stats={stats} range={range} />
      </div>
    </>
  );
}
