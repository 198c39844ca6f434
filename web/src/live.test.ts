import { afterEach, expect, test, vi } from "vitest";
import type { TranscriptEvent } from "./api_types.ts";
import { startLive } from "./live.ts";
import { createEvent } from "./testing/recordings.ts";
import { createAgent, createMessage, createTestApp } from "./testing/stand_in.tsx";

let stop = () => {};
afterEach(() => stop());

/** A page on a stand-in hive whose stream says what `say` is given. */
function start(agent?: string) {
  let write: (text: string) => void = () => {};
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      write = (text) => controller.enqueue(new TextEncoder().encode(text));
    },
  });
  const app = createTestApp({ "GET /api/stream": () => new Response(body) });
  const transcript: TranscriptEvent[] = [];
  let ups = 0;
  stop = startLive({
    ...app,
    fetch: app.hive.fetch,
    onSignedOut: () => {},
    ...(agent && {
      agent,
      transcript: { onEvents: (events) => transcript.push(...events), onUp: () => ups++ },
    }),
  });
  const say = (name: string, data: unknown) => write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  const loads = () => app.hive.calls.filter((call) => call.path === "/api/agents").length;
  return { app, say, transcript, loads, ups: () => ups };
}

test("everything is fetched when the connection is up, and what happens from then on is applied", async () => {
  const { app, say } = start();
  await vi.waitFor(() => expect(app.store.loaded.value).toBe(true));
  expect(app.connection.value.state).toBe("up");
  say("state", createAgent("alice"));
  say("hive", { id: 1, at: "", name: "message.sent", agent: null, body: { message: createMessage(5) } });
  say("constructor", {});
  await vi.waitFor(() => expect(app.store.flow.keys.value).toEqual([5]));
  expect(app.store.agents.keys.value).toEqual(["alice"]);
});

test("a resync fetches everything anew, the transcript too", async () => {
  const { say, loads, ups } = start("alice");
  await vi.waitFor(() => expect(loads()).toBe(1));
  say("resync", {});
  await vi.waitFor(() => expect(loads()).toBe(2));
  expect(ups()).toBe(2);
});

test("only the transcript of the agent shown is taken", async () => {
  const { app, say, transcript } = start("alice");
  say("transcript", { agent: "bob", ...createEvent(1, "notice", {}) });
  say("transcript", { agent: "alice", ...createEvent(2, "notice", {}) });
  await vi.waitFor(() => expect(transcript.map((event) => event.seq)).toEqual([2]));
  expect(app.hive.calls.some((call) => call.path === "/api/stream?agent=alice")).toBe(true);
});
