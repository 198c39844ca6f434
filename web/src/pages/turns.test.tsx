import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentRow, HiveEvent } from "../api_types.ts";
import { Toaster } from "../components/toaster.tsx";
import {
  createAgent,
  createBudget,
  createFileDiff,
  createNotesVersion,
  createPark,
  createQuestion,
  createReminder,
  createScheduled,
  createTestApp,
  mount,
  settle,
  type,
} from "../testing/stand_in.tsx";
import { now } from "../time.ts";
import { createTranscriptFeed } from "../transcript/feed.ts";
import { AgentPage } from "./agent.tsx";
import { DashboardPage } from "./dashboard.tsx";

const LINK = "https://claude.com/cai/oauth/authorize?code=true&state=xyz";
const EARLIER = now.peek();

beforeEach(() => sessionStorage.clear());
afterEach(() => {
  now.value = EARLIER;
});

let nextId = 1;
const event = (name: string, agent: string | null = null): HiveEvent => ({
  id: nextId++,
  at: "2026-11-20T12:00:00Z",
  name,
  agent,
  body: {},
});

async function showDashboard(answers: Record<string, unknown>) {
  const app = createTestApp(answers);
  await app.store.load();
  const page = mount(
    app,
    <>
      <DashboardPage />
      <Toaster />
    </>,
  );
  await settle();
  return { app, ...page };
}

async function showAgent(change: Partial<AgentRow>, answers: Record<string, unknown> = {}) {
  const app = createTestApp({
    "GET /api/agents": [createAgent("alice", change)],
    "GET /api/agents/alice/transcript": [],
    "GET /api/notes/alice": [],
    ...answers,
  });
  await app.store.load();
  const feed = createTranscriptFeed(app.store.api, "alice");
  const page = mount(
    app,
    <>
      <AgentPage name="alice" feed={feed} />
      <Toaster />
    </>,
  );
  await settle(feed.onUp);
  return { app, ...page };
}

const posts = (app: ReturnType<typeof createTestApp>) =>
  app.hive.calls
    .filter(({ method }) => method !== "GET")
    .map(({ method, path, body }) => [method, path, body]);

async function enter(field: HTMLElement, text: string, key = "Enter") {
  await settle(() => type(field as HTMLTextAreaElement, text));
  await settle(
    () => void field.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })),
  );
}

test("the whole hive is paused by one click and says so on every page until it is resumed", async () => {
  const { app, find, query } = await showDashboard({ "POST /api/pause": {}, "POST /api/resume": null });
  const hive = app.hive.answers["GET /api/hive"] as Record<string, unknown>;
  await settle(() => find("pause-all").click());
  expect(query("banner-park")).toBeNull();
  app.hive.answers["GET /api/hive"] = {
    ...hive,
    park: createPark("paused", { hive: true, reason: "lunch" }),
  };
  await settle(() => app.store.applyEvent(event("agent.parked")));
  expect(find("banner-park").textContent).toContain("the whole hive is paused since");
  expect(find("banner-park").textContent).toContain("lunch");
  await settle(() => find("resume-all").click());
  app.hive.answers["GET /api/hive"] = hive;
  await settle(() => app.store.applyEvent(event("agent.resumed")));
  expect(query("banner-park")).toBeNull();
  expect(find("pause-all").getAttribute("aria-busy")).toBe("false");
  expect(posts(app)).toEqual([
    ["POST", "/api/pause", {}],
    ["POST", "/api/resume", {}],
  ]);
});

test("a parked agent says why and until when, the time running down", async () => {
  const at = Date.parse("2026-11-20T12:00:00Z");
  now.value = at;
  const park = createPark("limit", { until: new Date(at + 600_000).toISOString(), reason: "five hour" });
  const { find } = await showDashboard({
    "GET /api/agents": [createAgent("alice", { state: "parked", park })],
  });
  expect(find("park").textContent).toContain("usage limit");
  expect(find("park").textContent).toContain("10:00 left");
  expect(find("park").textContent).toContain("five hour");
  await settle(() => {
    now.value = at + 90_000;
  });
  expect(find("park").textContent).toContain("8:30 left");
  await settle(() => {
    now.value = at + 700_000;
  });
  expect(find("park").textContent).toContain("ends any moment");
});

