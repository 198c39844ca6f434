import { effect } from "@preact/signals";
import { expect, test } from "vitest";
import type { HiveEvent } from "./api_types.ts";
import {
  createAgent,
  createApproval,
  createDraft,
  createKept,
  createMessage,
  createPark,
  createQuestion,
  createTestApp,
} from "./testing/stand_in.tsx";

let nextId = 1;
const event = (name: string, agent: string | null, body: Record<string, unknown> = {}): HiveEvent => ({
  id: nextId++,
  at: "2026-11-20T12:00:00Z",
  name,
  agent,
  body,
});

test("a load fills the tables, the manager first", async () => {
  const { store } = createTestApp({
    "GET /api/agents": [createAgent("alice"), createAgent("manager")],
    "GET /api/approvals": [createApproval(2)],
  });
  await store.load();
  expect(store.agents.keys.value).toEqual(["manager", "alice"]);
  expect(store.approvals.find(2)?.agent).toBe("researcher");
  expect(store.loaded.value).toBe(true);
});

test("a failed load is told and keeps what was there", async () => {
  const { store, hive } = createTestApp({ "GET /api/agents": [createAgent("alice")] });
  await store.load();
  hive.answers["GET /api/kept"] = Response.json({ code: "x", message: "no disk", hint: "" }, { status: 500 });
  await store.load();
  expect(store.loadError.value).toBe("no disk");
  expect(store.agents.keys.value).toEqual(["alice"]);
});

test("an event that comes during a load is applied on top of the older answer", async () => {
  const { store } = createTestApp({ "GET /api/approvals": [createApproval(1)] });
  const loading = store.load();
  store.applyEvent(event("approval.approved", "x", { approval: createApproval(1, { status: "approved" }) }));
  store.applyState(createAgent("bob"));
  await loading;
  expect(store.approvals.find(1)?.status).toBe("approved");
  expect(store.agents.keys.value).toEqual(["bob"]);
});

test("a question between agents is none of the operator's", async () => {
  const { store } = createTestApp();
  await store.load();
  store.applyEvent(event("question.asked", "alice", { question: createQuestion(1, { asked: "bob" }) }));
  store.applyEvent(event("question.asked", "alice", { question: createQuestion(2) }));
  expect(store.questions.keys.value).toEqual([2]);
});

test("what happens to messages is told to the flow, the inbox and the lists that are followed", async () => {
  const { store } = createTestApp();
  const thread = store.createMessages({ thread: 5 });
  const unfollow = store.follow(thread);
  await store.load();
  store.applyEvent(event("message.sent", null, { message: createMessage(5, { recipient: "operator" }) }));
  store.applyEvent(event("message.acked", null, { ids: [5, 99], state: "acked" }));
  for (const list of [store.flow, store.inbox, thread]) expect(list.find(5)?.state).toBe("acked");
  unfollow();
  store.applyEvent(event("message.sent", null, { message: createMessage(6, { thread: 5 }) }));
  expect(store.flow.keys.value).toEqual([6, 5]);
  expect([store.inbox.keys.value, thread.keys.value]).toEqual([[5], [5]]);
});

test("a list of somebody's own that cannot be fetched does not fail the load", async () => {
  const { store } = createTestApp({
    "GET /api/messages": (url: URL) =>
      url.searchParams.has("search")
        ? Response.json({ code: "x", message: "no such words", hint: "" }, { status: 400 })
        : [],
  });
  const found = store.createMessages({ search: '"' });
  store.follow(found);
  await store.load();
  expect(store.loadError.value).toBe("");
  expect(found.error.value).toBe("no such words");
});

test("a destroyed agent leaves and its kept state shows", async () => {
  const kept = [createKept("alice")];
  const { store, hive } = createTestApp({ "GET /api/agents": [createAgent("alice")] });
  await store.load();
  hive.answers["GET /api/kept"] = kept;
  store.applyEvent(event("agent.destroyed", "alice"));
  await new Promise((resolve) => setTimeout(resolve, 0));
  expect(store.agents.keys.value).toEqual([]);
  expect(store.kept.keys.value).toEqual(["alice"]);
});

