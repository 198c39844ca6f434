/** Reading values whose shape is the CLI's and may change under us: a wrong shape reads as empty, never throws. */

export type Fields = Record<string, unknown>;

export const asFields = (value: unknown): Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
export const asList = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
export const asText = (value: unknown): string => (typeof value === "string" ? value : "");
export const asNumber = (value: unknown): number | null => (typeof value === "number" ? value : null);

/** Seconds since 1970 as an RFC 3339 instant; empty when that is no instant. */
export function asInstant(value: unknown): string {
  const date = new Date((asNumber(value) ?? Number.NaN) * 1000);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

export function renderJson(value: unknown): string {
  if (typeof value === "string") return value;
  try {
    return JSON.stringify(value, null, 2) ?? String(value);
  } catch {
    return "(nested too deep to be shown)";
  }
}