test("what parks the whole hive is told once, with the way on, and a row only says that it is so", async () => {
  const park = createPark("budget", { hive: true, reason: "300 of 200 tokens" });
  const { app, find } = await showDashboard({
    "GET /api/agents": [createAgent("alice", { state: "parked", park })],
    "POST /api/budget/grant": {},
  });
  const hive = app.hive.answers["GET /api/hive"] as Record<string, unknown>;
  app.hive.answers["GET /api/hive"] = { ...hive, park };
  await settle(() => app.store.applyEvent(event("agent.parked")));
  expect(find("park").textContent).toBe("the hive's budget is spent");
  expect(find("banner-park").textContent).toContain("300 of 200 tokens");
  await settle(() => find("grant-all").click());
  expect(posts(app)).toEqual([["POST", "/api/budget/grant", {}]]);
});

test("an agent is paused and resumed, and the row changes by the event alone", async () => {
  const { app, find, query } = await showDashboard({
    "GET /api/agents": [createAgent("alice")],
    "POST /api/agents/alice/pause": {},
    "POST /api/agents/alice/resume": null,
  });
  await settle(() => find("pause").click());
  expect(find("pause").getAttribute("aria-busy")).toBe("true");
  await settle(() => app.store.applyState(createAgent("alice", { park: createPark("paused") })));
  expect(query("pause")).toBeNull();
  await settle(() => find("resume").click());
  await settle(() => app.store.applyState(createAgent("alice")));
  expect(query("park")).toBeNull();
  expect(find("pause").getAttribute("aria-busy")).toBe("false");
});

test("what parks the whole hive is not resumed for one agent", async () => {
  const park = createPark("paused", { hive: true });
  const { query } = await showDashboard({ "GET /api/agents": [createAgent("alice", { park })] });
  expect(query("resume")).toBeNull();
});

test("a spent budget is granted half more by one click, or an amount, and only an amount is taken", async () => {
  const park = createPark("budget");
  const { app, find, query } = await showDashboard({
    "GET /api/agents": [createAgent("alice", { park, budget_tokens: 1000, day_tokens: 1000 })],
    "POST /api/agents/alice/grant": {},
  });
  const row = find("agent-alice");
  const within = (id: string) => row.querySelector<HTMLElement>(`[data-testid="${id}"]`) as HTMLElement;
  expect(within("budget").textContent).toContain("100 %");
  await settle(() => within("grant").click());
  const more = createAgent("alice", { park, budget_tokens: 1500, day_tokens: 1000 });
  await settle(() => app.store.applyState(more));
  await settle(() => within("grant-open").click());
  await settle(() => within("grant-submit").click());
  await settle(() => type(within("amount-tokens") as HTMLInputElement, "lots"));
  await settle(() => within("grant-submit").click());
  expect(within("amount-tokens").getAttribute("aria-invalid")).toBe("true");
  expect(posts(app)).toEqual([["POST", "/api/agents/alice/grant", {}]]);
  await settle(() => type(within("amount-tokens") as HTMLInputElement, "500k"));
  await settle(() => app.store.applyState({ ...more, waiting: 3 }));
  expect((within("amount-tokens") as HTMLInputElement).value).toBe("500k");
  await settle(() => within("grant-submit").click());
  expect(posts(app).at(-1)).toEqual(["POST", "/api/agents/alice/grant", { tokens: 500_000, usd: null }]);
  await settle(() => app.store.applyState(createAgent("alice")));
  expect(query("grant-form")).toBeNull();
});

test("what the hive spent stands beside its budget, in another colour from 80 percent on", async () => {
  const { app, find, root } = await showDashboard({
    "GET /api/budget": [
      createBudget({ tokens_per_day: 1000, day_tokens: 790, usd_per_day: 10, day_usd: 8 }),
      createBudget({ agent: "alice", tokens_per_day: 5, day_tokens: 5 }),
    ],
    "POST /api/budget/grant": {},
    "PUT /api/budget": {},
  });
  const bars = () => [...root.querySelectorAll<HTMLElement>('[data-testid="spent"]')];
  expect(bars().map((bar) => [bar.dataset.percent, bar.classList.contains("spent-near")])).toEqual([
    ["79", false],
    ["80", true],
  ]);
  app.hive.answers["GET /api/budget"] = [
    createBudget({ tokens_per_day: 1000, granted_tokens: 500, day_tokens: 790 }),
  ];
  await settle(() => find("grant").click());
  expect(bars().map((bar) => bar.dataset.percent)).toEqual(["53"]);
  await settle(() => find("budget-edit").click());
  await settle(() => type(find<HTMLInputElement>("amount-usd"), "25"));
  await settle(() => app.store.applyEvent(event("budget.warned", "alice")));
  expect(find<HTMLInputElement>("amount-usd").value).toBe("25");
  await settle(() => find("budget-submit").click());
  expect(posts(app)).toEqual([
    ["POST", "/api/budget/grant", {}],
    ["PUT", "/api/budget", { tokens_per_day: null, usd_per_day: 25 }],
  ]);
});

