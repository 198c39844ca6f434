import { beforeEach, expect, test } from "vitest";
import type { HiveEvent, Need } from "../api_types.ts";
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

test("a question is answered in the queue, and its copy below keeps a draft of its own", async () => {
  const { find, root, lastPost } = await show([ask(2)], {
    "GET /api/questions": [createQuestion(2, { options: ["red", "blue"] })],
    "POST /api/questions/2/answer": {},
  });
  await settle(() => root.querySelectorAll<HTMLInputElement>('input[name="need-question-2"]')[1]?.click());
  await settle(() => type(find<HTMLTextAreaElement>("need-answer-text"), "the dark one"));
  expect(find<HTMLTextAreaElement>("answer-text").value).toBe("");
  expect(root.querySelectorAll<HTMLInputElement>('input[name="question-2"]')[1]?.checked).toBe(false);
  await settle(() => find("need-answer").click());
  expect(lastPost()).toMatchObject({
    path: "/api/questions/2/answer",
    body: { options: ["blue"], text: "the dark one" },
  });
});

test("a tool call is allowed or denied with one click", async () => {
  const { find, lastPost } = await show(
    [createNeed("permission", "2", { acts: ["answer"], deadline: LATER })],
    {
      "GET /api/questions": [
        createQuestion(2, {
          kind: "permission",
          question: "call Bash?\n\nls",
          options: ["allow once", "deny"],
        }),
      ],
      "POST /api/questions/2/answer": {},
    },
  );
  await settle(() => type(find<HTMLInputElement>("need-permission-reason"), "no"));
  await settle(() => find("need-permission-deny").click());
  expect(lastPost()?.body).toEqual({ options: ["deny"], text: "no" });
});

test("an approval with a change is approved in the queue only once the change was shown there", async () => {
  const { find, lastPost } = await show([createNeed("approval", "4", { acts: ["approve", "deny"] })], {
    "GET /api/approvals": (url: URL) =>
      url.searchParams.get("status") === "pending"
        ? [createApproval(4, { kind: "apply", commit: "c".repeat(40) })]
        : [],
    "POST /api/approvals/4/deny": {},
  });
  await settle(() => find("need-approve").click());
  expect(lastPost()).toBeUndefined();
  await settle(() => find("need-deny-open").click());
  await settle(() => type(find<HTMLInputElement>("need-deny-reason"), "not now"));
  await settle(() => find("need-deny").click());
  expect(lastPost()).toMatchObject({ path: "/api/approvals/4/deny", body: { reason: "not now" } });
  await settle(() => find("need-go").click());
  expect(document.activeElement?.id).toBe("approval-4");
});

test("an approval of a name alone is approved with one click", async () => {
  const { find, lastPost } = await show([createNeed("approval", "4", { acts: ["approve", "deny"] })], {
    "GET /api/approvals": (url: URL) =>
      url.searchParams.get("status") === "pending"
        ? [createApproval(4, { kind: "spawn", commit: null })]
        : [],
    "POST /api/approvals/4/approve": {},
  });
  await settle(() => find("need-approve").click());
  expect(lastPost()?.path).toBe("/api/approvals/4/approve");
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

test("half typed text, choices and the focus in one row stay while others come, go and end", async () => {
  const { app, find, root, become, rows } = await show([ask(2), ask(3)], {
    "GET /api/questions": [
      createQuestion(2, { options: ["red", "blue"] }),
      createQuestion(3, { options: ["one", "two"] }),
    ],
  });
  const field = find("need-question-3").querySelector("textarea") as HTMLTextAreaElement;
  await settle(() => {
    type(field, "half an ans");
    root.querySelectorAll<HTMLInputElement>('input[name="need-question-3"]')[0]?.click();
    field.focus();
  });
  field.setSelectionRange(2, 5);
  const question = createQuestion(2, { status: "cancelled" });
  const event: HiveEvent = {
    id: 1,
    at: LATER,
    name: "question.cancelled",
    agent: "alice",
    body: { question },
  };
  await settle(() => app.store.applyEvent(event));
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
  expect(root.querySelectorAll<HTMLInputElement>('input[name="need-question-3"]')[0]?.checked).toBe(true);
  // What ended keeps its place as long as somebody is at the list.
  expect(rows().slice(0, 2)).toEqual(["need-question-2", "need-question-3"]);
  expect(find("need-question-2").dataset.gone).toBe("true");
  expect(document.title).toBe("(3) hyperhive");
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
});
