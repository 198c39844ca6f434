import { expect, test } from "vitest";
import { CHARTS, makeDrawing } from "./charts.ts";
import { readPage, wholeSpan } from "./page.ts";
import { renderAxis, renderCost, renderFigure, renderSummary } from "./words.ts";

function summarise(id: string, series: Record<string, unknown>, stepS = 60): string {
  const spec = CHARTS.find((one) => one.id === id);
  if (!spec) throw new Error(id);
  const length = Math.max(...Object.values(series).map((values) => (values as unknown[]).length));
  const at = Array.from({ length }, (_, slot) => slot * stepS);
  const stats = readPage({
    agent: "*",
    from: "1970-01-01T00:00:00Z",
    step_s: stepS,
    at,
    series,
    totals: {},
    units: {},
    tools: {},
  });
  const drawing = makeDrawing(stats, spec, 1e9);
  if (!drawing) throw new Error("nothing");
  return renderSummary(stats, spec, drawing, wholeSpan(stats));
}

test.each([
  [null, "s", "unknown"],
  [0, "s", "0s"],
  [0.25, "s", "250 ms"],
  [41.2, "s", "41.2s"],
  [65, "s", "1m 05s"],
  [3599.9, "s", "1h 00m"],
  [7500, "s", "2h 05m"],
  [0, "USD", "$0.00"],
  [0.0012, "USD", "$0.0012"],
  [2048, "bytes", "2.0 KiB"],
  [12_400, "tokens", "12k"],
  [0.3333, "calls/turn", "0.333"],
  [3, "turns", "3"],
])("%s %s reads %s", (value, unit, text) => {
  expect(renderFigure(value, unit)).toBe(text);
});

test("a chart of counts tells how much there was, and where most of it", () => {
  const text = summarise("turns", { turns: [0, 3, 1], upkeep_turns: [0, 0, 0] });
  expect(text).toMatch(/^4, most 3\/min at \d\d:\d\d$/);
});

test("a level tells the last, the most, and for how long nobody knows", () => {
  const text = summarise("inbox", { inbox: [2, null, null, 1], inbox_max: [5, null, null, 1] });
  expect(text).toMatch(
    /^waiting last 1, most 2 at \d\d:\d\d · most waiting last 1, most 5 at \d\d:\d\d · no data for 2m$/,
  );
});

test("a level that nobody knows at all is unknown and not nothing", () => {
  expect(summarise("notes", { notes_bytes: [null, null] })).toBe("unknown · no data for 2m");
});

test("a cost of which a part is not known is at least what is known", () => {
  expect(summarise("cost", { cost_usd: [1, 0], unpriced_requests: [0, 2] })).toMatch(
    /^at least \$1\.00, most \$1\.00 at \d\d:\d\d · unknown price of 2 requests · no data for 1m$/,
  );
});

test("durations say why there are gaps", () => {
  expect(summarise("duration", { turn_p50_s: [3, null], turn_p95_s: [9, null] })).toContain(
    "gaps where no turn ended",
  );
});

test("what requests cost is said as far as it is known", () => {
  expect(renderCost({ cost_usd: 2, unpriced: 0 })).toBe("$2.00");
  expect(renderCost({ cost_usd: 2, unpriced: 1 })).toBe("at least $2.00");
  expect(renderCost({ cost_usd: 0, unpriced: 1 })).toBe("unknown");
  expect(renderCost({ cost_usd: 0, unpriced: 0 })).toBe("$0.00");
});

test.each([
  [50, "s", "50s"],
  [120, "s", "2m"],
  [10_000_000, "tokens", "10M"],
  [7.5, "USD", "$7.50"],
  [1024, "bytes", "1 KiB"],
  [0.05, "turns", "0.05"],
])("%s %s at an axis reads %s", (value, unit, text) => {
  expect(renderAxis(value, unit)).toBe(text);
});