test("why the prices of the operator are not in force stands with what the hive spent, as text", async () => {
  const { app, find, query } = await showDashboard({
    "GET /api/budget": [createBudget({ problem: "prices.toml: <b>line 3</b> is no price" })],
  });
  expect(find("budget-problem").textContent).toContain("prices.toml: <b>line 3</b> is no price");
  app.hive.answers["GET /api/budget"] = [createBudget()];
  await settle(() => {
    now.value += 20_000;
  });
  expect(query("budget-problem")).toBeNull();
});

test("the state row tells model, context, cost and the last turn as they were reported", async () => {
  const { app, find, query } = await showAgent({
    model: "claude-a",
    chosen_model: "claude-b",
    context_tokens: 82_000,
    context_limit: 200_000,
    session_usd: 0.5,
    day_tokens: 1_200_000,
    day_usd: 3.1,
    turns: 2,
    last_outcome: "timeout",
  });
  expect(find("model").textContent).toContain("chosen by hand: claude-b");
  expect(find("context").textContent).toContain("41 % of 200k");
  expect(find("cost").textContent).toBe("session $0.50 · 24 h: 1.2M tokens · $3.10");
  expect(find("last-turn").textContent).toContain("took too long");
  const over = { context_tokens: 210_000, context_limit: 200_000, day_tokens: 5, day_unpriced: true };
  await settle(() => app.store.applyState(createAgent("alice", over)));
  expect(find("context").textContent).toContain("105 % of 200k");
  expect(find("cost").textContent).toContain("money unknown");
  await settle(() => app.store.applyState(createAgent("alice")));
  expect(query("context")).toBeNull();
  expect(query("cost")).toBeNull();
});

test("the commands of the prompt line do what they say, and nothing else is a command", async () => {
  const { app, find } = await showAgent(
    {},
    {
      "POST /api/agents/alice/compact": { accepted: false },
      "POST /api/agents/alice/pause": {},
      "POST /api/agents/alice/resume": null,
      "POST /api/model/alice": null,
      "POST /api/messages": { id: 3 },
    },
  );
  const field = find("prompt-text") as HTMLTextAreaElement;
  for (const text of ["/compact", "/model claude-b", "/model default", "/pause until noon", "/resume"]) {
    await enter(field, text);
    expect(field.value).toBe("");
  }
  await enter(field, "/model");
  expect(find("toast-error").textContent).toContain("/model wants NAME after it");
  await enter(field, "/etc/hosts is wrong");
  expect(field.value).toBe("/etc/hosts is wrong");
  await enter(field, "//etc/hosts is wrong");
  expect(posts(app)).toMatchObject([
    ["POST", "/api/agents/alice/compact", {}],
    ["POST", "/api/model/alice", { model: "claude-b" }],
    ["POST", "/api/model/alice", { model: "" }],
    ["POST", "/api/agents/alice/pause", { reason: "until noon" }],
    ["POST", "/api/agents/alice/resume", {}],
    ["POST", "/api/messages", { to: "alice", body: "/etc/hosts is wrong" }],
  ]);
});

test("a begun command is completed by tab, arrows choose, escape lets it be", async () => {
  const { find, query } = await showAgent({});
  const field = find("prompt-text") as HTMLTextAreaElement;
  await enter(field, "/c", "ArrowDown");
  const marked = () => find("suggestions").querySelector('[aria-selected="true"]');
  expect(marked()?.textContent).toContain("/compact");
  expect(field.getAttribute("aria-activedescendant")).toBe(marked()?.id);
  await enter(field, "/c", "Tab");
  expect(field.value).toBe("/compact");
  expect(query("suggestions")).toBeNull();
  await enter(field, "/mo", "Escape");
  expect(query("suggestions")).toBeNull();
  await enter(field, "/mod", "Tab");
  expect(field.value).toBe("/model ");
});

const LOGGED_IN = { kind: "own", account: "lab@example.test", expires_at: "2099-01-01T00:00:00Z" };

