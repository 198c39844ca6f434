import { beforeEach, expect, test } from "vitest";
import type { HiveEvent, Need, Question } from "../api_types.ts";
import { AgentPage } from "../pages/agent.tsx";
import { DashboardPage } from "../pages/dashboard.tsx";
import { navigate } from "../route.ts";
import {
  createAgent,
  createApproval,
  createNeed,
  createQuestion,
  createTestApp,
  mount,
  settle,
  type,
} from "../testing/stand_in.tsx";
import { createTranscriptFeed } from "../transcript/feed.ts";

const LATER = "2099-01-01T00:00:00Z";
const HOSTILE = '<img src=x onerror="alert(1)">\u202e\u0007';

beforeEach(() => {
  sessionStorage.clear();
  history.replaceState(null, "", "/");
  navigate("/");
  document.title = "";
});

const ask = (id: number, change: Partial<Need> = {}) =>
  createNeed("question", String(id), { acts: ["answer"], deadline: LATER, ...change });

async function show(needs: Need[], answers: Record<string, unknown> = {}) {
  const app = createTestApp({
    "GET /api/agents": [createAgent("manager"), createAgent("alice")],
    "GET /api/needs": needs,
    ...answers,
  });
  await app.store.load();
  const page = mount(app, <DashboardPage />);
  await settle();
  const rows = () =>
    [...page.find("needs").querySelectorAll<HTMLElement>("li.need")].map((row) => row.dataset.testid);
  const become = (changed: Need[]) => {
    app.hive.answers["GET /api/needs"] = changed;
    return settle(() => app.store.applyNeeds());
  };
  const lastPost = () => app.hive.calls.findLast(({ method }) => method === "POST");
  return { app, ...page, rows, become, lastPost };
}

const point = (element: HTMLElement, name: "pointerenter" | "pointerleave") =>
  element.dispatchEvent(new Event(name));

test("nothing needs you is said in words, and the title has no number", async () => {
  const { find } = await show([]);
  expect(find("needs").textContent).toContain("nothing needs you");
  expect(find("needs").querySelector("h2")?.getAttribute("aria-label")).toBe("needs you");
  expect(document.title).toBe("hyperhive");
  expect(find("needs-count").textContent).toBe("");
});

test("each row tells what waits, since when, until when, and what happens if nobody acts", async () => {
  const { find } = await show([
    ask(2, { title: "alice asks you a question", by_default: "it expires", detail: "which?" }),
  ]);
  const row = find("need-question-2");
  for (const words of [
    "question",
    "alice asks you a question",
    "left",
    "if you do nothing: it expires",
    "which?",
  ])
    expect(row.textContent).toContain(words);
  expect(row.id).toBe("need-question-2");
  expect(row.querySelector('[role="timer"]')).not.toBeNull();
});

test("the number is in the title of every page and told to screen readers", async () => {
  const { app, find, become } = await show([ask(1), createNeed("crash", "alice")]);
  expect(document.title).toBe("(2) hyperhive");
  expect(find("needs-count").textContent).toBe("2 need you");
  expect(find("needs-count").getAttribute("role")).toBe("status");
  const feed = createTranscriptFeed(app.store.api, "alice");
  const agent = mount(app, <AgentPage name="alice" feed={feed} />);
  await settle();
  expect(document.title).toBe("(2) alice · hyperhive");
  expect(agent.find("needs-count").querySelector("a")?.getAttribute("href")).toBe("/#needs");
  await become([ask(1)]);
  expect(document.title).toBe("(1) alice · hyperhive");
  expect(agent.find("needs-count").textContent).toBe("1 needs you");
  await become([]);
  expect(document.title).toBe("alice · hyperhive");
});

test("the most urgent stands first, as the hive sorts them", async () => {
  const soon = ask(3, { deadline: "2098-01-01T00:00:00Z" });
  const old = createNeed("crash", "bob", { since: "2026-01-01T00:00:00Z" });
  const { rows } = await show([createNeed("crash", "alice"), old, ask(2), soon]);
  expect(rows()).toEqual(["need-question-3", "need-question-2", "need-crash-bob", "need-crash-alice"]);
});

const PERMISSION = ["allow once", "allow for 30 minutes", "deny"];

