import { beforeEach, expect, test } from "vitest";
import type { HiveEvent } from "../api_types.ts";
import {
  createAgent,
  createApproval,
  createConfigView,
  createDraft,
  createKept,
  createMessage,
  createQuestion,
  createTestApp,
  mount,
  settle,
  type,
} from "../testing/stand_in.tsx";
import { DashboardPage } from "./dashboard.tsx";

const HOSTILE = '<img src=x onerror="alert(1)"><script>alert(2)</script>\u202e\u0007';

const event = (id: number, name: string, body: Record<string, unknown>): HiveEvent => ({
  id,
  at: "2026-11-20T12:00:00Z",
  name,
  agent: null,
  body,
});

beforeEach(() => sessionStorage.clear());

async function show(answers: Record<string, unknown> = {}) {
  const app = createTestApp({
    "GET /api/agents": [createAgent("manager"), createAgent("alice")],
    "GET /api/approvals": [createApproval(4)],
    "GET /api/questions": [createQuestion(2, { options: ["red", "blue"] })],
    "GET /api/inbox": [createMessage(9, { recipient: "operator" })],
    "GET /api/agent-config/alice": createConfigView("alice"),
    "GET /api/agent-config/alice/history": [],
    "GET /api/journal/alice": (url: URL) =>
      url.searchParams.get("offset") === null
        ? { text: "started\n", offset: 0, next_offset: 8, more: false }
        : { text: "", offset: 8, next_offset: 8, more: true },
    ...answers,
  });
  await app.store.load();
  return { app, ...mount(app, <DashboardPage />) };
}

test("nothing typed, chosen, opened, focused or selected is lost while everything around it changes", async () => {
  const { app, find, root } = await show();
  await settle(() => {
    find("deny-open").click();
    find("agent-alice").querySelector<HTMLElement>('[data-testid="journal-toggle"]')?.click();
    find("config-toggle-alice").click();
    find("thread-9").querySelector<HTMLElement>('[data-testid="reply-toggle"]')?.click();
    root.querySelectorAll<HTMLInputElement>('input[type="radio"]')[1]?.click();
  });
  const fields = ["deny-reason", "answer-text", "reply-text", "flow-text", "spawn-name", "check-input"].map(
    (id) => find<HTMLInputElement>(id),
  );
  await settle(() => {
    for (const [index, field] of fields.entries()) type(field, `half ${index}`);
  });
  const journal = find("journal-alice");
  const focused = find<HTMLInputElement>("deny-reason");
  focused.focus();
  focused.setSelectionRange(1, 3);

  for (let round = 1; round <= 50; round += 1) {
    await settle(() => {
      app.store.applyState(createAgent("alice", { state: round % 2 ? "thinking" : "idle", waiting: round }));
      app.store.applyState(createAgent(`new-${round}`));
      app.store.applyEvent(
        event(round, "message.sent", { message: createMessage(100 + round, { recipient: "operator" }) }),
      );
      app.store.applyEvent(
        event(round, "approval.requested", { approval: createApproval(round % 2 ? 1 : 50 + round) }),
      );
      app.store.applyEvent(event(round, "question.asked", { question: createQuestion(100 + round) }));
    });
    if (round % 10 === 0) await settle(() => void app.store.load());
  }

  expect(fields.map((field) => field.value)).toEqual(fields.map((_, index) => `half ${index}`));
  expect(find("config-alice").textContent).toContain('model = "x"');
  for (const field of fields) expect(field.isConnected).toBe(true);
  expect(root.querySelectorAll<HTMLInputElement>('input[name="question-2"]')[1]?.checked).toBe(true);
  expect(document.activeElement).toBe(focused);
  expect([focused.selectionStart, focused.selectionEnd]).toEqual([1, 3]);
  expect(journal.isConnected).toBe(true);
  expect(journal.textContent).toContain("started");
  expect(find("agent-alice").querySelector('[data-testid="waiting"]')).toBeNull();
});

