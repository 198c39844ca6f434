import { renderUsd } from "../amount.ts";
import type { UsageRow } from "../api_types.ts";
import { renderCount, renderSize } from "../text.ts";
import { renderDuration, renderElapsed } from "../time.ts";
import { type ChartSpec, type Drawing, type DrawnLine, digest } from "./charts.ts";
import { type Span, type Stats, wholeSpan } from "./page.ts";

/** A figure as a person reads it. */
export function renderFigure(value: number | null, unit: string): string {
  if (value === null) return "unknown";
  if (unit === "s") return renderSeconds(value);
  if (unit === "USD") return renderUsd(value);
  if (unit === "bytes") return renderSize(Math.round(value));
  if (unit === "tokens") return renderCount(Math.round(value));
  if (Number.isInteger(value)) return renderCount(value);
  return value >= 1000 ? renderCount(Math.round(value)) : String(Number(value.toPrecision(3)));
}

function renderSeconds(value: number): string {
  if (value === 0) return "0s";
  const whole = Math.round(value);
  if (value < 60) return renderElapsed(value * 1000);
  if (whole >= 3600) return renderElapsed(whole * 1000);
  return `${Math.floor(whole / 60)}m ${String(whole % 60).padStart(2, "0")}s`;
}

/** A figure at an axis, where there is little room: without the noughts that say nothing. */
export function renderAxis(value: number, unit: string): string {
  const text = renderFigure(value, unit).replace(/m 00s$/, "m");
  return unit === "USD" ? text : text.replace(/\.0+(?=\D*$)/, "");
}

/** A figure of a chart: rates say that they are. */
export const renderValue = (value: number | null, spec: ChartSpec) =>
  value !== null && spec.kind === "rate" ? `${renderFigure(value, "")}/min` : renderFigure(value, spec.unit);

/** When a slot began, with the day once the span is longer than one. */
export function renderSlot(at: number, stats: Stats): string {
  const date = new Date(at * 1000);
  const { from, to } = wholeSpan(stats);
  const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return to - from > 20 * 3600 ? `${renderDay(date)} ${time}` : time;
}

const renderDay = (date: Date) => date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });

export const renderSpan = (span: Span, stats: Stats) =>
  `${renderSlot(span.from, stats)} – ${renderSlot(span.to, stats)}`;

/** At a place of an axis: the time, or the day where days are what is told apart or one begins. */
export function renderTick(at: number, stepS: number): string {
  const date = new Date(at * 1000);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  if (stepS >= 86_400 || midnight) return renderDay(date);
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

/** The chart in words: what each line comes to, of a few its highest point, and what is not known. */
export function renderSummary(stats: Stats, spec: ChartSpec, drawing: Drawing, span: Span): string {
  const said = drawing.lines.map((line) => describeLine(stats, spec, line, span, drawing.lines.length));
  const unknown = [renderUnpriced(stats, spec, span), renderMissing(stats, spec, drawing, span)];
  return [...said, ...unknown.filter(Boolean)].join(" · ");
}

/** With more lines than this their highest points are left to the table. */
const LINES_IN_FULL = 2;

function describeLine(stats: Stats, spec: ChartSpec, line: DrawnLine, span: Span, lines: number): string {
  const found = digest(stats, line.values, span);
  const name = lines > 1 ? `${line.label} ` : "";
  if (found.most === null) return `${name}unknown`;
  const first = spec.kind === "rate" || spec.kind === "count" ? renderTotal(stats, spec, line, span) : "";
  const latest = first || `last ${renderValue(found.latest, spec)}`;
  if (found.most === 0 || lines > LINES_IN_FULL) return `${name}${latest}`;
  return `${name}${latest}, most ${renderValue(found.most, spec)} at ${renderSlot(found.mostAt, stats)}`;
}

/** What was counted within the span; a chart of rates draws something else than was counted. */
export function renderTotal(stats: Stats, spec: ChartSpec, line: DrawnLine, span: Span): string {
  const counted = stats.columns.get(line.key) ?? line.values;
  const found = digest(stats, spec.kind === "rate" ? counted : line.values, span);
  const text = renderFigure(found.sum, spec.unit);
  // With something that has no price the sum is not all there was.
  return countUnpriced(stats, spec, span) > 0 ? `at least ${text}` : text;
}

const countUnpriced = (stats: Stats, spec: ChartSpec, span: Span) =>
  spec.unit === "USD" ? digest(stats, stats.columns.get("unpriced_requests") ?? [], span).sum : 0;

function renderUnpriced(stats: Stats, spec: ChartSpec, span: Span): string {
  const count = countUnpriced(stats, spec, span);
  return count > 0 ? `unknown price of ${count} request${count === 1 ? "" : "s"}` : "";
}

function renderMissing(stats: Stats, spec: ChartSpec, drawing: Drawing, span: Span): string {
  if (spec.kind === "turn") {
    const gaps = Math.max(...drawing.lines.map((line) => digest(stats, line.values, span).unknown));
    return gaps > 0 ? "gaps where no turn ended" : "";
  }
  const lost = drawing.missing.reduce(
    (sum, gap) => sum + Math.max(0, Math.min(gap.to, span.to) - Math.max(gap.from, span.from)),
    0,
  );
  return lost > 0 ? `no data for ${renderDuration(lost * 1000)}` : "";
}

/** What requests cost, as far as it is known. */
export function renderCost({ cost_usd, unpriced }: Pick<UsageRow, "cost_usd" | "unpriced">): string {
  if (unpriced === 0) return renderUsd(cost_usd);
  return cost_usd > 0 ? `at least ${renderUsd(cost_usd)}` : "unknown";
}
