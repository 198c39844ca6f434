import { expect, test } from "vitest";
import { CHARTS, type ChartSpec, digest, findLonely, makeDrawing } from "./charts.ts";
import { clampZoom, findSlots, readPage, type Stats, scaleSpan, shiftSpan, wholeSpan } from "./page.ts";

const MINUTE = 60;

function makeStats(series: Record<string, unknown>, stepS = MINUTE): Stats {
  const length = Math.max(...Object.values(series).map((values) => (values as unknown[]).length));
  const at = Array.from({ length }, (_, slot) => slot * stepS);
  const rest = { totals: {}, units: {}, tools: {} };
  return readPage({ agent: "*", from: "1970-01-01T00:00:00Z", step_s: stepS, at, series, ...rest });
}

function find(id: string): ChartSpec {
  const spec = CHARTS.find((one) => one.id === id);
  if (!spec) throw new Error(id);
  return spec;
}

function draw(id: string, stats: Stats, nowS = 1e9) {
  const drawing = makeDrawing(stats, find(id), nowS);
  if (!drawing) throw new Error(`nothing of ${id}`);
  return drawing;
}

test("a page is read so that only figures and nulls are left, and columns of another length are not", () => {
  const stats = readPage({
    agent: "alice",
    from: "1970-01-01T00:00:00Z",
    step_s: 60,
    at: [0, 60],
    series: { turns: [1, "2"], inbox: [Number.NaN, null], idle_s: [1], cost_usd: "x" },
    totals: {},
    units: {},
    tools: { Bash: 3, Read: null },
  });
  expect([...stats.columns]).toEqual([
    ["turns", [1, null]],
    ["inbox", [null, null]],
  ]);
  expect(stats.tools).toEqual([["Bash", 3]]);
});

test("turns are shown by the minute, the slot that is not over by what is over of it", () => {
  const stats = makeStats({ turns: [10, 0, 4] }, 300);
  expect(draw("turns", stats, 600 + 120).lines[0]?.values).toEqual([2, 0, 2]);
  expect(draw("turns", stats, 600 + 5).lines[0]?.values.at(-1)).toBe(4);
  expect(draw("turns", stats, 600 + 9999).lines[0]?.values.at(-1)).toBe(0.8);
});

test("lines of nothing but zeros are left out, and one stays", () => {
  const zero = [0, 0];
  const stats = makeStats({ "outcome.ok": zero, "outcome.crash": [0, 1], "outcome.limit": zero });
  const { lines } = draw("outcomes", stats);
  expect(lines.map(({ key, look }) => [key, look])).toEqual([
    ["outcome.ok", 0],
    ["outcome.crash", 6],
  ]);
});

test("a chart of which the hive tells nothing is left out", () => {
  expect(makeDrawing(makeStats({ turns: [1] }), find("notes"), 0)).toBeNull();
});

test("what nobody saw is a gap, as long as it was, and zero is none", () => {
  const stats = makeStats({ inbox: [0, null, null, 3, null], inbox_max: [0, null, null, 3, null] });
  expect(draw("inbox", stats).missing).toEqual([
    { from: 60, to: 180 },
    { from: 240, to: 300 },
  ]);
});

test("what one line knows is no gap", () => {
  expect(draw("inbox", makeStats({ inbox: [null, 1], inbox_max: [2, 2] })).missing).toEqual([]);
});

test("a minute without turns has no duration, and is not said to be missing", () => {
  const drawing = draw("duration", makeStats({ turn_p50_s: [3, null], turn_p95_s: [9, null] }));
  expect(drawing.missing).toEqual([]);
});

test("what has no price did not cost nothing", () => {
  const stats = makeStats({ cost_usd: [0, 0, 0.5], unpriced_requests: [2, 0, 1] });
  const { lines, missing } = draw("cost", stats);
  expect(lines[0]?.values).toEqual([null, 0, 0.5]);
  expect(missing).toEqual([{ from: 0, to: 60 }]);
});

test("a count is not zero while nobody was there to count", () => {
  const drawing = draw("turns", makeStats({ turns: [0, 0, 2, 0], inbox: [0, null, null, 1] }));
  expect(drawing.lines[0]?.values).toEqual([0, null, 2, 0]);
  expect(drawing.missing).toEqual([{ from: 60, to: 120 }]);
});

test("points that no line goes through are found", () => {
  expect(findLonely([1, null, 2, 3, null, 4])).toEqual([0, 5]);
  expect(findLonely([null, null])).toEqual([]);
  expect(findLonely([7])).toEqual([0]);
});

test("a digest is of what is shown alone", () => {
  const stats = makeStats({ inbox: [9, 1, null, 2, 8] });
  expect(digest(stats, stats.columns.get("inbox") ?? [], { from: 60, to: 240 })).toEqual({
    sum: 3,
    latest: 2,
    most: 2,
    mostAt: 180,
    unknown: 1,
  });
});

test("the slots of a span are those of which something is shown", () => {
  const stats = makeStats({ turns: [0, 0, 0, 0, 0] });
  expect(findSlots(stats, wholeSpan(stats))).toEqual([0, 5]);
  expect(findSlots(stats, { from: 61, to: 179 })).toEqual([1, 3]);
  expect(findSlots(stats, { from: 9999, to: 10_000 })).toEqual([5, 5]);
});

test("a zoom stays within the range, is never too close, and ends where all is shown", () => {
  const stats = makeStats({ turns: Array(100).fill(0) });
  expect(clampZoom(stats, { from: 600, to: 1200 })).toEqual({ from: 600, to: 1200 });
  expect(clampZoom(stats, { from: 600, to: 601 })).toEqual({ from: 480.5, to: 720.5 });
  expect(clampZoom(stats, { from: -600, to: 0 })).toEqual({ from: 0, to: 600 });
  expect(clampZoom(stats, { from: 5900, to: 6500 })).toEqual({ from: 5400, to: 6000 });
  expect(clampZoom(stats, { from: -1, to: 7000 })).toBeNull();
});

test("a span is made closer around a point, and moved", () => {
  expect(scaleSpan({ from: 0, to: 100 }, 2)).toEqual({ from: 25, to: 75 });
  expect(scaleSpan({ from: 0, to: 100 }, 2, 0)).toEqual({ from: 0, to: 50 });
  expect(scaleSpan({ from: 25, to: 75 }, 0.5)).toEqual({ from: 0, to: 100 });
  expect(shiftSpan({ from: 0, to: 100 }, -0.5)).toEqual({ from: -50, to: 50 });
});
