import { beforeEach, expect, test } from "vitest";
import type { Snapshot } from "../api_types.ts";
import { createAgent, createTestApp, mount, settle, type } from "../testing/stand_in.tsx";
import { Snapshots } from "./snapshots.tsx";
import { Toaster } from "./toaster.tsx";

beforeEach(() => sessionStorage.clear());

const snapshot = (change: Partial<Snapshot> = {}): Snapshot => ({
  id: 7,
  agent: "alice",
  at: "2026-11-20T12:00:00Z",
  state: "ready",
  note: "before",
  commit: "a".repeat(40),
  session: "",
  turns: 3,
  with_credentials: false,
  automatic: false,
  imported: false,
  size_bytes: 2048,
  left_out: 0,
  sha256: "",
  ...change,
});

async function show(answers: Record<string, unknown>) {
  const app = createTestApp({ "GET /api/agents": [createAgent("alice")], ...answers });
  const page = mount(
    app,
    <>
      <Snapshots agent="alice" />
      <Toaster />
    </>,
  );
  await settle();
  return { app, ...page };
}

test("a snapshot is shown with what it is for, as it is, and one that is being taken has no acts", async () => {
  const hostile = "<img src=x onerror=alert(1)>";
  const rows = [snapshot({ id: 8, state: "taking", note: "" }), snapshot({ note: hostile, imported: true })];
  const page = await show({ "GET /api/snapshots": rows });
  expect(page.find("snapshot-8")?.textContent).toContain("being taken");
  expect(page.find("snapshot-8")?.querySelector("button")).toBeNull();
  expect(page.find("snapshot-7")?.textContent).toContain(hostile);
  expect(page.find("snapshot-7")?.textContent).toContain("imported");
  expect(document.querySelector("img")).toBeNull();
});

test("a restore asks once, and nothing is asked of the hive before", async () => {
  const page = await show({ "GET /api/snapshots": [snapshot()] });
  page.find("snapshot-restore")?.click();
  await settle();
  expect(page.find("snapshot-restore-yes")).not.toBeNull();
  expect(page.app.hive.calls.filter(({ method }) => method === "POST")).toEqual([]);
});

test("a restore says what became of what was there, and waits for a turn no longer than the page does", async () => {
  const page = await show({
    "GET /api/snapshots": [snapshot()],
    "POST /api/snapshots/7/restore": { agent: "alice", undo: 9, approval: null, replayed: 0 },
  });
  await settle(() => page.find("snapshot-restore").click());
  await settle(() => page.find("snapshot-restore-yes").click());
  expect(page.root.textContent).toContain("alice is what it was in snapshot 7; what was there is snapshot 9");
  const asked = page.app.hive.calls.filter(({ method }) => method === "POST").map(({ body }) => body);
  expect(asked).toEqual([{ wait_s: 45 }]);
});

test("why none can be taken is said, and what was typed stays", async () => {
  const refusal = new Response(
    JSON.stringify({ code: "too_large", message: "20 snapshots are kept", hint: "hive snapshot rm ID" }),
    { status: 413 },
  );
  const page = await show({ "GET /api/snapshots": [], "POST /api/snapshots": refusal });
  const note = page.find<HTMLInputElement>("snapshot-note");
  await settle(() => type(note, "before"));
  await settle(() => note.form?.dispatchEvent(new Event("submit", { cancelable: true })));
  expect(page.root.textContent).toContain("20 snapshots are kept");
  expect(page.root.textContent).toContain("hive snapshot rm ID");
  expect(note.value).toBe("before");
});

test("a fork needs a name that an agent may have, and Enter makes it", async () => {
  const page = await show({
    "GET /api/snapshots": [snapshot()],
    "POST /api/snapshots/7/fork": { agent: "alice-two", undo: null, approval: null, replayed: 0 },
  });
  await settle(() => page.find("snapshot-fork").click());
  const name = page.find<HTMLInputElement>("fork-name");
  expect(document.activeElement).toBe(name);
  await settle(() => type(name, "Alice"));
  expect(name.getAttribute("aria-invalid")).toBe("true");
  await settle(() => name.form?.dispatchEvent(new Event("submit", { cancelable: true })));
  expect(page.app.hive.calls.filter(({ method }) => method === "POST")).toEqual([]);
  await settle(() => type(name, "alice-two"));
  await settle(() => name.form?.dispatchEvent(new Event("submit", { cancelable: true })));
  expect(page.root.textContent).toContain("alice-two is made of snapshot 7");
  expect(page.query("fork-name")).toBeNull();
});

test("what the hive made by itself, holds a login or left files out says so", async () => {
  const page = await show({
    "GET /api/snapshots": [snapshot({ automatic: true, with_credentials: true, left_out: 1, turns: 1 })],
  });
  const text = page.find("snapshot-7").textContent;
  for (const words of ["made by the hive", "holds a login", "1 file left out", "1 turn "])
    expect(`${text} `).toContain(words);
});
