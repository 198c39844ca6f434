import { type Column, findSlots, type Span, type Stats } from "./page.ts";

/**
 * `rate`: counts, shown by the minute. `count`: counts of a slot. `level`: what was seen, not known where nobody
 * looked. `turn`: of the turns that ended in a slot, not known where none did.
 */
export type Kind = "rate" | "count" | "level" | "turn";

export interface Line {
  key: string;
  label: string;
}

export interface ChartSpec {
  id: string;
  title: string;
  kind: Kind;
  unit: string;
  lines: readonly Line[];
}

const lines = (...pairs: [key: string, label: string][]): Line[] =>
  pairs.map(([key, label]) => ({ key, label }));
const each = (prefix: string, ...names: string[]): Line[] =>
  names.map((name) => ({ key: `${prefix}.${name}`, label: name.replaceAll("_", " ") }));

/** In the order in which they are shown. One that has no series in what the hive tells is left out. */
export const CHARTS: readonly ChartSpec[] = [
  {
    id: "turns",
    title: "turns per minute",
    kind: "rate",
    unit: "turns",
    lines: lines(["turns", "turns"], ["upkeep_turns", "upkeep"]),
  },
  {
    id: "duration",
    title: "turn duration",
    kind: "turn",
    unit: "s",
    lines: lines(["turn_p50_s", "p50"], ["turn_p95_s", "p95"]),
  },
  {
    id: "tool-calls",
    title: "tool calls per turn",
    kind: "turn",
    unit: "calls/turn",
    lines: lines(["tools_per_turn", "calls per turn"]),
  },
  {
    id: "outcomes",
    title: "outcomes of turns",
    kind: "count",
    unit: "turns",
    lines: each(
      "outcome",
      "ok",
      "compact_retry",
      "cancelled",
      "api_error",
      "limit",
      "login",
      "crash",
      "timeout",
      "other",
    ),
  },
  {
    id: "inbox",
    title: "inbox depth",
    kind: "level",
    unit: "messages",
    lines: lines(["inbox", "waiting"], ["inbox_max", "most waiting"]),
  },
  {
    id: "idle",
    title: "time since the last turn",
    kind: "level",
    unit: "s",
    lines: lines(["idle_s", "since the last turn"]),
  },
  {
    id: "received",
    title: "messages in, by sender",
    kind: "count",
    unit: "messages",
    lines: each("in", "operator", "manager", "peer", "system"),
  },
  {
    id: "sent",
    title: "messages out, by recipient",
    kind: "count",
    unit: "messages",
    lines: [...each("out", "operator", "manager", "peer"), { key: "handled", label: "handled" }],
  },
  {
    id: "waiting",
    title: "waiting for the operator",
    kind: "level",
    unit: "",
    lines: lines(
      ["approvals", "approvals"],
      ["questions", "questions"],
      ["operator_inbox", "unread messages"],
    ),
  },
  {
    id: "agents",
    title: "agents",
    kind: "level",
    unit: "agents",
    lines: lines(["agents_online", "connected"], ["agents_active", "in a turn"]),
  },
  {
    id: "tokens",
    title: "tokens",
    kind: "count",
    unit: "tokens",
    lines: lines(
      ["work_tokens", "counted against budgets"],
      ["input_tokens", "input"],
      ["output_tokens", "output"],
      ["cache_write_tokens", "cache writes"],
      ["cache_read_tokens", "cache reads"],
    ),
  },
  { id: "cost", title: "cost", kind: "count", unit: "USD", lines: lines(["cost_usd", "cost"]) },
  {
    id: "requests",
    title: "model requests",
    kind: "count",
    unit: "requests",
    lines: lines(
      ["model_requests", "requests"],
      ["model_failures", "failed"],
      ["unpriced_requests", "without a price"],
    ),
  },
  {
    id: "context",
    title: "context",
    kind: "level",
    unit: "tokens",
    lines: lines(["context_tokens", "context"]),
  },
  {
    id: "notes",
    title: "size of the notes",
    kind: "level",
    unit: "bytes",
    lines: lines(["notes_bytes", "notes"]),
  },
];

