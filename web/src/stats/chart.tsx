import { type ReadonlySignal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { Fold } from "../components/fold.tsx";
import { type ChartSpec, type Drawing, type DrawnLine, digest, makeDrawing } from "./charts.ts";
import { findSlots, type Span, type Stats, scaleSpan, shiftSpan } from "./page.ts";
import { type DrawPlot, lookColor, lookDash, type Plot } from "./plot.ts";
import { renderAxis, renderSlot, renderSummary, renderTotal, renderValue } from "./words.ts";

/** Steps of time that people know. */
const SECONDS = [
  0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200,
  86_400, 172_800, 604_800, 2_419_200,
];

interface ChartProps {
  stats: Stats;
  spec: ChartSpec;
  span: Span;
  onZoom: (span: Span | null) => void;
  draw: DrawPlot;
}

/** One chart: the picture, what is pointed at, the same in words, and as a table behind a fold. */
export function Chart({ stats, spec, span, onZoom, draw }: ChartProps) {
  const drawing = useMemo(() => makeDrawing(stats, spec, Date.now() / 1000), [stats, spec]);
  const pointed = useSignal<number | null>(null);
  if (drawing === null) return null;
  const summary = renderSummary(stats, spec, drawing, span);
  return (
    <figure class="chart" aria-label={spec.title} data-testid={`chart-${spec.id}`}>
      <figcaption>
        <h3>{spec.title}</h3>
        <p class="dim" data-testid="chart-summary">
          {summary}
        </p>
      </figcaption>
      <Picture {...{ stats, spec, span, onZoom, draw, drawing, pointed, summary }} />
      <Legend stats={stats} spec={spec} drawing={drawing} span={span} pointed={pointed} />
      <Fold summary={<span class="dim">as a table</span>} testId="chart-table">
        <SlotTable stats={stats} spec={spec} drawing={drawing} span={span} />
      </Fold>
    </figure>
  );
}

interface PictureProps extends ChartProps {
  drawing: Drawing;
  pointed: { value: number | null };
  summary: string;
}

function Picture({ stats, spec, span, onZoom, draw, drawing, pointed, summary }: PictureProps) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const told = useSignal("");
  // What a plot made for other lines calls must be of now, not of then.
  const latest = useRef({ spec, onZoom });
  latest.current = { spec, onZoom };
  // Other lines need another plot, other figures do not.
  const shape = drawing.lines.map((line) => line.key).join(" ");

  useEffect(() => {
    if (box.current === null) return;
    const made = draw(box.current, {
      stats,
      drawing,
      span,
      steps: spec.kind === "rate" || spec.kind === "count",
      ...(spec.unit === "s" ? { axisSteps: SECONDS } : {}),
      renderAxis: (value) => renderAxis(value, latest.current.spec.unit),
      onPoint: (slot) => {
        pointed.value = slot;
      },
      onZoom: (marked) => latest.current.onZoom(marked),
    });
    plot.current = made;
    return () => {
      plot.current = null;
      made.close();
    };
  }, [shape, draw]);
  useEffect(() => plot.current?.update(stats, drawing, span), [stats, drawing, span]);

  function onKeyDown(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const act = decideKey(event.key, event.shiftKey, stats, span, pointed.value);
    if (act === null) return;
    event.preventDefault();
    if (act.zoom !== undefined) onZoom(act.zoom);
    if (act.slot === undefined) return;
    plot.current?.point(act.slot);
    pointed.value = act.slot;
    told.value = renderSlotWords(stats, spec, drawing, act.slot);
  }

  return (
    <>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for fields */}
      <div
        class="plot"
        ref={box}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is read point by point, and zoomed, by keyboard
        tabIndex={0}
        role="group"
        aria-label={`${spec.title}: ${summary}. Arrows point, plus and minus zoom, escape shows all.`}
        data-testid="plot"
        onKeyDown={onKeyDown}
      />
      <p role="status" class="visually-hidden" data-testid="plot-status">
        {told.value}
      </p>
    </>
  );
}

