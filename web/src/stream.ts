import { createEventParser, type ServerEvent } from "./sse.ts";

/** The hive sends a comment every 15 s: three missed ones and the connection is taken for dead. */
const SILENCE_LIMIT_MS = 45_000;
/** Retries start fast, as a restarted daemon is back within a second or two, and slow down to this. */
const RETRY_FIRST_MS = 250;
const RETRY_LIMIT_MS = 5_000;
/** A connection that ends sooner counts as a failure: a hive that hangs up at once must not be asked in a hurry. */
const LASTING_MS = 5_000;

export interface StreamOptions {
  url: string;
  /** The events of one network chunk, in order. */
  onEvents: (events: ServerEvent[]) => void;
  /** A connection is up. Only a `resumed` one will be told what happened while it was down. */
  onUp: (resumed: boolean) => void;
  onDown: () => void;
  onSignedOut: () => void;
  fetch?: typeof fetch;
  /** Waits, but no longer than until the signal aborts; must not raise. */
  pause?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
  silenceLimitMs?: number;
}

export interface Stream {
  close: () => void;
  /** Tries again at once when the connection is down: the network or the tab came back. */
  retry: () => void;
}

/**
 * Follows an event stream until closed, over any number of connections, resuming with Last-Event-ID.
 *
 * Why not EventSource: it gives up for good on an HTTP error, hides the status (a 401 is a login), cannot send
 * Last-Event-ID on a connection of its own, and does not show the keep-alive comments by which a dead link is noticed.
 */
export function openStream(options: StreamOptions): Stream {
  const closed = new AbortController();
  const pause = options.pause ?? pauseFor;
  let waiting = new AbortController();
  let lastId: string | null = null;
  let failures = 0;

  async function follow(): Promise<void> {
    while (!closed.signal.aborted) {
      const startedAt = Date.now();
      const outcome = await connect();
      if (closed.signal.aborted) return;
      options.onDown();
      if (outcome === "signed-out") return options.onSignedOut();
      failures = Date.now() - startedAt > LASTING_MS ? 1 : failures + 1;
      waiting = new AbortController();
      await pause(plannedPause(failures), AbortSignal.any([waiting.signal, closed.signal]));
    }
  }

  /** One connection, from its request to its end. */
  async function connect(): Promise<"ended" | "signed-out"> {
    const link = new AbortController();
    const watchdog = createWatchdog(options.silenceLimitMs ?? SILENCE_LIMIT_MS, () => link.abort());
    try {
      const response = await request(AbortSignal.any([link.signal, closed.signal]));
      if (response.status === 401) return "signed-out";
      if (!response.ok || response.body === null) {
        // An id the hive does not take (its data were replaced) must not be asked for for ever.
        if (response.status >= 400 && response.status < 500) lastId = null;
        return "ended";
      }
      options.onUp(lastId !== null);
      await read(response.body, watchdog.feed);
    } catch {
      // Refused, cut off or silent: all mean a new connection.
    } finally {
      watchdog.stop();
    }
    return "ended";
  }

  function request(signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { Accept: "text/event-stream" };
    if (lastId !== null) headers["Last-Event-ID"] = lastId;
    const doFetch = options.fetch ?? fetch;
    return doFetch(options.url, { headers, signal, cache: "no-store", credentials: "same-origin" });
  }

  async function read(body: ReadableStream<Uint8Array>, onBytes: () => void): Promise<void> {
    const parser = createEventParser(lastId);
    const decoder = new TextDecoder();
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || closed.signal.aborted) return;
      onBytes();
      const events = parser.feed(decoder.decode(value, { stream: true }));
      lastId = parser.lastId;
      if (events.length > 0) options.onEvents(events);
    }
  }

  void follow();
  return { close: () => closed.abort(), retry: () => waiting.abort() };
}

/** Doubling with the failures in a row, with jitter so that many tabs do not return in step. */
function plannedPause(failures: number): number {
  const limit = Math.min(RETRY_FIRST_MS * 2 ** (failures - 1), RETRY_LIMIT_MS);
  return limit * (0.75 + Math.random() / 4);
}

function createWatchdog(limitMs: number, onSilence: () => void) {
  let timer = setTimeout(onSilence, limitMs);
  return {
    feed() {
      clearTimeout(timer);
      timer = setTimeout(onSilence, limitMs);
    },
    stop: () => clearTimeout(timer),
  };
}

function pauseFor(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
