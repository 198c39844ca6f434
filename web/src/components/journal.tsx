import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { useApp } from "../context.ts";
import { openJournal } from "../journal.ts";
import { renderVisible } from "../text.ts";

/** Closer to an edge than this is at it. */
const EDGE_PX = 8;
const AHEAD_PX = 200;
/** A filter is asked for once nobody types. */
const TYPING_MS = 250;

/**
 * An agent's captured log, followed for as long as this is in the page. Sticks to its end while one is there, stays
 * where one reads otherwise and says how many lines are new; older ones come as one scrolls up.
 */
export function Journal({ agent }: { agent: string }) {
  const { api } = useApp().store;
  const journal = useMemo(() => openJournal(api, agent), [api, agent]);
  useEffect(() => journal.close, [journal]);
  const box = useRef<HTMLElement>(null);
  const stuck = useSignal(true);
  /** How far it was scrolled when that was last known: whoever scrolls up is higher than that. */
  const scrolled = useRef(0);
  const typing = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  /** The first chunk that was shown, and how far it was from the end of the text: older ones come above it. */
  const shown = useRef({ first: -1, below: 0 });
  const chunks = journal.chunks.value;
  const note = journal.note.value;
  const fresh = journal.fresh.value;

  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    const first = chunks[0]?.key ?? -1;
    if (stuck.peek()) scrollToEnd(element);
    else if (first !== shown.current.first) element.scrollTop = element.scrollHeight - shown.current.below;
    shown.current = { first, below: element.scrollHeight - element.scrollTop };
  });
  useEffect(() => () => clearTimeout(typing.current), []);

  function scrollToEnd(element: HTMLElement): void {
    element.scrollTop = element.scrollHeight;
    scrolled.current = element.scrollTop;
  }

  function onScroll(element: HTMLElement): void {
    // The end may have moved away before this is told: only who goes up leaves it.
    const up = element.scrollTop < scrolled.current;
    scrolled.current = element.scrollTop;
    if (stuck.peek() && !up) scrollToEnd(element);
    const { scrollTop, clientHeight, scrollHeight } = element;
    shown.current.below = scrollHeight - scrollTop;
    stuck.value = scrollTop + clientHeight >= scrollHeight - EDGE_PX;
    journal.stick(stuck.peek());
    if (scrollTop < AHEAD_PX && !stuck.peek()) void journal.loadOlder();
  }

  function toEnd(): void {
    stuck.value = true;
    journal.stick(true);
    if (box.current) scrollToEnd(box.current);
    box.current?.focus();
  }

  return (
    <div class="journal" data-testid={`journal-${agent}`}>
      <input
        type="search"
        class="journal-filter"
        placeholder="filter lines"
        aria-label={`filter the journal of ${agent}`}
        data-testid="journal-filter"
        maxLength={200}
        onInput={(event) => {
          const words = event.currentTarget.value;
          clearTimeout(typing.current);
          typing.current = setTimeout(() => {
            toStart();
            journal.narrow(words);
          }, TYPING_MS);
        }}
      />
      {note && <p class="empty">{renderVisible(note)}</p>}
      <section
        ref={box}
        class="journal-text"
        data-testid="journal-text"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        aria-label={`journal of ${agent}`}
        onScroll={(event) => onScroll(event.currentTarget)}
      >
        {journal.more.value && chunks.length > 0 && (
          <p class="empty">
            <button
              type="button"
              class="link"
              data-testid="journal-older"
              onClick={() => {
                stuck.value = false;
                journal.stick(false);
                void journal.loadOlder();
              }}
            >
              {journal.loadingOlder.value ? "loading…" : "older…"}
            </button>
          </p>
        )}
        <pre>
          {chunks.map((chunk) => (
            <span key={chunk.key}>{chunk.text}</span>
          ))}
        </pre>
      </section>
      {!stuck.value && (
        <button type="button" class="act journal-end" data-testid="journal-end" onClick={toEnd}>
          {fresh > 0 ? `${fresh} new ↓` : "to the end ↓"}
        </button>
      )}
    </div>
  );

  /** What is narrowed begins at its end. */
  function toStart(): void {
    stuck.value = true;
    journal.stick(true);
  }
}