test("an approval that ended unseen leaves with the next load, one that ended in view stays to be read", async () => {
  const { store, hive } = createTestApp({ "GET /api/approvals": [createApproval(1), createApproval(2)] });
  await store.load();
  store.applyEvent(event("approval.denied", "x", { approval: createApproval(2, { status: "denied" }) }));
  hive.answers["GET /api/approvals"] = [];
  await store.load();
  expect(store.approvals.keys.value).toEqual([2]);
});

test("an update wakes only what shows that row, and an equal row wakes nothing", () => {
  const { store } = createTestApp();
  store.agents.put(createAgent("alice"), createAgent("bob"));
  const seen: string[] = [];
  effect(() => void seen.push(`alice ${store.agents.cell("alice")?.value.state}`));
  effect(() => void seen.push(`bob ${store.agents.cell("bob")?.value.state}`));
  effect(() => void seen.push(`keys ${store.agents.keys.value.length}`));
  seen.length = 0;
  store.agents.reset([createAgent("alice"), createAgent("bob", { state: "thinking" })]);
  expect(seen).toEqual(["bob thinking"]);
});

test("an event of a later version changes nothing", () => {
  const { store } = createTestApp();
  store.applyEvent(event("weather.changed", null));
  store.applyEvent(event("message.sent", null, { id: 3 }));
  expect(store.flow.keys.value).toEqual([]);
});

const answered = () => new Promise((resolve) => setTimeout(resolve, 0));

test("what is approved or being built is there after a load, and each approval once", async () => {
  const byStatus: Record<string, unknown> = {
    pending: [createApproval(1), createApproval(2)],
    approved: [createApproval(2, { status: "approved" })],
    building: [createApproval(3, { status: "building" })],
  };
  const { store } = createTestApp({
    "GET /api/approvals": (url: URL) => byStatus[url.searchParams.get("status") ?? ""],
  });
  await store.load();
  expect(store.approvals.rows().map((row) => [row.id, row.status])).toEqual([
    [1, "pending"],
    [2, "approved"],
    [3, "building"],
  ]);
});

test("a draft shows when it is made, and goes when it is discarded or spawned", async () => {
  const { store, hive } = createTestApp();
  await store.load();
  hive.answers["GET /api/drafts"] = [createDraft("bob"), createDraft("carol")];
  store.applyEvent(event("draft.created", "bob"));
  await answered();
  expect(store.drafts.keys.value).toEqual(["bob", "carol"]);
  hive.answers["GET /api/drafts"] = [createDraft("carol")];
  store.applyEvent(event("draft.discarded", "bob"));
  expect(store.drafts.keys.value).toEqual(["carol"]);
  await answered();
  store.applyEvent(event("agent.spawned", "carol"));
  expect(store.drafts.keys.value).toEqual([]);
});

test("a draft that is asked for shows what it has become", async () => {
  const { store, hive } = createTestApp();
  await store.load();
  hive.answers["GET /api/drafts"] = [createDraft("bob", { size_bytes: 4096 })];
  store.applyEvent(
    event("approval.requested", "bob", { approval: createApproval(1, { kind: "spawn", agent: "bob" }) }),
  );
  await answered();
  expect(store.drafts.find("bob")?.size_bytes).toBe(4096);
});

test("an answer that was under way when a draft went does not bring it back", async () => {
  const { store, hive } = createTestApp();
  await store.load();
  let release: (rows: unknown) => void = () => {};
  hive.answers["GET /api/drafts"] = () => new Promise((resolve) => (release = resolve));
  store.applyEvent(event("draft.created", "bob"));
  await answered();
  hive.answers["GET /api/drafts"] = [];
  store.applyEvent(event("draft.discarded", "bob"));
  release([createDraft("bob")]);
  await answered();
  await answered();
  expect(store.drafts.keys.value).toEqual([]);
});

