import { expect, test } from "vitest";
import { planKept, planNewer, planOlder, planTail, WINDOW_ROWS } from "./window.ts";

const rows = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => ({ key: String(from + i) }));

test("never more rows than the window, whichever way one scrolls", () => {
  let span = planTail(5000);
  expect(span).toEqual({ start: 4600, end: 5000 });
  while (span.start > 0) {
    span = planOlder(span);
    expect(span.end - span.start).toBeLessThanOrEqual(WINDOW_ROWS);
  }
  while (span.end < 5000) {
    span = planNewer(span, 5000);
    expect(span.end - span.start).toBeLessThanOrEqual(WINDOW_ROWS);
  }
  expect(span).toEqual(planTail(5000));
});

test("the same rows stay in view when older ones are put before them or newer ones after", () => {
  const before = rows(100, 300);
  const span = { start: 20, end: 120 };
  expect(planKept(span, before, rows(0, 310))).toEqual({ start: 120, end: 220 });
});

test("when the rows in view are gone the end is shown", () => {
  expect(planKept({ start: 0, end: 10 }, rows(0, 10), rows(500, 600))).toEqual({ start: 0, end: 100 });
});
