import { renderCount } from "./text.ts";

/** What somebody typed as an amount: nothing, a number above zero, or `wrong`. */
export type Typed = { state: "empty" } | { state: "wrong" } | { state: "amount"; amount: number };

const UNITS: Record<string, number> = { "": 1, k: 1e3, m: 1e6, g: 1e9 };
const TOKENS_LIMIT = 1e12;
const USD_LIMIT = 1e6;

/** A count of tokens such as `500000`, `500k` or `1.5M`. */
export function parseTokens(typed: string): Typed {
  if (typed.trim() === "") return { state: "empty" };
  const [, digits = "", unit = ""] = /^\s*(\d{1,15}(?:\.\d{1,6})?)\s*([kmg]?)\s*$/i.exec(typed) ?? [];
  return check(Math.round(Number(digits || Number.NaN) * (UNITS[unit.toLowerCase()] ?? 1)), TOKENS_LIMIT);
}

/** An amount of money such as `5`, `$2.50`. */
export function parseUsd(typed: string): Typed {
  if (typed.trim() === "") return { state: "empty" };
  const [, digits = ""] = /^\s*\$?\s*(\d{1,9}(?:\.\d{1,6})?)\s*$/.exec(typed) ?? [];
  return check(Number(digits || Number.NaN), USD_LIMIT);
}

function check(amount: number, limit: number): Typed {
  return amount > 0 && amount <= limit ? { state: "amount", amount } : { state: "wrong" };
}

/** Null for what was left empty. */
export const amountOf = (typed: Typed) => (typed.state === "amount" ? typed.amount : null);

export const renderUsd = (usd: number) => `$${usd.toFixed(usd > 0 && usd < 0.01 ? 4 : 2)}`;

/** A part of 100, rounded so that only what is spent whole reads as 100; null without a whole. */
export function partOf(spent: number, whole: number | null): number | null {
  if (whole === null) return null;
  if (whole <= 0) return 100;
  const part = (100 * spent) / whole;
  return part < 100 ? Math.min(99, Math.round(part)) : Math.round(part);
}

/** What was spent, in words: money is only said as far as it is known. */
export function renderSpent(tokens: number, usd: number, unpriced: boolean): string {
  const known = usd > 0 ? `at least ${renderUsd(usd)}, the rest unknown` : "money unknown";
  return `${renderCount(tokens)} tokens · ${unpriced ? known : renderUsd(usd)}`;
}
