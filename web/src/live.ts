import { batch, type Signal, signal } from "@preact/signals";
import type { AgentRow, HiveEvent, TranscriptEvent } from "./api_types.ts";
import type { ServerEvent } from "./sse.ts";
import type { Store } from "./store.ts";
import { openStream } from "./stream.ts";

/** A tab of an agent that nobody looked at for this long lets its connection go: a browser has six for one host. */
const HIDDEN_LIMIT_MS = 60_000;

export interface Connection {
  /** `connecting` only before the first answer; `asleep` is a hidden tab that returns by itself. */
  state: "connecting" | "up" | "down" | "asleep";
  /** When the page last was current. */
  lastSeenAt: number | null;
}

export interface TranscriptListener {
  onEvents: (events: TranscriptEvent[]) => void;
  /** The connection is new: something may have been missed. */
  onUp: () => void;
}

export interface LiveOptions {
  store: Store;
  connection: Signal<Connection>;
  onSignedOut: () => void;
  agent?: string;
  transcript?: TranscriptListener;
  fetch?: typeof fetch;
}

export const createConnection = () => signal<Connection>({ state: "connecting", lastSeenAt: null });

/** Keeps the store, and an agent's transcript if asked, current until the returned function is called. */
export function startLive(options: LiveOptions): () => void {
  const { store, connection } = options;
  const url = options.agent ? `/api/stream?agent=${encodeURIComponent(options.agent)}` : "/api/stream";

  function catchUp(): void {
    void store.load();
    options.transcript?.onUp();
  }

  function open() {
    return openStream({
      url,
      ...(options.fetch && { fetch: options.fetch }),
      onSignedOut: options.onSignedOut,
      onUp() {
        connection.value = { state: "up", lastSeenAt: Date.now() };
        // Rows are snapshots, and what happens to messages is told once: neither is replayed after a reconnect.
        catchUp();
      },
      onDown() {
        const { state, lastSeenAt } = connection.peek();
        connection.value = { state: "down", lastSeenAt: state === "up" ? Date.now() : lastSeenAt };
      },
      onEvents: (events) => batch(() => applyEvents(events, options, catchUp)),
    });
  }

  let stream = open();
  let sleep: ReturnType<typeof setTimeout> | undefined;

  const onVisibility = () => {
    clearTimeout(sleep);
    if (document.hidden && options.agent) {
      sleep = setTimeout(() => {
        stream.close();
        connection.value = { state: "asleep", lastSeenAt: Date.now() };
      }, HIDDEN_LIMIT_MS);
    } else if (connection.peek().state === "asleep") {
      stream = open();
    } else {
      stream.retry();
    }
  };
  const onOnline = () => stream.retry();
  document.addEventListener("visibilitychange", onVisibility);
  window.addEventListener("online", onOnline);
  return () => {
    clearTimeout(sleep);
    document.removeEventListener("visibilitychange", onVisibility);
    window.removeEventListener("online", onOnline);
    stream.close();
  };
}

function applyEvents(events: ServerEvent[], options: LiveOptions, onResync: () => void): void {
  const { store } = options;
  const transcript: TranscriptEvent[] = [];
  const handlers: Record<string, (data: never) => void> = {
    hive: (event: HiveEvent) => store.applyEvent(event),
    state: (row: AgentRow) => store.applyState(row),
    needs: () => store.applyNeeds(),
    ports: () => store.applyPorts(),
    transcript(event: TranscriptEvent & { agent: string }) {
      if (event.agent === options.agent) transcript.push(event);
    },
    resync: onResync,
  };
  for (const { name, data } of events) {
    // An event of a later version is no reason to stop.
    if (Object.hasOwn(handlers, name)) handlers[name]?.(JSON.parse(data) as never);
  }
  if (transcript.length > 0) options.transcript?.onEvents(transcript);
}