export interface DrawnLine extends Line {
  /** Which look it has: the place in the chart's own list, so that it never changes. */
  look: number;
  values: Column;
}

export interface Drawing {
  lines: DrawnLine[];
  /** Where nothing is known of any line, though something could have been. */
  missing: Span[];
}

/** The lines of a chart as they are drawn. Null: what was told has none of them. */
export function makeDrawing(stats: Stats, spec: ChartSpec, nowS: number): Drawing | null {
  const there = spec.lines.flatMap((line, look): DrawnLine[] => {
    const column = stats.columns.get(line.key);
    return column ? [{ ...line, look, values: makeValues(stats, spec, line.key, column, nowS) }] : [];
  });
  if (there.length === 0) return null;
  // A line of nothing but zeros is one more to tell apart; one is left, so that a chart of nothing says 0.
  const drawn = there.filter((line, index) => index === 0 || line.values.some((value) => value));
  return { lines: drawn, missing: spec.kind === "turn" ? [] : findMissing(stats, drawn) };
}

function makeValues(stats: Stats, spec: ChartSpec, key: string, column: Column, nowS: number): Column {
  if (spec.kind === "level" || spec.kind === "turn") return column;
  const counted = dropUnseen(stats, column);
  if (spec.kind === "rate") return makeRates(stats, counted, nowS);
  const unpriced = key === "cost_usd" ? stats.columns.get("unpriced_requests") : undefined;
  // What has no price at all did not cost nothing.
  return unpriced ? counted.map((value, slot) => (value === 0 && unpriced[slot] ? null : value)) : counted;
}

/** Counts without those that are 0 because nobody was there to count: what is looked at each minute tells. */
function dropUnseen(stats: Stats, column: Column): Column {
  const seen = stats.columns.get("agents_online") ?? stats.columns.get("inbox");
  return seen ? column.map((value, slot) => (value === 0 && seen[slot] === null ? null : value)) : column;
}

function makeRates(stats: Stats, column: Column, nowS: number): Column {
  const last = column.length - 1;
  return column.map((value, slot) => {
    if (value === null) return null;
    // The last slot is not over: less than a minute of it tells no rate.
    const begun =
      slot === last ? Math.min(Math.max(nowS - (stats.at[slot] ?? 0), 60), stats.stepS) : stats.stepS;
    return value / (begun / 60);
  });
}

function findMissing(stats: Stats, drawn: readonly DrawnLine[]): Span[] {
  const spans: Span[] = [];
  for (const [slot, at] of stats.at.entries()) {
    if (drawn.some((line) => line.values[slot] !== null)) continue;
    const before = spans.at(-1);
    if (before?.to === at) before.to = at + stats.stepS;
    else spans.push({ from: at, to: at + stats.stepS });
  }
  return spans;
}

/** Points with nothing known beside them: a line through them cannot be seen. */
export function findLonely(values: Column): number[] {
  return values.flatMap((value, slot) =>
    value !== null && (values[slot - 1] ?? null) === null && (values[slot + 1] ?? null) === null
      ? [slot]
      : [],
  );
}

/** What a line comes to within what is shown. */
export interface Digest {
  sum: number;
  latest: number | null;
  most: number | null;
  mostAt: number;
  unknown: number;
}

export function digest(stats: Stats, values: Column, span: Span): Digest {
  const [first, end] = findSlots(stats, span);
  const found: Digest = { sum: 0, latest: null, most: null, mostAt: 0, unknown: 0 };
  for (let slot = first; slot < end; slot += 1) {
    const value = values[slot] ?? null;
    if (value === null) {
      found.unknown += 1;
      continue;
    }
    found.sum += value;
    found.latest = value;
    if (found.most === null || value > found.most) {
      found.most = value;
      found.mostAt = stats.at[slot] ?? 0;
    }
  }
  return found;
}
