/** Which of the rows are in the page. Pure. */

export interface Span {
  start: number;
  end: number;
}

/** Rows in the page at most: enough for several screens, few enough that a phone stays quick. */
export const WINDOW_ROWS = 400;
export const WINDOW_STEP = 150;

/** The span that ends with the last row. */
export const planTail = (rows: number): Span => ({ start: Math.max(0, rows - WINDOW_ROWS), end: rows });

/** `span` moved by `WINDOW_STEP` rows towards older ones. */
export function planOlder(span: Span): Span {
  const start = Math.max(0, span.start - WINDOW_STEP);
  return { start, end: Math.min(span.end, start + WINDOW_ROWS) };
}

/** `span` moved by `WINDOW_STEP` rows towards newer ones. */
export function planNewer(span: Span, rows: number): Span {
  const end = Math.min(rows, span.end + WINDOW_STEP);
  return { start: Math.max(span.start, end - WINDOW_ROWS), end };
}

/** `span` over the same rows after the list changed, found by their keys; the tail when they are gone. */
export function planKept(
  span: Span,
  before: readonly { key: string }[],
  after: readonly { key: string }[],
): Span {
  const first = before[span.start]?.key;
  const start = first === undefined ? -1 : after.findIndex((row) => row.key === first);
  if (start < 0) return planTail(after.length);
  return { start, end: Math.min(after.length, start + (span.end - span.start)) };
}