/** One of each kind that is asked in a section of its own, with its line in the queue. */
const ALL_ASKED = [
  createNeed("approval", "4", { acts: ["approve", "deny"], title: "a change waits", detail: "do\nthis" }),
  ask(2, { title: "alice asks you a question", detail: "which\n\ncolour?" }),
  createNeed("permission", "3", { acts: ["answer"], deadline: LATER, title: "alice waits for your word" }),
  createNeed("notes", "5", { acts: ["answer"], deadline: LATER, title: "a rewrite waits" }),
];
const ALL_ROWS = {
  "GET /api/approvals": (url: URL) =>
    url.searchParams.get("status") === "pending" ? [createApproval(4, { commit: "c".repeat(40) })] : [],
  "GET /api/questions": [
    createQuestion(2, { options: ["red", "blue"] }),
    createQuestion(3, { kind: "permission", question: "call Bash?\n\nls", options: PERMISSION }),
    createQuestion(5, { kind: "notes", options: ["apply", "keep the old"] }),
  ],
};

test("what has a section of its own is asked there and nowhere else on the page", async () => {
  const { find, root } = await show(ALL_ASKED, ALL_ROWS);
  expect(find("needs").querySelector("input, textarea, button")).toBeNull();
  const forms = [...root.querySelectorAll(".decision, .answer")];
  expect(forms.map((form) => form.closest("li")?.id)).toEqual([
    "need-question-2",
    "need-permission-3",
    "need-notes-5",
    "need-approval-4",
  ]);
  const ids = [...root.querySelectorAll("[id]")].map((element) => element.id);
  expect(new Set(ids).size).toBe(ids.length);
});

test("its row in the queue is a line that says who asks what until when, and leads to the form", async () => {
  const { find } = await show(ALL_ASKED, ALL_ROWS);
  const row = find("need-question-2");
  for (const words of ["alice asks you a question", "which colour?", "left"])
    expect(row.textContent).toContain(words);
  const go = row.querySelector<HTMLElement>('[data-testid="need-go"]');
  expect(go?.getAttribute("href")).toBe("/#need-question-2");
  expect(go?.getAttribute("aria-label")).toBe("answer: alice asks you a question");
  await settle(() => go?.click());
  expect(document.activeElement?.closest("li")).toBe(find("question-2"));
  // Again, from wherever one went meanwhile.
  find("spawn-name").focus();
  go?.focus();
  await settle(() => go?.click());
  expect(document.activeElement?.closest("li")).toBe(find("question-2"));
});

test.each([
  ["question-2", "question-2", "red"],
  ["notes-5", "question-5", "apply"],
])("the address of %s has the focus in the first control of its form", async (key, row, option) => {
  navigate(`/#need-${key}`);
  const { find } = await show(ALL_ASKED, ALL_ROWS);
  expect(document.activeElement?.closest("li")).toBe(find(row));
  expect(document.activeElement?.parentElement?.textContent).toBe(option);
});

test("the address of a question without options has the focus in the field", async () => {
  navigate("/#need-question-2");
  const { find } = await show([ask(2)], { "GET /api/questions": [createQuestion(2)] });
  expect(document.activeElement).toBe(find("answer-text"));
});

// A key that was meant for something else must not decide.
test.each([
  ["permission-3", "question-3"],
  ["approval-4", "approval-4"],
])("the address of %s has the focus at its row, not on a button that decides", async (key, row) => {
  navigate(`/#need-${key}`);
  const { find } = await show(ALL_ASKED, ALL_ROWS);
  expect(document.activeElement).toBe(find(row));
});

test("whoever is brought to an approval sees its change, also where those are folded", async () => {
  const approvals = Array.from({ length: 12 }, (_, index) => createApproval(index + 1));
  const { find, query } = await show([createNeed("approval", "12", { acts: ["approve", "deny"] })], {
    "GET /api/approvals": (url: URL) => (url.searchParams.get("status") === "pending" ? approvals : []),
  });
  expect(query("review-12")).toBeNull();
  await settle(() => find("need-go").click());
  expect(find("review-12").closest("li")).toBe(document.activeElement);
});

test("a question that comes later than the page is gone to when it is there", async () => {
  navigate("/#need-question-2");
  const { app, find } = await show([]);
  const question = createQuestion(2);
  await settle(() =>
    app.store.applyEvent({ id: 1, at: LATER, name: "question.asked", agent: "alice", body: { question } }),
  );
  expect(document.activeElement).toBe(find("answer-text"));
});

test("a line whose question is not on the page leads nowhere and is gone to itself", async () => {
  navigate("/#need-question-2");
  const { find, query } = await show([ask(2)]);
  expect(query("need-go")).toBeNull();
  expect(document.activeElement).toBe(find("need-question-2"));
});

