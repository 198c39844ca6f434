import { useSignal } from "@preact/signals";
import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { TranscriptFeed } from "../transcript/feed.ts";
import type { Row } from "../transcript/rows.ts";
import { planKept, planNewer, planOlder, planTail, type Span } from "../transcript/window.ts";
import { TranscriptRow } from "./transcript_row.tsx";

/** Closer to an edge than this is at it; older and newer rows are brought in from further off. */
const EDGE_PX = 24;
const AHEAD_PX = 400;

const KeyedRow = memo(TranscriptRow, (a, b) => a.row === b.row && a.folds === b.folds);

/**
 * The rows of a transcript in a box that scrolls by itself: sticks to the end while one is there, stays where one
 * reads otherwise and says how many are new. Holds a window of the rows only.
 */
export function TranscriptView({ feed, name }: { feed: TranscriptFeed; name: string }) {
  const box = useRef<HTMLDivElement>(null);
  const folds = useSignal<ReadonlySet<string>>(new Set());
  const stuck = useSignal(true);
  const span = useRef<Span>({ start: 0, end: 0 });
  const shown = useRef<readonly Row[]>([]);
  const seen = useRef("");
  const moved = useSignal(0);
  const anchor = useRef<{ key: string; top: number } | null>(null);
  /** How far it was scrolled when that was last known: whoever scrolls up is higher than that. */
  const scrolled = useRef(0);

  const { rows } = feed.transcript.value;
  void moved.value;
  if (rows !== shown.current) {
    span.current = stuck.peek() ? planTail(rows.length) : planKept(span.current, shown.current, rows);
    shown.current = rows;
  }
  if (stuck.value) seen.current = rows.at(-1)?.key ?? "";
  const { start, end } = span.current;
  const fresh = stuck.value ? 0 : countAfter(rows, seen.current);

  /** Remembers the first row in view, so that it stays where it is while rows come and go around it. */
  function hold(): void {
    const top = box.current?.getBoundingClientRect().top ?? 0;
    for (const row of box.current?.querySelectorAll<HTMLElement>("[data-key]") ?? []) {
      const bounds = row.getBoundingClientRect();
      if (bounds.bottom <= top) continue;
      anchor.current = { key: row.dataset.key ?? "", top: bounds.top };
      return;
    }
  }

  function move(to: Span): void {
    if (to.start === span.current.start && to.end === span.current.end) return;
    hold();
    span.current = to;
    moved.value += 1;
  }

  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    const { current: held } = anchor;
    anchor.current = null;
    if (stuck.peek()) scrollToEnd(element);
    else if (held) {
      const row = element.querySelector(`[data-key="${CSS.escape(held.key)}"]`);
      if (row) element.scrollTop += row.getBoundingClientRect().top - held.top;
    }
  });

  useEffect(() => {
    // The box also changes its height: a keyboard opens, the prompt grows.
    const watch = new ResizeObserver(() => {
      if (stuck.peek() && box.current) scrollToEnd(box.current);
    });
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, [stuck]);

  function scrollToEnd(element: HTMLElement): void {
    element.scrollTop = element.scrollHeight;
    scrolled.current = element.scrollTop;
  }

  /** The end may have moved away before this is told: only who goes up leaves it. */
  function onScroll(): void {
    const element = box.current;
    if (element === null) return;
    const up = element.scrollTop < scrolled.current;
    scrolled.current = element.scrollTop;
    if (stuck.peek() && !up) scrollToEnd(element);
    lookAround();
  }

  function lookAround(): void {
    const element = box.current;
    if (element === null) return;
    const below = element.scrollHeight - element.scrollTop - element.clientHeight;
    stuck.value = below <= EDGE_PX && span.current.end === rows.length;
    if (stuck.peek()) feed.trim();
    else if (element.scrollTop < AHEAD_PX) bringOlder();
    else if (below < AHEAD_PX) move(planNewer(span.current, rows.length));
  }

  // A fold that opens moves the end away without a scroll event.
  const look = useRef(lookAround);
  look.current = lookAround;
  useEffect(() => folds.subscribe(() => void requestAnimationFrame(() => look.current())), [folds]);

  function bringOlder(): void {
    if (span.current.start > 0) move(planOlder(span.current));
    else if (!feed.atStart.peek())
      void feed.loadOlder().then(() => {
        if (span.current.start > 0) move(planOlder(span.current));
      });
  }

  function toEnd(): void {
    span.current = planTail(rows.length);
    stuck.value = true;
    moved.value += 1;
    box.current?.focus();
  }

  return (
    <div class="transcript-frame">
      <div
        ref={box}
        class="transcript"
        data-testid="transcript"
        data-stuck={stuck.value}
        role="log"
        aria-live="off"
        aria-label={`transcript of ${name}`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        onScroll={onScroll}
      >
        <Edge feed={feed} atFirstRow={start === 0} empty={rows.length === 0} />
        <ol class="t-rows">
          {rows.slice(start, end).map((row) => (
            <KeyedRow key={row.key} row={row} folds={folds} />
          ))}
        </ol>
      </div>
      {(!stuck.value || end < rows.length) && (
        <button type="button" class="act to-end" data-testid="to-end" onClick={toEnd}>
          {fresh > 0 ? `${fresh} new ↓` : "to the end ↓"}
        </button>
      )}
    </div>
  );
}

/** What stands above the first row. */
function Edge({ feed, atFirstRow, empty }: { feed: TranscriptFeed; atFirstRow: boolean; empty: boolean }) {
  const status = feed.status.value;
  if (status === "failed")
    return (
      <p class="empty">
        the transcript could not be fetched{" "}
        <button type="button" class="link" onClick={feed.onUp}>
          try again
        </button>
      </p>
    );
  if (status === "loading") return <p class="empty">loading…</p>;
  if (empty) return <p class="empty">no turn yet: write something below</p>;
  if (!atFirstRow) return null;
  if (feed.atStart.value) return <p class="empty">the beginning</p>;
  return (
    <p class="empty">
      <button type="button" class="link" data-testid="transcript-older" onClick={() => void feed.loadOlder()}>
        older…
      </button>
    </p>
  );
}

function countAfter(rows: readonly Row[], key: string): number {
  const index = rows.findLastIndex((row) => row.key === key);
  return index < 0 ? 0 : rows.length - 1 - index;
}
