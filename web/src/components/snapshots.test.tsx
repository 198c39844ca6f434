import { expect, test } from "vitest";
import type { Snapshot } from "../api_types.ts";
import { createAgent, createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { Snapshots } from "./snapshots.tsx";

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
  const page = mount(app, <Snapshots agent="alice" />);
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
});