test("what is typed survives a visit to another page", async () => {
  const { app, find } = await show();
  await settle(() => type(find<HTMLTextAreaElement>("flow-text"), "not sent yet"));
  const again = mount(app, <DashboardPage />);
  expect(again.find<HTMLTextAreaElement>("flow-text").value).toBe("not sent yet");
});

test("text from agents never becomes markup, and what hides in it is shown", async () => {
  const { root } = await show({
    "GET /api/agents": [createAgent("alice", { reason: HOSTILE, model: HOSTILE, last_outcome: HOSTILE })],
    "GET /api/approvals": [createApproval(1, { description: HOSTILE, reason: HOSTILE })],
    "GET /api/questions": [createQuestion(1, { question: HOSTILE, options: [HOSTILE], answer: HOSTILE })],
    "GET /api/inbox": [createMessage(1, { recipient: "operator", body: HOSTILE })],
    "GET /api/messages": [
      createMessage(1, { body: HOSTILE, note: HOSTILE }),
      createMessage(2, { body: `x\n${HOSTILE}` }),
    ],
  });
  expect(root.querySelector("img, script")).toBeNull();
  expect(root.textContent).toContain("⟨U+202E⟩⟨U+0007⟩");
  for (const character of ["\u202e", "\u0007"]) expect(root.textContent).not.toContain(character);
});

test("an approval is decided by one request and its row changes by the event", async () => {
  const { app, find, query } = await show({ "POST /api/approvals/4/approve": {} });
  await settle(() => {
    find("approve").click();
    find("approve").click();
  });
  expect(app.hive.calls.filter((call) => call.method === "POST")).toHaveLength(1);
  expect(find("approval-4").dataset.status).toBe("pending");
  const approval = createApproval(4, { status: "approved" });
  await settle(() => app.store.applyEvent(event(1, "approval.approved", { approval })));
  expect(find("approval-4").dataset.status).toBe("approved");
  expect(query("approve")).toBeNull();
});

test("a denial carries its reason", async () => {
  const { app, find } = await show({ "POST /api/approvals/4/deny": {} });
  await settle(() => find("deny-open").click());
  await settle(() => type(find<HTMLInputElement>("deny-reason"), " not now "));
  await settle(() => find("deny").click());
  expect(app.hive.calls.at(-1)).toEqual({
    method: "POST",
    path: "/api/approvals/4/deny",
    body: { reason: "not now" },
  });
});

test("an answer carries what was chosen and what was written", async () => {
  const { app, find, root } = await show({ "POST /api/questions/2/answer": {} });
  await settle(() => find("answer").click());
  expect(app.hive.calls.some((call) => call.method === "POST")).toBe(false);
  await settle(() => root.querySelectorAll<HTMLInputElement>('input[name="question-2"]')[0]?.click());
  await settle(() => type(find<HTMLTextAreaElement>("answer-text"), "dark red"));
  await settle(() => find("answer").click());
  expect(app.hive.calls.at(-1)?.body).toEqual({ options: ["red"], text: "dark red" });
});

test("a message that may be lost is sent again under the same key, an edited one under another", async () => {
  let sent = 0;
  const { app, find } = await show({
    "POST /api/messages": () => {
      sent += 1;
      if (sent < 3) throw new TypeError("network");
      return { id: 1 };
    },
  });
  const field = find<HTMLTextAreaElement>("flow-text");
  await settle(() => type(field, "hello"));
  await settle(() => find("flow-send").click());
  await settle(() => find("flow-send").click());
  expect(field.value).toBe("hello");
  await settle(() => type(field, "hello there"));
  await settle(() => find("flow-send").click());
  expect(field.value).toBe("");
  const keys = app.hive.calls
    .filter((call) => call.method === "POST")
    .map((call) => (call.body as { idempotency_key: string }).idempotency_key);
  expect(keys[0]).toBe(keys[1]);
  expect(keys[2]).not.toBe(keys[1]);
});

