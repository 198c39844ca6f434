/** What is sent at once at most; the hive refuses longer ones. */
const INPUT_LIMIT_BYTES = 32 * 1024;
/** The hive takes no longer answer of a terminal. */
const ANSWER_LIMIT_CHARS = 128;
/** So much is shown before it is acknowledged. The hive stops reading the shell at 256 KiB. */
const ACK_STEP_BYTES = 32 * 1024;
/** Retries start fast, as a restarted daemon is back within a second or two, and slow down to this. */
const RETRY_FIRST_MS = 250;
const RETRY_LIMIT_MS = 5_000;
/** A connection that ends sooner counts as a failure. */
const LASTING_MS = 5_000;
/** `ESC c`, the full reset. */
const RESET = new Uint8Array([0x1b, 0x63]);

/** WebSocket.OPEN, also where there is no WebSocket. */
const OPEN = 1;

export type SocketState = "connecting" | "up" | "lost" | "ended";

/** Where the output goes. */
export interface Screen {
  /**
   * Shows `data` after all that was written before; `done` is called once it has been. What is a `replay` was answered
   * already: no reply to anything asked in it may be sent.
   */
  write: (data: Uint8Array, replay: boolean, done: () => void) => void;
  resize: (columns: number, rows: number) => void;
}

export interface TerminalSocketOptions {
  url: string;
  screen: Screen;
  /** The shell was opened just now: there is nothing on the screen yet. */
  fresh?: boolean;
  onState: (state: SocketState) => void;
  onEnded: (status: number | null) => void;
  /** After a lost connection: how the terminal ended, or null when it did not or that is not known. Must not raise. */
  findEnd: () => Promise<{ status: number | null } | null>;
  connect?: (url: string) => WebSocket;
  /** Waits, but no longer than until the signal aborts; must not raise. */
  pause?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}

export interface TerminalSocket {
  /** Sends what was typed. False, and nothing is sent, while there is no connection: it would come as a surprise later. */
  type: (data: Uint8Array) => boolean;
  /**
   * Sends what the terminal answered by itself to what a program asked. Every window that shows it answers; the hive
   * takes one of these, as a second would be read as typed.
   */
  answer: (text: string) => void;
  resize: (columns: number, rows: number) => void;
  /** Tries again at once when the connection is down: the network or the tab came back. */
  retry: () => void;
  close: () => void;
}

/**
 * Follows a terminal over any number of connections until it ends or `close`. Each new connection begins with what was
 * last on it, so that the screen is reset first. The size last asked for is told to each.
 */
