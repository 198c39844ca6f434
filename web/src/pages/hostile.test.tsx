import { beforeEach, expect, test } from "vitest";
import { Toaster } from "../components/toaster.tsx";
import { createEvent } from "../testing/recordings.ts";
import {
  createAgent,
  createApproval,
  createComparison,
  createConfigView,
  createDraft,
  createFileDiff,
  createKept,
  createMeaning,
  createMessage,
  createNotesVersion,
  createPark,
  createQuestion,
  createReminder,
  createReview,
  createScheduled,
  createSystemChange,
  createTestApp,
  createVersion,
  mount,
  settle,
  type,
} from "../testing/stand_in.tsx";
import { createTranscriptFeed } from "../transcript/feed.ts";
import { AgentPage } from "./agent.tsx";
import { DashboardPage } from "./dashboard.tsx";

/** What somebody might put into every text of a config, and hope that a page does something else than show it. */
const HOSTILE = [
  "<img src=x onerror=alert(1)>",
  "<script>alert(1)</script>",
  "\"'><svg onload=alert(1)>",
  "</pre></td></table><iframe srcdoc='<script>alert(1)</script>'>",
  "javascript:alert(1)",
  "<a href=javascript:alert(1)>approve</a>",
  "<style>*{display:none}</style>",
  "<!-- --><math><mi xlink:href=javascript:alert(1)>",
  "{{constructor.constructor('alert(1)')()}}",
  "$" + "{alert(1)}",
  "&lt;img src=x onerror=alert(1)&gt;",
  "\u202egnp.exe\u202c",
  "\u2066a\u2069\u200e\u200f",
  "zero\u200bwidth\u200d\u2060\ufeff",
  "\x1b]0;title\x07\x1b[2J\x9b2J",
  "tags\u{e0041}\u{e0042}\ufe0f",
  "line\u2028separator\u2029\r",
  "lone \ud800 surrogate",
  "soft\u00adhyphen\u115f\u3164",
  `${"a".repeat(5000)}<b>`,
  "__proto__",
];
/** Joiners are left alone in prose: scripts and emoji need them. */
const HIDDEN = /(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115f\u3164]/u;
const ELEMENTS = "img, script, svg, iframe, math, style, b, a[href^='javascript']";

const COMMIT = "a".repeat(40);
const HIVE = {
  version: "0",
  rehearsal: false,
  upstream: "",
  credential: "none",
  driver: "",
  started_at: "2026-11-20T12:00:00Z",
};

beforeEach(() => sessionStorage.clear());

async function show(text: string) {
  const file = createFileDiff(text, {
    hunks: [{ header: text, lines: [{ kind: "added", old: null, new: 1, text }] }],
  });
  const comparison = createComparison({
    base: text,
    commit: text,
    files: [
      file,
      createFileDiff(`${text}2`, { binary: true }),
      createFileDiff(`${text}3`, { truncated: true }),
    ],
    meaning: [
      createMeaning({ area: text, subject: `${text}.x`, before: text, after: `${text}y`, change: "changed" }),
    ],
  });
  const approval = createApproval(1, {
    kind: "apply",
    agent: text,
    description: text,
    commit: text,
    base: text,
  });
  const failed = createApproval(2, {
    ...approval,
    id: 2,
    status: "building",
    reason: text,
    requested_by: text,
  });
  const asked = createNotesVersion(COMMIT, { kind: "asked" });
  const app = createTestApp({
    "GET /api/hive": { ...HIVE, park: createPark("paused", { hive: true, reason: text }) },
    "GET /api/agents": [
      createAgent("alice", {
        config_error: text,
        chosen_model: text,
        last_outcome: text,
        login_account: text,
        park: createPark("failing", { reason: text }),
      }),
    ],
    "GET /api/notes/alice": [asked],
    [`GET /api/notes/alice/${COMMIT}`]: { version: asked, files: [file] },
    "GET /api/approvals": [approval, failed],
    "GET /api/approvals/1/review": createReview(approval, {
      comparison,
      earlier: 0,
      since_earlier: comparison,
      notes: [file],
      warnings: [text, text],
      system: true,
    }),
    "GET /api/approvals/1/system": createSystemChange({
      packages: [{ change: "changed", name: text, before: text, after: `${text}2` }],
      built: [text],
    }),
    "GET /api/approvals/2/review": Response.json({ code: "x", message: text, hint: text }, { status: 500 }),
    "GET /api/agent-config/alice": createConfigView("alice", {
      commit: text,
      problem: text,
      files: [
        { path: "agent.toml", size_bytes: 1, executable: true, text },
        { path: text, size_bytes: 1, executable: false, text: null },
      ],
      permissions: [{ area: "run", subject: text, verdict: "allow", rule: text }],
    }),
    "GET /api/agent-config/alice/history": [
      createVersion(3, { commit: text, description: text, reason: text }),
      createVersion(2, { status: "failed", commit: text, reason: text }),
    ],
    "POST /api/agent-config/alice/check": { verdict: "deny", rule: text, reason: text },
    "GET /api/kept": [createKept(text)],
    "GET /api/drafts": [createDraft(text, { requested_by: text })],
    "GET /api/questions": [
      createQuestion(1, { kind: "permission", agent: text, question: text, options: ["deny", text] }),
      createQuestion(2, { kind: "permission", status: "answered", answer: text, question: text }),
      createQuestion(3, { kind: "notes", question: text, options: ["apply", text] }),
    ],
  });
  await app.store.load();
  const page = mount(app, <DashboardPage />);
  await settle(() => page.find("config-toggle-alice").click());
  await settle(() => type(page.find<HTMLInputElement>("check-input"), text));
  await settle(() => page.find("check-submit").click());
  await settle(() => {
    for (const toggle of page
      .find("approval-2")
      .querySelectorAll<HTMLElement>('[data-testid="review-toggle"]'))
      toggle.click();
    page.find("asked-notes-toggle").click();
  });
  await settle();
  return page;
}

