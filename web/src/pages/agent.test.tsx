import { beforeEach, expect, test } from "vitest";
import { createEvent, loadRecording } from "../testing/recordings.ts";
import { createAgent, createTestApp, mount, settle, type } from "../testing/stand_in.tsx";
import { createTranscriptFeed } from "../transcript/feed.ts";
import { WINDOW_ROWS } from "../transcript/window.ts";
import { AgentPage } from "./agent.tsx";

beforeEach(() => sessionStorage.clear());

async function show(answers: Record<string, unknown> = {}) {
  const app = createTestApp({
    "GET /api/agents": [createAgent("alice", { state: "thinking" })],
    "GET /api/agents/alice/transcript": loadRecording("parallel"),
    ...answers,
  });
  await app.store.load();
  const feed = createTranscriptFeed(app.store.api, "alice");
  const page = mount(app, <AgentPage name="alice" feed={feed} />);
  await settle(feed.onUp);
  return { app, feed, ...page };
}

const press = (field: HTMLElement, key: string, init: KeyboardEventInit = {}) =>
  settle(
    () =>
      void field.dispatchEvent(
        new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...init }),
      ),
  );

test("the transcript of a recording shows its calls on one line each, and new rows come live", async () => {
  const { feed, root } = await show();
  expect(root.querySelectorAll('[data-testid="row-tool"]')).toHaveLength(4);
  await settle(() => feed.onEvents([createEvent(17, "notice", { text: "fresh" })]));
  expect(root.querySelector('[data-testid="row-notice"]')?.textContent).toBe("fresh");
});

test("an open fold stays open while rows come", async () => {
  const { feed, root } = await show();
  const details = root.querySelector<HTMLDetailsElement>('[data-testid="row-tool"] details');
  if (details === null) throw new Error("no fold");
  await settle(() => {
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
  });
  expect(details.textContent).toContain("echo a");
  for (let seq = 17; seq < 60; seq += 1)
    await settle(() => feed.onEvents([createEvent(seq, "notice", { text: "more" })]));
  expect(details.open).toBe(true);
  expect(details.isConnected).toBe(true);
});

test("a long transcript never has more rows in the page than the window", async () => {
  const { feed, root } = await show();
  const many = Array.from({ length: 3000 }, (_, i) => createEvent(17 + i, "notice", { text: `${i}` }));
  await settle(() => feed.onEvents(many));
  const rows = root.querySelectorAll(".t-row");
  expect(rows.length).toBe(WINDOW_ROWS);
  expect(rows[rows.length - 1]?.textContent).toBe("2999");
});

test("enter sends what is typed, shift+enter and an unfinished composition do not", async () => {
  const { app, find } = await show({ "POST /api/messages": { id: 3 } });
  const field = find<HTMLTextAreaElement>("prompt-text");
  await settle(() => type(field, "hello"));
  await press(field, "Enter", { shiftKey: true });
  await press(field, "Enter", { isComposing: true });
  expect(app.hive.calls.some((call) => call.method === "POST")).toBe(false);
  await press(field, "Enter");
  expect(app.hive.calls.at(-1)?.body).toMatchObject({ to: "alice", body: "hello" });
  expect(field.value).toBe("");
});

test("commands are not sent as messages; an unknown one is refused and stays typed", async () => {
  const { app, find, query } = await show({ "POST /api/agents/alice/cancel": { cancelled: true } });
  const field = find<HTMLTextAreaElement>("prompt-text");
  await settle(() => type(field, "/help"));
  await press(field, "Enter");
  expect(query("prompt-help")).not.toBeNull();
  await settle(() => type(field, "/cancel"));
  await press(field, "Enter");
  expect(app.hive.calls.at(-1)?.path).toBe("/api/agents/alice/cancel");
  await settle(() => type(field, "/nope"));
  await press(field, "Enter");
  expect(field.value).toBe("/nope");
  expect(app.toasts.list.value.at(-1)?.kind).toBe("error");
  expect(app.hive.calls.some((call) => call.path === "/api/messages" && call.method === "POST")).toBe(false);
});

test("a turn can be cancelled while the agent thinks, and only then", async () => {
  const { app, query } = await show();
  expect(query("cancel-turn")).not.toBeNull();
  await settle(() => app.store.applyState(createAgent("alice", { state: "idle" })));
  expect(query("cancel-turn")).toBeNull();
});

test("an agent that is not there is said to be so", async () => {
  const { find } = await show({ "GET /api/agents": [], "GET /api/agents/alice/transcript": [] });
  expect(find("agent-missing").textContent).toContain("no agent called alice");
});
