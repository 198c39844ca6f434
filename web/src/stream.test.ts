import { afterEach, expect, test, vi } from "vitest";
import type { ServerEvent } from "./sse.ts";
import { openStream, type Stream } from "./stream.ts";

/** One connection of a stand-in server: what it was asked with, and a way to write to it or end it. */
class Link {
  readonly lastId: string | null;
  readonly signal: AbortSignal;
  private controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(init: RequestInit) {
    this.lastId = new Headers(init.headers).get("Last-Event-ID");
    this.signal = init.signal as AbortSignal;
  }

  accept(): Response {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.controller = controller;
        this.signal.addEventListener("abort", () => controller.error(new Error("aborted")));
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  write(text: string): void {
    this.controller?.enqueue(new TextEncoder().encode(text));
  }

  cut(): void {
    this.controller?.error(new Error("connection reset"));
  }
}

let stream: Stream | undefined;
afterEach(() => stream?.close());

/** A stream on a server that answers each connection by the next of `answers`, then by accepting. */
function start(answers: ((link: Link) => Response)[] = [], silenceLimitMs = 60_000) {
  const links: Link[] = [];
  const log: string[] = [];
  stream = openStream({
    url: "/api/stream",
    silenceLimitMs,
    pause: async () => void log.push("pause"),
    fetch: (async (_input: unknown, init: RequestInit) => {
      const link = new Link(init);
      links.push(link);
      return (answers.shift() ?? ((l: Link) => l.accept()))(link);
    }) as typeof fetch,
    onUp: (resumed) => void log.push(resumed ? "resumed" : "up"),
    onDown: () => void log.push("down"),
    onSignedOut: () => void log.push("signed out"),
    onEvents: (events: ServerEvent[]) => void log.push(...events.map((e) => `${e.name} ${e.data}`)),
  });
  const link = (index: number) =>
    vi.waitFor(() => links[index] ?? Promise.reject(new Error("no connection yet")));
  const logged = (...lines: string[]) => vi.waitFor(() => expect(log).toEqual(lines));
  return { link, links, log, logged };
}

test("a lost connection is told, made anew and resumed after the last event seen", async () => {
  const { link, logged } = start();
  const first = await link(0);
  expect(first.lastId).toBeNull();
  first.write("id: 7:0\nevent: hive\ndata: a\n\n");
  await logged("up", "hive a");
  first.cut();
  const second = await link(1);
  expect(second.lastId).toBe("7:0");
  second.write("id: 8:0\nevent: hive\ndata: b\n\n");
  await logged("up", "hive a", "down", "pause", "resumed", "hive b");
});

test("half an event before the cut is neither told nor counted as seen", async () => {
  const { link, logged } = start();
  const first = await link(0);
  first.write("id: 7:0\n: welcome\n\nid: 8:0\nevent: hive\ndata: a\n");
  await logged("up");
  await new Promise((resolve) => setTimeout(resolve, 0));
  first.cut();
  expect((await link(1)).lastId).toBe("7:0");
});

test("a server that refuses connections is asked again until it is back", async () => {
  const refuse = () => {
    throw new TypeError("connection refused");
  };
  const { logged } = start([refuse, () => new Response(null, { status: 503 }), refuse]);
  await logged("down", "pause", "down", "pause", "down", "pause", "up");
});

test("an id the hive refuses is given up instead of being asked for for ever", async () => {
  const { link } = start([(l) => l.accept(), () => new Response(null, { status: 400 })]);
  const first = await link(0);
  first.write("id: 7:0\n: welcome\n\n");
  await new Promise((resolve) => setTimeout(resolve, 0));
  first.cut();
  expect((await link(1)).lastId).toBe("7:0");
  expect((await link(2)).lastId).toBeNull();
});

test("a 401 ends the stream and asks for a login", async () => {
  const { links, logged } = start([() => new Response(null, { status: 401 })]);
  await logged("down", "signed out");
  expect(links).toHaveLength(1);
});

test("a connection on which even the keep-alive is missing is taken for dead; comments keep it alive", async () => {
  const { link, links, logged } = start([], 80);
  const first = await link(0);
  const beats = setInterval(() => first.write(": alive\n\n"), 10);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(links).toHaveLength(1);
  clearInterval(beats);
  await link(1);
  expect(first.signal.aborted).toBe(true);
  await logged("up", "down", "pause", "up");
});

test("after close nothing is told and nothing is asked", async () => {
  const { link, links, log } = start();
  const first = await link(0);
  stream?.close();
  await new Promise((resolve) => setTimeout(resolve, 0));
  expect(first.signal.aborted).toBe(true);
  expect(links).toHaveLength(1);
  expect(log).toEqual(["up"]);
});