test("a revived agent is no kept state any more", async () => {
  const { store } = createTestApp({ "GET /api/kept": [createKept("alice")] });
  await store.load();
  store.applyEvent(event("agent.revived", "alice"));
  expect(store.kept.keys.value).toEqual([]);
});

test("what ended in failure brings the error to the agent's row, and leaves its state alone", async () => {
  const { store, hive } = createTestApp({ "GET /api/agents": [createAgent("alice")] });
  await store.load();
  hive.answers["GET /api/agents"] = [createAgent("alice", { config_error: "no jq", state: "idle" })];
  store.applyState(createAgent("alice", { state: "thinking" }));
  const approval = createApproval(4, { agent: "alice", kind: "apply", status: "failed" });
  store.applyEvent(event("approval.failed", "alice", { approval }));
  await answered();
  expect(store.agents.find("alice")).toMatchObject({ state: "thinking", config_error: "no jq" });
});

test("what is fetched on request is told of by approvals, configs and loads", async () => {
  const { store } = createTestApp();
  const epoch = store.epochs.of("alice");
  const seen: number[] = [];
  effect(() => void seen.push(epoch.value));
  store.applyEvent(event("approval.requested", "alice", { approval: createApproval(1, { agent: "alice" }) }));
  store.applyEvent(event("agent.configured", "alice", { commit: "c" }));
  store.applyEvent(event("agent.configured", "bob", { commit: "c" }));
  await store.load();
  expect(seen).toEqual([0, 1, 2, 3]);
});

test("a park that is told of brings the reason to the row, and the hive's to the page", async () => {
  const { store, hive } = createTestApp({ "GET /api/agents": [createAgent("alice")] });
  await store.load();
  const park = createPark("paused", { hive: true });
  hive.answers["GET /api/agents"] = [createAgent("alice", { park, state: "idle" })];
  hive.answers["GET /api/hive"] = { ...store.hive.value, park };
  store.applyState(createAgent("alice", { state: "thinking" }));
  store.applyEvent(event("agent.parked", null));
  await answered();
  expect(store.agents.find("alice")).toMatchObject({ state: "thinking", park: { kind: "paused" } });
  expect(store.hive.value?.park?.kind).toBe("paused");
  hive.answers["GET /api/agents"] = [createAgent("alice")];
  store.applyEvent(event("agent.resumed", "alice"));
  await answered();
  expect(store.agents.find("alice")?.park).toBeNull();
  // The whole hive's is not asked for when only one agent goes on.
  expect(store.hive.value?.park?.kind).toBe("paused");
});

test("an answer from before an agent went on does not park it again", async () => {
  const { store, hive } = createTestApp({ "GET /api/agents": [createAgent("alice")] });
  await store.load();
  let release: (rows: unknown) => void = () => {};
  hive.answers["GET /api/agents"] = () => new Promise((resolve) => (release = resolve));
  store.applyEvent(event("agent.parked", "alice"));
  await answered();
  hive.answers["GET /api/agents"] = [createAgent("alice")];
  store.applyEvent(event("agent.resumed", "alice"));
  release([createAgent("alice", { park: createPark("limit") })]);
  await answered();
  await answered();
  expect(store.agents.find("alice")?.park).toBeNull();
});

test("notes, reminders and budgets are each told of by their own events, and by a load", async () => {
  const { store } = createTestApp();
  const seen: string[] = [];
  effect(() => void seen.push(`notes ${store.notesEpochs.of("alice").value}`));
  effect(() => void seen.push(`reminders ${store.reminderEpochs.of("alice").value}`));
  effect(() => void seen.push(`budget ${store.budgetEpochs.of("*").value}`));
  seen.length = 0;
  store.applyEvent(event("notes.changed", "alice"));
  store.applyEvent(event("notes.changed", "bob"));
  store.applyEvent(event("reminder.sent", "alice"));
  store.applyEvent(event("budget.granted", "alice"));
  expect(seen).toEqual(["notes 1", "reminders 1", "budget 1"]);
  await store.load();
  expect(seen.slice(3).sort()).toEqual(["budget 2", "notes 2", "reminders 2"]);
});