test("a login goes from the link over the code to its result; a wrong code says so and can be tried again", async () => {
  let codes = 0;
  const { app, find, query, root } = await showAgent(
    { state: "needs_login", login: "none" },
    {
      "POST /api/agents/alice/login": { url: LINK },
      "POST /api/agents/alice/login/code": () => {
        codes += 1;
        if (codes === 1) throw new TypeError("network");
        if (codes === 2)
          return Response.json({ code: "invalid_input", message: "not accepted", hint: "" }, { status: 400 });
        return LOGGED_IN;
      },
    },
  );
  await settle(() => find("login-start").click());
  const link = find<HTMLAnchorElement>("login-link");
  expect([link.href, link.target, link.rel]).toEqual([LINK, "_blank", "noopener noreferrer"]);
  expect(query("login-foreign")).toBeNull();
  const field = find<HTMLInputElement>("login-code");
  expect(field.type).toBe("password");
  await settle(() => type(field, "secret-code#state"));
  for (let round = 0; round < 5; round += 1)
    await settle(() => app.store.applyState(createAgent("alice", { state: "needs_login", turns: round })));
  expect(field.value).toBe("secret-code#state");
  expect(Object.values({ ...sessionStorage, ...localStorage }).join()).not.toContain("secret-code");
  await settle(() => find("login-submit").click());
  expect(find("login-error").textContent).toContain("did not answer");
  expect(find<HTMLInputElement>("login-code").value).toBe("secret-code#state");
  await settle(() => find("login-submit").click());
  expect(find("login-error").textContent).toContain("not accepted");
  expect(query("login-code")).toBeNull();
  await settle(() => find("login-start").click());
  await settle(() => type(find<HTMLInputElement>("login-code"), " good "));
  await settle(() => find("login-submit").click());
  expect(app.hive.calls.at(-1)?.body).toEqual({ code: "good" });
  await settle(() => app.store.applyState(createAgent("alice", { login: "own" })));
  expect(find("login-done").textContent).toContain("lab@example.test");
  expect(find("login-done").textContent).toContain("expires");
  expect(root.textContent).not.toContain("secret-code");
  await settle(() => find("login-close").click());
  expect(query("login-box")).toBeNull();
});

test.each([
  ["http://claude.com/login", true],
  ["javascript:alert(1)", true],
  ["https://user@claude.com/", true],
  ["not a link", true],
  ["https://claude.com.evil.test/login", false],
  ["https://xn--clade-8ya.com/", false],
])("the link %s is not followed without a word", async (url, text) => {
  const { find, query } = await showAgent({ login: "none" }, { "POST /api/agents/alice/login": { url } });
  await settle(() => find("login-start").click());
  expect(find("login-url").textContent).toBe(url);
  expect(query("login-link") === null).toBe(text);
  if (!text) expect(find("login-foreign").getAttribute("role")).toBe("alert");
});

test("the login box is there when one is needed and on demand, with what is known, and can be cancelled", async () => {
  const { app, find, query } = await showAgent(
    { login: "own", login_account: "lab@example.test", login_expires_at: "2026-01-01T00:00:00Z" },
    { "POST /api/agents/alice/login": { url: LINK }, "DELETE /api/agents/alice/login": null },
  );
  expect(query("login-box")).toBeNull();
  await settle(() => find("login-toggle").click());
  expect(find("login-known").textContent).toContain("login of lab@example.test, expired");
  await settle(() => find("login-start").click());
  await settle(() => find("login-cancel").click());
  expect(posts(app).at(-1)?.slice(0, 2)).toEqual(["DELETE", "/api/agents/alice/login"]);
  await settle(() => find("login-close").click());
  expect(query("login-box")).toBeNull();
  await settle(() => app.store.applyState(createAgent("alice", { state: "needs_login" })));
  await settle(() => app.store.applyState(createAgent("alice")));
  await settle(() => app.store.applyState(createAgent("alice", { state: "needs_login" })));
  expect(query("login-box")).not.toBeNull();
});

