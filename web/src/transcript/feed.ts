import { type ReadonlySignal, signal } from "@preact/signals";
import type { Api } from "../api.ts";
import type { TranscriptEvent } from "../api_types.ts";
import { EMPTY_TRANSCRIPT, reduceTranscript, type Transcript } from "./reduce.ts";

const PAGE = 200;
/** Events held at most while following the end; what is dropped can be fetched again by scrolling up. */
const HELD_LIMIT = 6_000;

export interface TranscriptFeed {
  transcript: ReadonlySignal<Transcript>;
  status: ReadonlySignal<"loading" | "ready" | "failed">;
  /** Whether there is nothing older to fetch. */
  atStart: ReadonlySignal<boolean>;
  onEvents: (events: TranscriptEvent[]) => void;
  /** The connection is new: joins the newest page to what is here. */
  onUp: () => void;
  /** Fetches the page before the first event; resolves when it is there or failed. */
  loadOlder: () => Promise<void>;
  /** Lets go of old events; called when only the end is in view. */
  trim: () => void;
}

/** One agent's transcript: the held events are always a run without a gap, as `seq` counts without one. */
export function createTranscriptFeed(api: Api, agent: string): TranscriptFeed {
  const transcript = signal<Transcript>(EMPTY_TRANSCRIPT);
  const status = signal<"loading" | "ready" | "failed">("loading");
  const atStart = signal(false);
  let held: TranscriptEvent[] = [];
  const early: TranscriptEvent[] = [];
  let joining = false;
  let loadingOlder: Promise<void> | null = null;

  const lastSeq = () => held.at(-1)?.seq ?? 0;

  function replace(events: TranscriptEvent[]): void {
    held = events;
    atStart.value = events.length === 0 || events[0]?.seq === 1;
    transcript.value = reduceTranscript(EMPTY_TRANSCRIPT, events);
  }

  function append(events: TranscriptEvent[]): void {
    if (events.length === 0) return;
    held = held.concat(events);
    transcript.value = reduceTranscript(transcript.peek(), events);
  }

  async function joinNewest(): Promise<void> {
    if (joining) return;
    joining = true;
    try {
      join(await api.transcript(agent, undefined, PAGE));
      status.value = "ready";
    } catch {
      if (held.length === 0) status.value = "failed";
    }
    joining = false;
    if (status.peek() === "ready") take(early.splice(0));
  }

  /** Adds the newest page to what is held, or begins anew with it if more than a page was missed. */
  function join(page: TranscriptEvent[]): void {
    const first = page[0]?.seq;
    if (first !== undefined && first <= lastSeq() + 1 && held.length > 0)
      append(page.filter((event) => event.seq > lastSeq()));
    else if (first !== undefined || held.length === 0) replace(page);
  }

  /** Appends what follows on; at a gap the newest page is fetched instead. */
  function take(events: TranscriptEvent[]): void {
    const fresh: TranscriptEvent[] = [];
    let expected = lastSeq() + 1;
    for (const event of events) {
      if (event.seq < expected) continue;
      if (event.seq > expected) {
        append(fresh);
        void joinNewest();
        return;
      }
      fresh.push(event);
      expected += 1;
    }
    append(fresh);
  }

  async function fetchOlder(): Promise<void> {
    const first = held[0];
    if (first === undefined || atStart.peek()) return;
    const page = await api.transcript(agent, first.seq, PAGE);
    // The run may have been replaced while the page was on its way.
    if (held[0] !== first) return;
    if (page.length === 0) atStart.value = true;
    else replace(page.concat(held));
  }

  return {
    transcript,
    status,
    atStart,
    onEvents(events) {
      if (joining || status.peek() !== "ready") early.push(...events);
      else take(events);
    },
    onUp: () => void joinNewest(),
    loadOlder() {
      loadingOlder ??= fetchOlder()
        .catch(() => {}) // scrolling up again tries again
        .finally(() => {
          loadingOlder = null;
        });
      return loadingOlder;
    },
    trim() {
      if (held.length > HELD_LIMIT) replace(held.slice(-HELD_LIMIT / 2));
    },
  };
}