export function openTerminalSocket(options: TerminalSocketOptions): TerminalSocket {
  const closed = new AbortController();
  const connect = options.connect ?? openWebSocket;
  const pause = options.pause ?? pauseFor;
  let waiting = new AbortController();
  let link: WebSocket | null = null;
  let size: { columns: number; rows: number } | null = null;
  let fresh = options.fresh ?? false;
  let ended = false;
  let failures = 0;

  async function follow(): Promise<void> {
    while (!closed.signal.aborted) {
      options.onState("connecting");
      const startedAt = Date.now();
      await runConnection();
      if (closed.signal.aborted || ended) return;
      options.onState("lost");
      const end = await options.findEnd();
      if (closed.signal.aborted) return;
      if (end !== null) return finish(end.status);
      failures = Date.now() - startedAt > LASTING_MS ? 1 : failures + 1;
      waiting = new AbortController();
      await pause(plannedPause(failures), AbortSignal.any([waiting.signal, closed.signal]));
    }
  }

  /** One connection, to its end. */
  function runConnection(): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect(options.url);
      socket.binaryType = "arraybuffer";
      const receiver = createReceiver(socket, options.screen);
      const hangUp = () => socket.close();
      closed.signal.addEventListener("abort", hangUp);
      socket.addEventListener("open", () => {
        // What comes first is the past, whatever stands on the screen.
        if (!fresh) options.screen.write(RESET, true, () => {});
        fresh = false;
        link = socket;
        options.onState("up");
        if (size !== null) sendSize(size.columns, size.rows);
      });
      socket.addEventListener("message", ({ data }: MessageEvent<ArrayBuffer | string>) => {
        if (closed.signal.aborted) return;
        if (typeof data === "string") control(parseControl(data), receiver);
        else receiver.receive(new Uint8Array(data));
      });
      socket.addEventListener("close", () => {
        link = null;
        closed.signal.removeEventListener("abort", hangUp);
        resolve();
      });
    });
  }

  function control(message: Control | null, receiver: Receiver): void {
    if (message?.kind === "replayed") receiver.expectReplay(message.count);
    else if (message?.kind === "resized") options.screen.resize(message.columns, message.rows);
    else if (message?.kind === "ended") finish(message.status);
  }

  function finish(status: number | null): void {
    if (ended) return;
    ended = true;
    options.onState("ended");
    options.onEnded(status);
    link?.close();
  }

  function sendSize(columns: number, rows: number): void {
    if (link?.readyState === OPEN) link.send(JSON.stringify({ kind: "resize", columns, rows }));
  }

  void follow();
  return {
    type(data) {
      if (link?.readyState !== OPEN) return false;
      for (let at = 0; at < data.length; at += INPUT_LIMIT_BYTES)
        link.send(data.slice(at, at + INPUT_LIMIT_BYTES));
      return true;
    },
    answer(text) {
      if (link?.readyState === OPEN && text.length <= ANSWER_LIMIT_CHARS)
        link.send(JSON.stringify({ kind: "answer", text }));
    },
    resize(columns, rows) {
      size = { columns, rows };
      sendSize(columns, rows);
    },
    retry: () => waiting.abort(),
    close: () => closed.abort(),
  };
}

type Receiver = ReturnType<typeof createReceiver>;

/** Shows what one connection brings, and acknowledges on that very connection what has been shown of it. */
function createReceiver(socket: WebSocket, screen: Screen) {
  /** Of what comes next, so many bytes are what was on the terminal before. */
  let pastBytes = 0;
  let shownBytes = 0;

  function acknowledge(count: number): void {
    shownBytes += count;
    if (shownBytes < ACK_STEP_BYTES || socket.readyState !== OPEN) return;
    socket.send(JSON.stringify({ kind: "ack", count: shownBytes }));
    shownBytes = 0;
  }

  function show(data: Uint8Array, replay: boolean): void {
    if (data.length > 0) screen.write(data, replay, () => acknowledge(data.length));
  }

  return {
    expectReplay(count: number): void {
      pastBytes = count;
    },
    receive(data: Uint8Array): void {
      const past = data.subarray(0, pastBytes);
      pastBytes -= past.length;
      show(past, true);
      show(data.subarray(past.length), false);
    },
  };
}

type Control =
  | { kind: "replayed"; count: number }
  | { kind: "resized"; columns: number; rows: number }
  | { kind: "ended"; status: number | null };

/** Null for what this page does not know: a later hive may tell more. */
function parseControl(text: string): Control | null {
  const message = JSON.parse(text) as Partial<Record<string, unknown>>;
  if (message.kind === "ended")
    return { kind: "ended", status: typeof message.status === "number" ? message.status : null };
  if (message.kind === "replayed" && isSize(message.count)) return { kind: "replayed", count: message.count };
  if (message.kind === "resized" && isSize(message.columns) && isSize(message.rows))
    return { kind: "resized", columns: message.columns, rows: message.rows };
  return null;
}

const isSize = (value: unknown): value is number => Number.isInteger(value) && (value as number) > 0;

/** Doubling with the failures in a row, with jitter so that many tabs do not return in step. */
function plannedPause(failures: number): number {
  const limit = Math.min(RETRY_FIRST_MS * 2 ** (failures - 1), RETRY_LIMIT_MS);
  return limit * (0.75 + Math.random() / 4);
}

function openWebSocket(path: string): WebSocket {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url);
}

function pauseFor(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