test("a question that comes later than its line is gone to from there, by whoever stayed", async () => {
  const question = createQuestion(2);
  const event = { id: 1, at: LATER, name: "question.asked", agent: "alice", body: { question } };
  for (const stays of [true, false]) {
    navigate("/#need-question-2");
    const { app, find } = await show([ask(2)]);
    expect(document.activeElement).toBe(find("need-question-2"));
    if (!stays) find("need-question-2").blur();
    await settle(() => app.store.applyEvent(event));
    expect(document.activeElement).toBe(stays ? find("answer-text") : document.body);
  }
});

test.each([
  ["crash", "alice", "resume", "alice", "/api/agents/alice/resume"],
  ["crash", "alice", "start", "alice", "/api/agents/alice/start"],
  ["login", "hyperhive", "resume", null, "/api/resume"],
  ["limit", "alice", "resume", "alice", "/api/agents/alice/resume"],
  ["dead_letter", "7", "requeue", "alice", "/api/messages/7/requeue"],
  ["dead_letter", "7", "dismiss", "alice", "/api/messages/7/dismiss"],
] as const)("%s of %s: %s is one click", async (kind, ref, act, agent, path) => {
  const { find, lastPost } = await show([createNeed(kind, ref, { acts: [act], agent })], {
    [`POST ${path}`]: null,
  });
  await settle(() => find(`need-${act}`).click());
  expect(lastPost()?.path).toBe(path);
});

test.each([
  ["alice", "alice", "/api/agents/alice/grant"],
  ["hyperhive", null, "/api/budget/grant"],
])("the spent budget of %s is granted more", async (ref, agent, path) => {
  const { find, lastPost } = await show([createNeed("budget", ref, { acts: ["grant"], agent })], {
    [`POST ${path}`]: {},
  });
  await settle(() => find("needs").querySelector<HTMLElement>('[data-testid="grant"]')?.click());
  expect(lastPost()?.path).toBe(path);
});

test("a login leads to the login box of its agent", async () => {
  const { find } = await show([createNeed("login", "alice", { acts: ["login"] })]);
  expect(find("need-login-alice").querySelector("a.act")?.getAttribute("href")).toBe("/agent/alice/#login");
});

test("an act or a kind that this page does not know shows no button", async () => {
  const { find } = await show([createNeed("crash", "alice", { acts: ["constructor", "fly"] })]);
  expect(find("need-crash-alice").querySelectorAll("button")).toHaveLength(0);
});

test("what an agent wrote never becomes markup or an address", async () => {
  const { find, root } = await show([
    createNeed("login", "x", { agent: "../../evil", acts: ["login"], title: HOSTILE, detail: HOSTILE }),
    createNeed("crash", "y", { by_default: HOSTILE, detail: HOSTILE }),
  ]);
  expect(root.querySelector("img")).toBeNull();
  expect(find("need-login-x").querySelector("a")).toBeNull();
  expect(find("needs").textContent).toContain("⟨U+202E⟩⟨U+0007⟩");
});

const ended = (question: Question): HiveEvent => ({
  id: 1,
  at: LATER,
  name: `question.${question.status}`,
  agent: "alice",
  body: { question },
});

test("half typed text, choices and the focus in one form stay while others come, go and end", async () => {
  const { app, find, root, become, rows } = await show([ask(2), ask(3)], {
    "GET /api/questions": [
      createQuestion(2, { options: ["red", "blue"] }),
      createQuestion(3, { options: ["one", "two"] }),
    ],
  });
  const field = find("question-3").querySelector("textarea") as HTMLTextAreaElement;
  await settle(() => {
    type(field, "half an ans");
    root.querySelectorAll<HTMLInputElement>('input[name="question-3"]')[0]?.click();
    field.focus();
  });
  field.setSelectionRange(2, 5);
  app.hive.answers["GET /api/questions"] = [createQuestion(3, { options: ["one", "two"] })];
  await settle(() => app.store.applyEvent(ended(createQuestion(2, { status: "cancelled" }))));
  await become([createNeed("approval", "9"), ask(3)]);
  for (let round = 0; round < 20; round += 1)
    await become([
      ask(3),
      createNeed("crash", `a${round}`),
      ask(100 + round, { deadline: "2098-01-01T00:00:00Z" }),
    ]);
  await settle(() => void app.store.load());

  expect(field.isConnected).toBe(true);
  expect(field.value).toBe("half an ans");
  expect(document.activeElement).toBe(field);
  expect([field.selectionStart, field.selectionEnd]).toEqual([2, 5]);
  expect(root.querySelectorAll<HTMLInputElement>('input[name="question-3"]')[0]?.checked).toBe(true);
  // What ended keeps its place above, as long as somebody answers.
  expect(rows().slice(0, 2)).toEqual(["need-question-2", "need-question-3"]);
  expect(find("need-question-2").dataset.gone).toBe("true");
  expect(find("question-2").querySelector(".ending")?.hasAttribute("inert")).toBe(true);
  expect(document.title).toBe("(3) hyperhive");
});

