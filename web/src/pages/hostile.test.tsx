import { beforeEach, expect, test } from "vitest";
import {
  createAgent,
  createApproval,
  createComparison,
  createConfigView,
  createDraft,
  createFileDiff,
  createKept,
  createMeaning,
  createQuestion,
  createReview,
  createTestApp,
  createVersion,
  mount,
  settle,
  type,
} from "../testing/stand_in.tsx";
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
  const app = createTestApp({
    "GET /api/agents": [createAgent("alice", { config_error: text })],
    "GET /api/approvals": [approval, failed],
    "GET /api/approvals/1/review": createReview(approval, {
      comparison,
      earlier: 0,
      since_earlier: comparison,
      notes: [file],
      warnings: [text, text],
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
  });
  return page;
}

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
    ])
      expect(find(part).textContent?.length).toBeGreaterThan(0);
    if (HIDDEN.test(text)) {
      expect(find("meaning-1").querySelector("mark.marked")?.getAttribute("title")).toBeTruthy();
      expect(find(`diff-file-${text}`).querySelector("summary mark")).not.toBeNull();
      expect(find(`diff-file-${text}`).querySelector(".line-text mark")).not.toBeNull();
    }
  },
);