async function showAgent(text: string) {
  // What is not even text can be in no address.
  const commit = /\p{Cs}/u.test(text) ? COMMIT : text;
  const version = createNotesVersion(commit);
  const file = createFileDiff(text);
  const app = createTestApp({
    "GET /api/agents": [
      createAgent("alice", {
        model: text,
        chosen_model: `${text}2`,
        reason: text,
        login_account: text,
        park: createPark("login", { reason: text }),
      }),
    ],
    "GET /api/agents/alice/transcript": ENTRIES(text).map(([kind, body], index) =>
      createEvent(index + 1, kind, body),
    ),
    "GET /api/notes/alice": [version],
    [`GET /api/notes/alice/${encodeURIComponent(commit)}`]: { version, files: [file] },
    "GET /api/messages": [
      createMessage(1, { recipient: "alice", sender: text, body: text, note: text, state: "dead" }),
      createMessage(2, {
        recipient: "alice",
        kind: "system",
        sender: "system",
        body: JSON.stringify({ event: text }),
      }),
    ],
    "GET /api/reminders": [createReminder(4, { note: text, agent: text })],
    "GET /api/schedules": [createScheduled({ cron: text, message: text })],
    "POST /api/agents/alice/login": { url: text },
    "POST /api/agents/alice/login/code": Response.json(
      { code: "x", message: text, hint: text },
      { status: 500 },
    ),
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
  await settle(() => {
    for (const id of ["inbox-toggle", "notes-toggle", "reminders-toggle", "login-start"])
      page.find(id).click();
  });
  await settle(() => type(page.find<HTMLInputElement>("login-code"), "code"));
  await settle(() => {
    page.find("login-submit").click();
    page.root.querySelector<HTMLElement>('[data-testid="notes-change"]')?.click();
    for (const fold of page.root.querySelectorAll<HTMLDetailsElement>(".transcript details, .flow-body")) {
      fold.open = true;
      fold.dispatchEvent(new Event("toggle"));
    }
  });
  return page;
}

/** Every kind of entry of a transcript, with the text wherever there may be one. */
const ENTRIES = (text: string): [kind: string, body: Record<string, unknown>][] => [
  ["turn.started", { prompt: text, purpose: text }],
  ["claude", { type: "rate_limit_event", rate_limit_info: { status: text, rateLimitType: text } }],
  ["claude", { type: "system", subtype: text, text }],
  ["claude", { type: "system", subtype: "status", status: text }],
  ["claude", { type: "system", subtype: "api_retry", attempt: text, max_retries: 3, error_status: text }],
  ["claude", { type: "result", is_error: true, terminal_reason: text, errors: [text] }],
  ["claude", { type: "assistant", message: { content: [{ type: text, text }] } }],
  ["turn.ended", { outcome: text, purpose: text, reason: text }],
  ["state", { state: "parked", reason: text }],
  [text, { text }],
];

test.each(HOSTILE.map((text) => [JSON.stringify(text).slice(0, 60), text]))(
  "%s is only text",
  async (_, text) => {
    const { root, find } = await show(text);
    expect(root.querySelector(ELEMENTS)).toBeNull();
    expect(root.textContent).not.toMatch(HIDDEN);
    for (const part of [
      "meaning-1",
      "notes-1",
      "permissions-alice",
      "history-alice",
      "check-result",
      "drafts",
      "kept",
      "config-error",
      "config-problem",
      "question-1",
      "question-2",
      "approval-2",
      "question-3",
      "asked-notes",
      "banner-park",
      "park",
      "chosen-model",
    ])
      expect(find(part).textContent?.length).toBeGreaterThan(0);
    if (HIDDEN.test(text)) {
      expect(find("meaning-1").querySelector("mark.marked")?.getAttribute("title")).toBeTruthy();
      expect(find(`diff-file-${text}`).querySelector("summary mark")).not.toBeNull();
      expect(find(`diff-file-${text}`).querySelector(".line-text mark")).not.toBeNull();
    }
  },
);

test.each(HOSTILE.map((text) => [JSON.stringify(text).slice(0, 60), text]))(
  "%s is only text on the page of an agent, and no link that can be followed",
  async (_, text) => {
    const { root, find } = await showAgent(text);
    expect(root.querySelector(ELEMENTS)).toBeNull();
    expect(root.textContent).not.toMatch(HIDDEN);
    for (const part of [
      "login-box",
      "login-url",
      "login-error",
      "notes",
      "reminders",
      "schedules",
      "park",
      "model",
      "transcript",
    ])
      expect(find(part).textContent?.length).toBeGreaterThan(0);
    expect(root.querySelectorAll(".t-row")).toHaveLength(ENTRIES(text).length);
    expect([...root.querySelectorAll("a")].map((link) => link.getAttribute("href"))).toEqual([
      "#main",
      "/",
      "/stats/",
      "/#message-2",
      "/threads/2",
      "/#message-1",
      "/threads/1",
    ]);
  },
);

/** The messages of `text` in every place where a message has somebody's words. */
async function showMessages(text: string) {
  const messages = [
    createMessage(6, { body: `${text}\n${text}`, broadcast: 5, state: "dead", note: text }),
    createMessage(5, { body: `${text}\n${text}`, broadcast: 5, recipient: text }),
    createMessage(4, { body: `one line before\n${text}`, state: "dead", note: text, priority: "high" }),
    createMessage(3, { sender: text, body: text, thread: 1, recipient: "operator" }),
    createMessage(2, { sender: text, body: text, thread: 1, note: text }),
    createMessage(1, { sender: "system", body: text, recipient: "operator", state: "expired" }),
  ];
  const app = createTestApp({
    "GET /api/agents": [createAgent("alice")],
    "GET /api/messages": messages,
    "GET /api/inbox": messages.filter((message) => message.recipient === "operator"),
  });
  sessionStorage.setItem("hyperhive.draft.flow-agent", text);
  sessionStorage.setItem("hyperhive.draft.flow-search", text);
  sessionStorage.setItem("hyperhive.draft.reply-to-1", `3 ${text}`);
  await app.store.load();
  const page = mount(app, <DashboardPage />);
  await settle(() => page.find("thread-toggle").click());
  await settle(() => {
    for (const fold of page.root.querySelectorAll<HTMLDetailsElement>(".flow details")) {
      fold.open = true;
      fold.dispatchEvent(new Event("toggle"));
    }
  });
  return page;
}

test.each(HOSTILE.map((text) => [JSON.stringify(text).slice(0, 60), text]))(
  "%s is only text in messages",
  async (_, text) => {
    const { root, find } = await showMessages(text);
    expect(root.querySelector(ELEMENTS)).toBeNull();
    expect(root.textContent).not.toMatch(HIDDEN);
    for (const part of ["conversation", "inbox-3", "said-2", "message-4", "broadcast-5", "message-note"])
      expect(find(part).textContent?.length).toBeGreaterThan(0);
    for (const field of root.querySelectorAll("[placeholder], [aria-label], [title]"))
      for (const name of ["placeholder", "aria-label", "title"])
        expect(field.getAttribute(name) ?? "").not.toMatch(HIDDEN);
  },
);
