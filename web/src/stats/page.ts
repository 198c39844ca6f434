import type { StatsPage } from "../api_types.ts";

/** A figure for each slot; null where it is not known. */
export type Column = readonly (number | null)[];

/** What the hive tells of a span, read so that no chart has to doubt it. */
export interface Stats {
  agent: string;
  stepS: number;
  /** The start of each slot, in seconds since 1970; the last slot is not over. */
  at: readonly number[];
  columns: ReadonlyMap<string, Column>;
  tools: readonly [name: string, calls: number][];
}

export function readPage(page: StatsPage): Stats {
  const columns = new Map<string, Column>();
  for (const [key, values] of Object.entries(page.series))
    if (Array.isArray(values) && values.length === page.at.length) columns.set(key, values.map(readFigure));
  const tools = Object.entries(page.tools).flatMap(([name, calls]): [string, number][] =>
    typeof calls === "number" && Number.isFinite(calls) ? [[name, calls]] : [],
  );
  return { agent: page.agent, stepS: page.step_s, at: page.at, columns, tools };
}

const readFigure = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** What is shown of the whole: from the start of a slot to the end of one, in seconds since 1970. */
export interface Span {
  from: number;
  to: number;
}

export function wholeSpan(stats: Stats): Span {
  const last = stats.at.at(-1) ?? 0;
  return { from: stats.at[0] ?? 0, to: last + stats.stepS };
}

/** The slots of which something is within `span`, as indices [first, past the last]. */
export function findSlots(stats: Stats, span: Span): [first: number, end: number] {
  const first = stats.at.findIndex((at) => at + stats.stepS > span.from);
  const end = stats.at.findIndex((at) => at >= span.to);
  return [first < 0 ? stats.at.length : first, end < 0 ? stats.at.length : end];
}

/** No closer than so many slots: of less there is nothing to see. */
const SLOTS_LEAST = 4;

/** `span` kept within the whole, and wide enough; null when that is the whole. */
export function clampZoom(stats: Stats, span: Span): Span | null {
  const whole = wholeSpan(stats);
  const least = Math.min(SLOTS_LEAST * stats.stepS, whole.to - whole.from);
  const length = Math.min(Math.max(span.to - span.from, least), whole.to - whole.from);
  if (length >= whole.to - whole.from) return null;
  const middle = (span.from + span.to) / 2;
  const from = Math.min(Math.max(middle - length / 2, whole.from), whole.to - length);
  return { from, to: from + length };
}

/** Closer by `factor` (wider below 1) around `centre`, or the middle. */
export function scaleSpan(span: Span, factor: number, centre = (span.from + span.to) / 2): Span {
  return {
    from: centre - (centre - span.from) / factor,
    to: centre + (span.to - centre) / factor,
  };
}

/** Moved by a part of its length: below 0 to what was before. */
export function shiftSpan(span: Span, part: number): Span {
  const by = (span.to - span.from) * part;
  return { from: span.from + by, to: span.to + by };
}