test("a form that ends under the hands keeps its place without the focus until they have gone", async () => {
  const { app, find } = await show([ask(2)], { "GET /api/questions": [createQuestion(2)] });
  const row = find("question-2");
  find("answer-text").focus();
  await settle(() => app.store.applyEvent(ended(createQuestion(2, { status: "answered", answer: "red" }))));
  expect(row.dataset.status).toBe("answered");
  expect(row.querySelector(".ending")?.hasAttribute("inert")).toBe(true);
  expect(document.activeElement).toBe(row);
  await settle(() => row.blur());
  await settle();
  expect(row.querySelector(".ending")).toBeNull();
  expect(row.textContent).toContain("→ red");
});

test("a decision that was made elsewhere takes no button from under the pointer", async () => {
  const { app, find } = await show([], ALL_ROWS);
  const list = find("approvals").querySelector("ul") as HTMLElement;
  await settle(() => point(list, "pointerenter"));
  const approval = createApproval(4, { status: "denied" });
  await settle(() =>
    app.store.applyEvent({ id: 1, at: LATER, name: "approval.denied", agent: null, body: { approval } }),
  );
  expect(find("approve").closest("[inert]")).not.toBeNull();
  await settle(() => point(list, "pointerleave"));
  expect(find("approval-4").querySelector(".decision")).toBeNull();
});

test("no row moves under the pointer, and all are in order again once it has gone", async () => {
  const { find, become, rows } = await show([createNeed("crash", "alice"), createNeed("crash", "bob")]);
  const list = find("needs").querySelector("ul") as HTMLElement;
  await settle(() => point(list, "pointerenter"));
  await become([ask(1), createNeed("crash", "bob")]);
  expect(rows()).toEqual(["need-crash-alice", "need-crash-bob", "need-question-1"]);
  expect(find("need-crash-alice").hasAttribute("inert")).toBe(true);
  expect(find("need-crash-alice").textContent).toContain("needs you no more");
  await become([ask(1), createNeed("crash", "alice"), createNeed("crash", "bob")]);
  expect(find("need-crash-alice").dataset.gone).toBeUndefined();
  await become([ask(1), createNeed("crash", "bob")]);
  await settle(() => point(list, "pointerleave"));
  expect(rows()).toEqual(["need-question-1", "need-crash-bob"]);
});

test("the focus goes on to the next row when the one it is in ends, and to the section after the last", async () => {
  const { find, become } = await show([
    createNeed("crash", "alice", { acts: ["start"] }),
    createNeed("crash", "bob"),
  ]);
  find("need-start").focus();
  await settle();
  await become([createNeed("crash", "bob")]);
  expect(document.activeElement?.id).toBe("need-crash-bob");
  await become([]);
  expect(document.activeElement?.id).toBe("needs");
});

test("an address with a row's name goes to that row, also when it comes later, and again when asked again", async () => {
  navigate("/#need-crash-bob");
  const { become } = await show([createNeed("crash", "alice")]);
  expect(document.activeElement).toBe(document.body);
  await become([createNeed("crash", "alice"), createNeed("crash", "bob")]);
  expect(document.activeElement?.id).toBe("need-crash-bob");
  (document.activeElement as HTMLElement).blur();
  await become([createNeed("crash", "bob")]);
  expect(document.activeElement).toBe(document.body);
  await settle(() => navigate("/#need-crash-bob"));
  expect(document.activeElement?.id).toBe("need-crash-bob");
});

test("whoever types is not taken away by a row that comes later", async () => {
  navigate("/#need-crash-bob");
  const { find, become } = await show([]);
  const field = find<HTMLTextAreaElement>("spawn-name");
  field.focus();
  await become([createNeed("crash", "bob")]);
  expect(document.activeElement).toBe(field);
  // Nor later, by something else that comes.
  field.blur();
  await become([createNeed("crash", "bob"), createNeed("crash", "carol")]);
  expect(document.activeElement).toBe(document.body);
});