test("the versions of the notes show what changed, and one is restored after one question", async () => {
  const versions = [createNotesVersion("b".repeat(40)), createNotesVersion("a".repeat(40), { kind: "kept" })];
  const { app, find, root } = await showAgent(
    {},
    {
      "GET /api/notes/alice": versions,
      [`GET /api/notes/alice/${"b".repeat(40)}`]: {
        version: versions[0],
        files: [createFileDiff("notes.md")],
      },
      "POST /api/notes/alice/restore": versions[0],
    },
  );
  await settle(() => find("notes-toggle").click());
  const row = find(`notes-${"b".repeat(40)}`);
  expect(row.textContent).toContain("39 KiB → 8.8 KiB");
  await settle(() => row.querySelector<HTMLElement>('[data-testid="notes-change"]')?.click());
  expect(find("diff-file-notes.md").textContent).toContain("old notes.md");
  app.hive.answers["GET /api/notes/alice"] = [
    createNotesVersion("c".repeat(40), { kind: "restored" }),
    ...versions,
  ];
  await settle(() => app.store.applyEvent(event("notes.changed", "alice")));
  expect(root.querySelectorAll(".version")).toHaveLength(3);
  expect(find("diff-file-notes.md").isConnected).toBe(true);
  await settle(() => row.querySelector<HTMLElement>('[data-testid="notes-restore"]')?.click());
  expect(posts(app)).toEqual([]);
  await settle(() => find("notes-restore-yes").click());
  expect(posts(app)).toEqual([["POST", "/api/notes/alice/restore", { commit: "b".repeat(40) }]]);
});

test("a question about notes shows the change that waits, and is answered like any other", async () => {
  const asked = createNotesVersion("a".repeat(40), { kind: "asked" });
  const { app, find, root } = await showDashboard({
    "GET /api/questions": [createQuestion(2, { kind: "notes", options: ["apply", "keep the old"] })],
    "GET /api/notes/alice": [createNotesVersion("b".repeat(40)), asked],
    [`GET /api/notes/alice/${"a".repeat(40)}`]: { version: asked, files: [createFileDiff("notes.md")] },
    "POST /api/questions/2/answer": {},
  });
  expect(find("question-2").textContent).toContain("a rewrite of the notes of alice");
  await settle(() => find("asked-notes-toggle").click());
  // The versions first, then the change.
  await settle();
  expect(find("asked-notes").textContent).toContain("old notes.md");
  await settle(() => root.querySelectorAll<HTMLInputElement>('input[name="question-2"]')[1]?.click());
  await settle(() => find("answer").click());
  expect(posts(app).at(-1)?.[2]).toEqual({ options: ["keep the old"], text: "" });
});

test("reminders are counted, listed with when they are due, and cancelled", async () => {
  const { app, find, query } = await showAgent(
    {},
    {
      "GET /api/reminders": [createReminder(4, { note: "look at the build" })],
      "GET /api/schedules": [
        createScheduled({ message: "tidy up" }),
        createScheduled({ cron: "0 0 30 2 *", next_at: null }),
      ],
      "DELETE /api/reminders/4": null,
    },
  );
  expect(app.hive.calls.some(({ path }) => path === "/api/reminders?agent=alice")).toBe(true);
  expect(find("reminders-toggle").textContent).toContain("1");
  await settle(() => find("reminders-toggle").click());
  expect(find("reminder-4").textContent).toContain("look at the build");
  expect(find("schedules").textContent).toContain("tidy up");
  expect(find("schedules").textContent).toContain("never comes");
  await settle(() => find("reminder-cancel").click());
  app.hive.answers["GET /api/reminders"] = [];
  await settle(() => find("reminder-cancel-yes").click());
  expect(query("reminder-4")).toBeNull();
  app.hive.answers["GET /api/reminders"] = [createReminder(5)];
  await settle(() => app.store.applyEvent(event("reminder.set", "alice")));
  expect(query("reminder-5")).not.toBeNull();
});

test("where the hive holds the credential there is no login to begin", async () => {
  const { find, query } = await showAgent({ login: "hive" });
  await settle(() => find("login-toggle").click());
  expect(find("login-known").textContent).toContain("no login is needed");
  expect(query("login-start")).toBeNull();
});

test("a hibernated agent is woken from its page, but not for nothing while it is parked", async () => {
  const { app, find, query } = await showAgent(
    { state: "hibernated" },
    { "POST /api/agents/alice/start": null },
  );
  expect(find("start").textContent).toContain("wake");
  await settle(() => find("start").click());
  expect(posts(app)).toEqual([["POST", "/api/agents/alice/start", {}]]);
  await settle(() =>
    app.store.applyState(createAgent("alice", { state: "hibernated", park: createPark("paused") })),
  );
  expect(query("start")).toBeNull();
});
