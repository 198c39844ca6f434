import { batch, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import type { Journal } from "./api_types.ts";
import { renderVisible } from "./text.ts";

const POLL_MS = 1_000;
/** Lines that come at once are shown together. */
const AFTER_MS = 50;
/** How long the hive may wait for something to be written before it answers. */
const WAIT_S = 20;
/** A browser has six connections to a host: so many journals may keep one, the others ask now and then. */
const WAITERS_LIMIT = 2;
/** What is kept in the page while its end is looked at, and at most: then it is not followed until one is there again. */
const KEPT_CHARS = 200_000;
const LIMIT_CHARS = 1_000_000;
/** Pages without a line that are asked for one after another. */
const EMPTY_PAGES = 16;

/** A piece of the text, made visible once. It never changes: what is selected in it stays selected. */
export interface JournalChunk {
  key: number;
  text: string;
  /** Where it begins in the journal. */
  offset: number;
}

let waiters = 0;

/** An agent's captured log: its end, older pages on demand, and whatever is written, until `close`. */
export function openJournal(api: Pick<Api, "journal">, agent: string) {
  const chunks = signal<readonly JournalChunk[]>([]);
  /** What to say instead of text; empty when there is some. */
  const note = signal("reading…");
  /** Whether there is something above the first chunk. */
  const more = signal(false);
  const loadingOlder = signal(false);
  /** Lines that came while one was not at the end. */
  const fresh = signal(0);
  const filter = signal("");
  let begin = 0;
  let end = 0;
  let nextKey = 0;
  let atEnd = true;
  let open = true;
  /** Answers to what was asked before the filter changed are not of this text. */
  let epoch = 0;
  let timer: ReturnType<typeof setTimeout>;

  const chars = () => chunks.peek().reduce((sum, chunk) => sum + chunk.text.length, 0);
  const isFull = () => !atEnd && chars() > LIMIT_CHARS;
  const makeChunk = ({ text, offset }: Journal): JournalChunk => ({
    key: nextKey++,
    text: renderVisible(text),
    offset,
  });
  const isCurrent = (asked: number) => open && asked === epoch;
  const describe = () => (filter.peek() ? "no line has that" : "nothing written yet");

  function later(asked: number, work: (asked: number) => Promise<void>, delay: number): void {
    if (isCurrent(asked)) timer = setTimeout(() => void work(asked), delay);
  }

  function restart(): void {
    epoch += 1;
    clearTimeout(timer);
    batch(() => {
      chunks.value = [];
      more.value = false;
      loadingOlder.value = false;
      fresh.value = 0;
      note.value = "reading…";
    });
    void begins(epoch);
  }

  async function begins(asked: number): Promise<void> {
    try {
      const page = await readBack(asked, undefined);
      if (page === null) return;
      batch(() => {
        begin = page.offset;
        end = page.next_offset;
        chunks.value = page.text ? [makeChunk(page)] : [];
        more.value = page.more;
        note.value = page.text ? "" : describe();
      });
      later(asked, follow, 0);
    } catch (error) {
      tryAgain(asked, begins, error);
    }
  }

  /** The page that ends at `before`, with at least a line in it if there is one; null if it is no longer wanted. */
  async function readBack(asked: number, before: number | undefined): Promise<Journal | null> {
    let page = await api.journal(agent, { before, filter: filter.peek() || undefined });
    const { next_offset } = page;
    for (let tries = 1; tries < EMPTY_PAGES && page.more && !page.text && isCurrent(asked); tries += 1)
      page = await api.journal(agent, { before: page.offset, filter: filter.peek() || undefined });
    return isCurrent(asked) ? { ...page, next_offset } : null;
  }

  async function follow(asked: number): Promise<void> {
    // Somebody reads further up, and enough has come: the rest is there when they come back.
    if (isFull()) return later(asked, follow, POLL_MS);
    const started = Date.now();
    try {
      const piece = await readOn();
      if (!isCurrent(asked)) return;
      const moved = piece.next_offset !== end;
      end = piece.next_offset;
      if (piece.text) append(piece);
      // One that could not wait answers at once.
      later(asked, follow, moved ? AFTER_MS : Math.max(POLL_MS - (Date.now() - started), 0));
    } catch (error) {
      tryAgain(asked, follow, error);
    }
  }

  /** What cannot be read now is tried again; it is said where there is no text. */
  function tryAgain(asked: number, work: (asked: number) => Promise<void>, error: unknown): void {
    if (isCurrent(asked) && chunks.peek().length === 0) note.value = renderError(error);
    later(asked, work, POLL_MS * 2);
  }

  async function readOn(): Promise<Journal> {
    const query = { offset: end, filter: filter.peek() || undefined };
    if (waiters >= WAITERS_LIMIT || document.hidden) return await api.journal(agent, query);
    waiters += 1;
    try {
      return await api.journal(agent, { ...query, wait_s: WAIT_S });
    } finally {
      waiters -= 1;
    }
  }

  function append(piece: Journal): void {
    batch(() => {
      chunks.value = [...chunks.peek(), makeChunk(piece)];
      note.value = "";
      if (atEnd) trim();
      else fresh.value += piece.text.split("\n").length - 1;
    });
  }

  /** Gives up what is far above the end. It can be loaded again, from where the rest begins. */
  function trim(): void {
    let kept = chunks.peek();
    let over = chars() - KEPT_CHARS;
    while (kept.length > 1 && over > 0) {
      over -= kept[0]?.text.length ?? 0;
      kept = kept.slice(1);
    }
    if (kept === chunks.peek()) return;
    chunks.value = kept;
    begin = kept[0]?.offset ?? begin;
    more.value = true;
  }

  async function loadOlder(): Promise<void> {
    if (!more.peek() || loadingOlder.peek() || chars() > LIMIT_CHARS) return;
    const asked = epoch;
    loadingOlder.value = true;
    try {
      const page = await readBack(asked, begin);
      if (page === null) return;
      batch(() => {
        begin = page.offset;
        more.value = page.more;
        if (page.text) chunks.value = [makeChunk(page), ...chunks.peek()];
      });
    } catch {
      // It is asked for again by the next scroll.
    } finally {
      if (isCurrent(asked)) loadingOlder.value = false;
    }
  }

  restart();
  return {
    chunks,
    note,
    more,
    loadingOlder,
    fresh,
    filter,
    loadOlder,
    /** Says whether the end is looked at. */
    stick(stuck: boolean) {
      atEnd = stuck;
      if (stuck) fresh.value = 0;
    },
    /** Shows only lines with `words`, whatever the case; all if there are none. */
    narrow(words: string) {
      if (words === filter.peek()) return;
      filter.value = words;
      restart();
    },
    close() {
      open = false;
      epoch += 1;
      clearTimeout(timer);
    },
  };
}

const renderError = (error: unknown) => (error instanceof Error ? error.message : String(error));
