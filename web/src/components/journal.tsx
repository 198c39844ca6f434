import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { useApp } from "../context.ts";
import { openJournal } from "../journal.ts";
import { renderVisible } from "../text.ts";

/** An agent's captured log, followed for as long as this is in the page; sticks to its end while one is there. */
export function Journal({ agent }: { agent: string }) {
  const { api } = useApp().store;
  const journal = useMemo(() => openJournal(api, agent), [api, agent]);
  useEffect(() => journal.close, [journal]);
  const box = useRef<HTMLElement>(null);
  const atEnd = useRef(true);
  const text = journal.text.value;
  const note = journal.note.value;

  useLayoutEffect(() => {
    if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  });

  return (
    <div class="journal" data-testid={`journal-${agent}`}>
      {note && <p class="empty">{renderVisible(note)}</p>}
      <section
        ref={box}
        class="journal-text"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        aria-label={`journal of ${agent}`}
        onScroll={(event) => {
          const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
          atEnd.current = scrollTop + clientHeight >= scrollHeight - 8;
        }}
      >
        <pre>{renderVisible(text)}</pre>
      </section>
    </div>
  );
}
