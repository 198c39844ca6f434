import { afterEach, expect, test, vi } from "vitest";
import { openTerminalSocket, type TerminalSocket, type TerminalSocketOptions } from "./socket.ts";

const CONNECTING = 0;
const OPEN = 1;
const CLOSED = 3;

/** One connection of a stand-in hive: what was sent on it, and ways to answer, write and cut. */
class Link extends EventTarget {
  readyState = CONNECTING;
  binaryType = "blob";
  readonly sent: (string | Uint8Array)[] = [];

  constructor(readonly url: string) {
    super();
  }

  send(data: string | Uint8Array): void {
    if (this.readyState !== OPEN) throw new Error("not open");
    this.sent.push(data);
  }

  close(): void {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.dispatchEvent(new Event("close"));
  }

  accept(): this {
    this.readyState = OPEN;
    this.dispatchEvent(new Event("open"));
    return this;
  }

  tell(message: unknown): void {
    this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) }));
  }

  write(data: string | Uint8Array): void {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    this.dispatchEvent(new MessageEvent("message", { data: bytes.slice().buffer }));
  }

  acks = () =>
    this.sent
      .filter((one) => typeof one === "string")
      .map((one) => JSON.parse(one) as { kind: string; count: number })
      .filter((one) => one.kind === "ack")
      .map((one) => one.count);
}

let socket: TerminalSocket | undefined;
afterEach(() => socket?.close());

/** A socket on a stand-in; the screen shows what was written only when `show` is called. */
function start(change: Partial<TerminalSocketOptions> = {}) {
  const links: Link[] = [];
  const log: string[] = [];
  const written: { text: string; replay: boolean }[] = [];
  const waiting: (() => void)[] = [];
  socket = openTerminalSocket({
    url: "/socket",
    screen: {
      write(data, replay, done) {
        written.push({ text: new TextDecoder().decode(data), replay });
        waiting.push(done);
      },
      resize: (columns, rows) => void log.push(`size ${columns}x${rows}`),
    },
    onState: (state) => void log.push(state),
    onEnded: (status) => void log.push(`status ${status}`),
    findEnd: async () => null,
    pause: async () => void log.push("pause"),
    connect: (url) => {
      const link = new Link(url);
      links.push(link);
      return link as unknown as WebSocket;
    },
    ...change,
  });
  const link = (index: number) =>
    vi.waitFor(() => links[index] ?? Promise.reject(new Error("no connection yet")));
  const show = () => {
    for (const done of waiting.splice(0)) done();
  };
  return { link, links, log, written, show, socket };
}

test("output is acknowledged only once it has been shown, in steps", async () => {
  const { link, show } = start();
  const first = (await link(0)).accept();
  for (let part = 0; part < 3; part += 1) first.write(new Uint8Array(20_000));
  expect(first.acks()).toEqual([]);
  show();
  expect(first.acks()).toEqual([40_000]);
  first.write(new Uint8Array(20_000));
  show();
  expect(first.acks()).toEqual([40_000, 40_000]);
});

test("what an earlier connection brought is never acknowledged on a later one", async () => {
  const { link, show } = start();
  const first = (await link(0)).accept();
  first.write(new Uint8Array(60_000));
  first.close();
  const second = (await link(1)).accept();
  show();
  expect(first.acks()).toEqual([]);
  expect(second.acks()).toEqual([]);
  second.write(new Uint8Array(40_000));
  show();
  expect(second.acks()).toEqual([40_000]);
});

test("after a lost connection the screen is reset and shows what the hive has of it", async () => {
  const { link, log, written } = start({ fresh: true });
  const first = (await link(0)).accept();
  first.write("$ ls");
  expect(written).toEqual([{ text: "$ ls", replay: false }]);
  first.close();
  const second = (await link(1)).accept();
  second.tell({ kind: "replayed", count: 9 });
  second.write("$ ls\r\na b");
  second.write("$ ");
  expect(written.slice(1)).toEqual([
    { text: "\x1bc", replay: true },
    { text: "$ ls\r\na b", replay: true },
    { text: "$ ", replay: false },
  ]);
  expect(log).toEqual(["connecting", "up", "lost", "pause", "connecting", "up"]);
});

