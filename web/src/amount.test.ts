import { expect, test } from "vitest";
import { parseTokens, parseUsd, partOf, renderSpent } from "./amount.ts";

test.each([
  ["500000", 500_000],
  ["500k", 500_000],
  [" 1.5M ", 1_500_000],
  ["2 g", 2_000_000_000],
])("%s are tokens", (typed, amount) => expect(parseTokens(typed)).toEqual({ state: "amount", amount }));

test.each(["0", "-5", "1e9", "k", "1.2.3", "9999g", "NaN", "0.0000001", "１"])("%s are no tokens", (typed) =>
  expect(parseTokens(typed)).toEqual({ state: "wrong" }),
);

test("money may have a sign, and must be some", () => {
  expect(parseUsd("$2.50")).toEqual({ state: "amount", amount: 2.5 });
  expect(parseUsd("")).toEqual({ state: "empty" });
  expect(parseUsd("0")).toEqual({ state: "wrong" });
  expect(parseUsd("1000001")).toEqual({ state: "wrong" });
});

test("only what is spent whole is a hundred percent, and more than that is shown", () => {
  expect(partOf(9_999, 10_000)).toBe(99);
  expect(partOf(10_000, 10_000)).toBe(100);
  expect(partOf(15_000, 10_000)).toBe(150);
  expect(partOf(1, 0)).toBe(100);
  expect(partOf(1, null)).toBeNull();
});

test("money that is not known is not shown as if it was", () => {
  expect(renderSpent(1_200_000, 3.1, false)).toBe("1.2M tokens · $3.10");
  expect(renderSpent(1_200, 0, true)).toBe("1.2k tokens · money unknown");
  expect(renderSpent(1_200, 2, true)).toBe("1.2k tokens · at least $2.00, the rest unknown");
});