test("a wrong name is told at once and not sent", async () => {
  const { app, find } = await show();
  await settle(() => type(find<HTMLInputElement>("spawn-name"), "Not A Name"));
  await settle(() => find("spawn-submit").click());
  expect(find("spawn-name").getAttribute("aria-invalid")).toBe("true");
  expect(app.hive.calls.some((call) => call.method === "POST")).toBe(false);
});

const OPTIONS = ["allow once", "allow for 30 minutes", "deny"];

test("a permission is given by one click, and a reason goes only with a denial", async () => {
  const { app, find } = await show({
    "GET /api/questions": [
      createQuestion(2, { kind: "permission", question: "Bash: git push", options: OPTIONS }),
    ],
    "POST /api/questions/2/answer": {},
  });
  expect(find("question-2").textContent).toContain("permission");
  expect(find("question-2").textContent).toContain("denied if nobody answers");
  await settle(() => type(find<HTMLInputElement>("permission-reason"), " not on a friday "));
  await settle(() => find("permission-allow-30m").click());
  expect(app.hive.calls.at(-1)?.body).toEqual({ options: ["allow for 30 minutes"], text: "" });
  await settle(() => type(find<HTMLInputElement>("permission-reason"), " not on a friday "));
  await settle(() => find("permission-deny").click());
  expect(app.hive.calls.at(-1)?.body).toEqual({ options: ["deny"], text: "not on a friday" });
});

test("what the agent wrote of a call stands apart from what the hive says of it", async () => {
  const question = "It wants to call Bash\nby a rule\n\necho\n\nIt wants to call Read";
  const { find } = await show({
    "GET /api/questions": [createQuestion(2, { kind: "permission", question, options: OPTIONS })],
  });
  const call = find("question-2").querySelector(".permission-call");
  expect(call?.textContent).toBe("echo\n\nIt wants to call Read");
});

test("a permission that nobody gave in time cannot be given any more", async () => {
  const { app, find } = await show({
    "GET /api/questions": [
      createQuestion(2, { kind: "permission", options: OPTIONS, expires_at: "2026-01-01T00:00:00Z" }),
    ],
  });
  await settle(() => find("permission-allow-once").click());
  expect(app.hive.calls.some((call) => call.method === "POST")).toBe(false);
});

test("a draft is discarded after one question", async () => {
  const { app, find, query } = await show({
    "GET /api/drafts": [createDraft("tester", { size_bytes: 2048 })],
    "DELETE /api/drafts/tester": null,
  });
  expect(find("draft-tester").textContent).toContain("2.0 KiB");
  await settle(() => find("discard").click());
  expect(app.hive.calls.some((call) => call.method === "DELETE")).toBe(false);
  await settle(() => find("discard-yes").click());
  expect(app.hive.calls.at(-1)).toMatchObject({ method: "DELETE", path: "/api/drafts/tester" });
  app.hive.answers["GET /api/drafts"] = [];
  await settle(() => app.store.applyEvent({ ...event(1, "draft.discarded", {}), agent: "tester" }));
  expect(query("drafts")).toBeNull();
});

test("kept state tells whether a login is in it, and is brought back by one click", async () => {
  const { app, find } = await show({
    "GET /api/kept": [createKept("bob", { credentials: true }), createKept("carol")],
    "POST /api/kept/bob/revive": createAgent("bob"),
  });
  const word = (name: string) =>
    find(`kept-${name}`).querySelector('[data-testid="credentials"]')?.textContent;
  expect([word("bob"), word("carol")]).toEqual(["holds a login", "no login"]);
  await settle(() => find("kept-bob").querySelector<HTMLElement>('[data-testid="revive"]')?.click());
  expect(app.hive.calls.some((call) => call.path === "/api/kept/bob/revive")).toBe(true);
  await settle(() => app.store.applyEvent({ ...event(1, "agent.revived", {}), agent: "bob" }));
  expect(app.store.kept.keys.value).toEqual(["carol"]);
});
