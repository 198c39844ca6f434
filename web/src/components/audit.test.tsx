import { expect, test, vi } from "vitest";
import type { AuditEntry } from "../api_types.ts";
import { findPlace, renderBody } from "../audit.ts";
import { createTestApp, mount, settle, type } from "../testing/stand_in.tsx";
import { Audit } from "./audit.tsx";

const HOSTILE = '<img src=x onerror="alert(1)">\u202egnp';

const createEntry = (seq: number, change: Partial<AuditEntry> = {}): AuditEntry => ({
  seq,
  at: "2026-11-20T12:00:00Z",
  actor: "hive",
  name: "agent.started",
  agent: "alice",
  body: {},
  hash: "ab",
  ...change,
});

async function show(answer: unknown) {
  const app = createTestApp({ "GET /api/audit": answer });
  const page = mount(app, <Audit />);
  await settle();
  const asked = () =>
    app.hive.calls.filter(({ path }) => path.startsWith("/api/audit")).map(({ path }) => path);
  return { asked, ...page };
}

test("a row says who did what to whom, and leads to what it is about", async () => {
  const entry = createEntry(7, {
    name: "approval.approved",
    actor: "operator session ab12",
    body: { id: 3 },
  });
  const { find } = await show({ entries: [entry], before: null });
  const row = find("audit-7");
  expect(row.textContent).toContain("by operator session ab12");
  expect([...row.querySelectorAll("a")].map((link) => link.getAttribute("href"))).toEqual([
    "/approvals/3",
    "/agent/alice/",
  ]);
});

test("what agents wrote into a row is shown as text", async () => {
  const entry = createEntry(7, { actor: HOSTILE, agent: HOSTILE, name: HOSTILE, body: { tool: HOSTILE } });
  const { find } = await show({ entries: [entry], before: null });
  expect(find("audit-7").querySelector("img")).toBeNull();
  expect(find("audit-7").textContent).not.toContain("\u202e");
});

test("older rows come on request, and a page without any is gone past", async () => {
  const pages = [
    { entries: [createEntry(9)], before: 9 },
    { entries: [], before: 5 },
    { entries: [createEntry(2)], before: null },
  ];
  const { find, query, asked } = await show(() => pages.shift());
  await settle(() => find("audit-older").click());
  expect(find("audit-rows").children.length).toBe(2);
  expect(query("audit-older")).toBeNull();
  expect(asked().map((path) => new URL(path, "http://hive").searchParams.get("before"))).toEqual([
    null,
    "9",
    "5",
  ]);
});

test("what is typed narrows after a moment, and all is shown again with one click that keeps the focus", async () => {
  const { find, query, asked } = await show({ entries: [createEntry(9)], before: null });
  expect(query("audit-clear")).toBeNull();
  const field = find<HTMLInputElement>("audit-agent");
  for (const text of ["a", "al", " alice "]) await settle(() => type(field, text));
  expect(asked().length).toBe(1);
  await vi.waitFor(() => expect(asked().length).toBe(2));
  expect(asked()[1]).toContain("agent=alice");
  await settle(() => find("audit-clear").click());
  expect(asked().length).toBe(3);
  expect(field.value).toBe("");
  expect(document.activeElement).toBe(find("audit-grep"));
});

test("what was not looked through is not said to be empty", async () => {
  const { find, root } = await show({ entries: [], before: 5 });
  expect(root.textContent).toContain("nothing of that so far");
  expect(find("audit-older")).not.toBeNull();
});

test("a refusal of the hive is said", async () => {
  const { find } = await show(undefined);
  expect(find("audit-error").textContent).toContain("cannot be shown");
});

test("digests and what is not there are left out of what is shown", () => {
  expect(renderBody({ id: 3, reason: "", base: null, question_sha256: "x", list: ["a"] })).toBe(
    'id=3 list=["a"]',
  );
  expect(findPlace(createEntry(1, { name: "question.answered", body: { id: 4 } }))).toBe("/questions/4");
  expect(findPlace(createEntry(1, { name: "question.answered", body: { id: "4" } }))).toBe("");
});