test("exactly what is told to be a replay is one, however it is cut into frames", async () => {
  const { link, written } = start({ fresh: true });
  const first = (await link(0)).accept();
  first.tell({ kind: "replayed", count: 6 });
  first.write("old");
  first.write("oldnew");
  first.write("newer");
  first.tell({ kind: "replayed", count: 5 });
  first.write("\x1bcold");
  first.write("new");
  expect(written).toEqual([
    { text: "old", replay: true },
    { text: "old", replay: true },
    { text: "new", replay: false },
    { text: "newer", replay: false },
    { text: "\x1bcold", replay: true },
    { text: "new", replay: false },
  ]);
});

test("pauses grow with the failures in a row, and a lasting hint cuts one short", async () => {
  const pauses: number[] = [];
  let resume = () => {};
  const { link, socket } = start({
    pause: (milliseconds, signal) => {
      pauses.push(milliseconds);
      return new Promise((resolve) => {
        resume = resolve;
        signal.addEventListener("abort", () => resolve());
      });
    },
  });
  for (let attempt = 0; attempt < 8; attempt += 1) {
    (await link(attempt)).close();
    await vi.waitFor(() => expect(pauses).toHaveLength(attempt + 1));
    if (attempt < 7) resume();
  }
  expect(pauses[0]).toBeLessThanOrEqual(250);
  expect(pauses[1]).toBeGreaterThan(pauses[0] ?? 0);
  expect(pauses[7]).toBeGreaterThan(3_000);
  expect(pauses[7]).toBeLessThanOrEqual(5_000);
  socket.retry();
  await link(8);
});

test("the end is told once, with its status, and nothing is tried after it", async () => {
  const { link, links, log } = start();
  const first = (await link(0)).accept();
  first.tell({ kind: "ended", status: 3 });
  await Promise.resolve();
  expect(log).toEqual(["connecting", "up", "ended", "status 3"]);
  expect(first.readyState).toBe(CLOSED);
  expect(links).toHaveLength(1);
});

test("a terminal that ended while nobody was connected is known to have", async () => {
  const { link, log } = start({ findEnd: async () => ({ status: null }) });
  (await link(0)).close();
  await vi.waitFor(() => expect(log).toEqual(["connecting", "lost", "ended", "status null"]));
});

test("what is typed without a connection is not sent later", async () => {
  const { link, socket } = start();
  const first = await link(0);
  expect(socket.type(new Uint8Array([1]))).toBe(false);
  first.accept();
  expect(first.sent).toEqual([]);
  expect(socket.type(new Uint8Array(100_000))).toBe(true);
  expect(first.sent.map((piece) => piece.length)).toEqual([32_768, 32_768, 32_768, 1_696]);
});

test("what the terminal answers is told apart from what is typed, and only while there is a connection", async () => {
  const { link, socket } = start();
  const first = await link(0);
  socket.answer("\x1b[0n");
  first.accept();
  socket.answer("\x1b[?1;2c");
  socket.answer("x".repeat(129));
  expect(first.sent).toEqual(['{"kind":"answer","text":"\\u001b[?1;2c"}']);
});

test("the size is told at once, and again to each new connection", async () => {
  const { link, socket } = start();
  socket.resize(100, 30);
  const first = (await link(0)).accept();
  socket.resize(90, 20);
  first.close();
  const second = (await link(1)).accept();
  expect([...first.sent, ...second.sent].map((one) => JSON.parse(String(one)))).toEqual([
    { kind: "resize", columns: 100, rows: 30 },
    { kind: "resize", columns: 90, rows: 20 },
    { kind: "resize", columns: 90, rows: 20 },
  ]);
});

test("sizes from the hive are taken, and messages of a later hive change nothing", async () => {
  const { link, log } = start();
  const first = (await link(0)).accept();
  first.tell({ kind: "resized", columns: 120, rows: 40 });
  first.tell({ kind: "resized", columns: -1, rows: "x" });
  first.tell({ kind: "something" });
  expect(log).toEqual(["connecting", "up", "size 120x40"]);
});

test("after closing nothing more is shown, and no connection is made", async () => {
  const { link, links, written, socket } = start({ fresh: true });
  const first = (await link(0)).accept();
  socket.close();
  first.write("late");
  await Promise.resolve();
  expect(first.readyState).toBe(CLOSED);
  expect(links).toHaveLength(1);
  expect(written).toEqual([]);
});