interface KeyAct {
  slot?: number;
  zoom?: Span | null;
}

/** What a key does on a chart: points at a slot, or shows another span. Null: nothing. */
export function decideKey(
  key: string,
  shift: boolean,
  stats: Stats,
  span: Span,
  pointed: number | null,
): KeyAct | null {
  const [first, end] = findSlots(stats, span);
  const centre = pointed === null ? undefined : stats.at[pointed];
  const within = (slot: number) => ({ slot: Math.min(Math.max(slot, first), end - 1) });
  switch (key) {
    case "ArrowLeft":
      return shift ? { zoom: shiftSpan(span, -0.25) } : within((pointed ?? end) - 1);
    case "ArrowRight":
      return shift ? { zoom: shiftSpan(span, 0.25) } : within((pointed ?? first - 1) + 1);
    case "Home":
      return within(first);
    case "End":
      return within(end - 1);
    case "+":
    case "=":
      return { zoom: scaleSpan(span, 2, centre) };
    case "-":
      return { zoom: scaleSpan(span, 0.5, centre) };
    case "Escape":
      return { zoom: null };
    default:
      return null;
  }
}

function renderSlotWords(stats: Stats, spec: ChartSpec, drawing: Drawing, slot: number): string {
  const values = drawing.lines.map((line) => `${line.label} ${renderValue(line.values[slot] ?? null, spec)}`);
  return `${renderSlot(stats.at[slot] ?? 0, stats)}: ${values.join(", ")}`;
}

interface LegendProps {
  stats: Stats;
  spec: ChartSpec;
  drawing: Drawing;
  span: Span;
  pointed: ReadonlySignal<number | null>;
}

/** What each line is, with its figure where the mouse points, or else of all that is shown. */
function Legend({ stats, spec, drawing, span, pointed }: LegendProps) {
  const slot = pointed.value;
  const at = slot === null ? undefined : stats.at[slot];
  return (
    <ul class="legend" data-testid="legend">
      {drawing.lines.map((line) => (
        <li key={line.key}>
          <Swatch look={line.look} />
          {line.label}{" "}
          <strong data-testid={`value-${line.key}`}>
            {at === undefined
              ? renderWhole(stats, spec, line, span)
              : renderValue(line.values[slot ?? 0] ?? null, spec)}
          </strong>
        </li>
      ))}
      <li class="dim legend-at">{at === undefined ? "" : renderSlot(at, stats)}</li>
    </ul>
  );
}

function renderWhole(stats: Stats, spec: ChartSpec, line: DrawnLine, span: Span): string {
  if (spec.kind === "rate" || spec.kind === "count") return renderTotal(stats, spec, line, span);
  return renderValue(digest(stats, line.values, span).latest, spec);
}

const Swatch = ({ look }: { look: number }) => (
  <svg class={`swatch swatch${lookColor(look).slice(1)}`} viewBox="0 0 26 4" aria-hidden="true">
    <line x1="0" y1="2" x2="26" y2="2" stroke-dasharray={lookDash(look).join(" ")} />
  </svg>
);

/** The slots that are shown, the newest first. */
function SlotTable({ stats, spec, drawing, span }: Omit<LegendProps, "pointed">) {
  const [first, end] = findSlots(stats, span);
  const slots = Array.from({ length: end - first }, (_, index) => end - 1 - index);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is to be scrolled by keyboard
    // biome-ignore lint/a11y/useSemanticElements: a section of its own would be one more heading to pass
    <div class="slots" tabIndex={0} role="group" aria-label={`${spec.title}, as a table`}>
      <table class="figures">
        <thead>
          <tr>
            <th scope="col">from</th>
            {drawing.lines.map((line) => (
              <th key={line.key} scope="col">
                {line.label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {slots.map((slot) => (
            <tr key={stats.at[slot]}>
              <th scope="row">{renderSlot(stats.at[slot] ?? 0, stats)}</th>
              {drawing.lines.map((line) => (
                <td key={line.key}>{renderValue(line.values[slot] ?? null, spec)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
