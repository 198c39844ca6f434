import { expect, test } from "vitest";
import type { DiffLine, LineKind } from "./api_types.ts";
import { clipHunks, countLines, pairLines } from "./diff.ts";
import { createFileDiff } from "./testing/stand_in.tsx";

const line = (kind: LineKind, text: string): DiffLine => ({ kind, old: null, new: null, text });
const words = (lines: DiffLine[]) =>
  pairLines(lines).map(({ left, right }) => `${left?.text ?? ""}|${right?.text ?? ""}`);

test("removed lines stand beside the added ones that follow them", () => {
  const lines = [
    line("context", "a"),
    line("removed", "b"),
    line("removed", "c"),
    line("added", "B"),
    line("context", "d"),
    line("added", "e"),
  ];
  expect(words(lines)).toEqual(["a|a", "b|B", "c|", "d|d", "|e"]);
});

test("what is removed after something was added is another change", () => {
  expect(words([line("added", "x"), line("removed", "y"), line("added", "z")])).toEqual(["|x", "y|z"]);
  expect(pairLines([])).toEqual([]);
});

test("no line is lost or shown twice, whatever the order", () => {
  const kinds: LineKind[] = ["context", "added", "removed"];
  for (let seed = 0; seed < 3 ** 6; seed += 1) {
    const lines = Array.from({ length: 6 }, (_, i) =>
      line(kinds[Math.floor(seed / 3 ** i) % 3] ?? "context", `${i}`),
    );
    const pairs = pairLines(lines);
    const left = pairs.flatMap((pair) => pair.left?.text ?? []);
    const right = pairs.flatMap((pair) => pair.right?.text ?? []);
    expect(left).toEqual(lines.filter((one) => one.kind !== "added").map((one) => one.text));
    expect(right).toEqual(lines.filter((one) => one.kind !== "removed").map((one) => one.text));
  }
});

test("a long file is clipped within a hunk, and what is left out is counted", () => {
  const hunk = (count: number) => ({
    header: "@@",
    lines: Array.from({ length: count }, (_, i) => line("added", `${i}`)),
  });
  const file = createFileDiff("x", { hunks: [hunk(3), hunk(4), hunk(5)] });
  expect(countLines(file)).toBe(12);
  const { hunks, left } = clipHunks(file, 5);
  expect(hunks.map((one) => one.lines.length)).toEqual([3, 2]);
  expect(left).toBe(7);
  expect(clipHunks(file, Number.POSITIVE_INFINITY)).toEqual({ hunks: file.hunks, left: 0 });
});
