import { batch, signal } from "@preact/signals";
import type { Api } from "./api.ts";

const POLL_MS = 2_000;
/** The end of a log that is kept in the page. */
const KEPT_CHARS = 200_000;

/** Reads an agent's captured log from its start to its end and then follows it, until `close`. */
export function openJournal(api: Pick<Api, "journal">, agent: string) {
  const text = signal("");
  /** What to say instead of text; empty when there is some. */
  const note = signal("reading…");
  let open = true;
  let timer: ReturnType<typeof setTimeout>;

  async function follow(offset: number): Promise<void> {
    const next = await read(offset);
    // A piece that moved on may be followed by another at once.
    if (open) timer = setTimeout(() => void follow(next), next > offset ? 0 : POLL_MS);
  }

  /** Where to go on. What cannot be read now is tried again. */
  async function read(offset: number): Promise<number> {
    try {
      const piece = await api.journal(agent, offset);
      batch(() => {
        text.value = (text.peek() + piece.text).slice(-KEPT_CHARS);
        note.value = text.peek() ? "" : "nothing written yet";
      });
      return piece.next_offset;
    } catch (error) {
      note.value = error instanceof Error ? error.message : String(error);
      return offset;
    }
  }

  void follow(0);
  return {
    text,
    note,
    close() {
      open = false;
      clearTimeout(timer);
    },
  };
}
