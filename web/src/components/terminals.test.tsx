import { beforeEach, expect, test } from "vitest";
import type { Terminal } from "../api_types.ts";
import { createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { describeState } from "./terminal_view.tsx";
import { describeEnd, Terminals } from "./terminals.tsx";

beforeEach(() => history.replaceState(null, "", "/agent/alice/"));

const createTerminal = (id: string, change: Partial<Terminal> = {}): Terminal => ({
  id,
  agent: "alice",
  opened_by: "operator",
  opened_at: "2026-11-20T12:00:00Z",
  columns: 80,
  rows: 24,
  viewers: 0,
  ended_at: null,
  status: null,
  ending: null,
  bytes_in: 0,
  bytes_out: 0,
  ...change,
});

async function show(rows: Terminal[]) {
  const app = createTestApp({ "GET /api/agents/alice/terminals": rows });
  const page = mount(app, <Terminals agent="alice" />);
  await settle();
  return { app, ...page };
}

const ENDED = { ended_at: "2026-11-20T12:01:00Z", ending: "exited", status: 3 } as const;

test("open terminals are tabs, the oldest first, and how the last ones ended is told", async () => {
  const { root, find } = await show([
    createTerminal("bbbbbbbb", { opened_at: "2026-11-20T12:05:00Z" }),
    createTerminal("aaaaaaaa"),
    createTerminal("cccccccc", ENDED),
  ]);
  const tabs = [...root.querySelectorAll<HTMLElement>(".terminal-tab")].map((tab) => tab.dataset.testid);
  expect(tabs).toEqual(["terminal-tab-aaaaaaaa", "terminal-tab-bbbbbbbb"]);
  expect(find("terminal-last").textContent).toContain("the shell ended, status 3");
  expect(root.querySelector(".terminal-view")).toBeNull();
});

test("an event has the list fetched again, without anything being attached", async () => {
  const { app, query } = await show([]);
  expect(query("terminal-tab-aaaaaaaa")).toBeNull();
  app.hive.answers["GET /api/agents/alice/terminals"] = [createTerminal("aaaaaaaa")];
  const event = { id: 1, at: "2026-11-20T12:00:00Z", name: "terminal.opened", agent: "alice", body: {} };
  await settle(() => app.store.applyEvent(event));
  expect(query("terminal-tab-aaaaaaaa")).not.toBeNull();
});

test("a link to a terminal that has ended says so and attaches to nothing", async () => {
  history.replaceState(null, "", "/agent/alice/#terminal-cccccccc-read");
  const { find, root } = await show([createTerminal("cccccccc", ENDED)]);
  expect(find("terminal-missing").textContent).toContain("not open any more");
  expect(root.querySelector(".terminal-view")).toBeNull();
});

test("a terminal that could not be opened is told, and no tab is made", async () => {
  const { app, find, root } = await show([]);
  app.hive.answers["POST /api/agents/alice/terminals"] = Response.json(
    { code: "unavailable", message: "alice does not run", hint: "start it" },
    { status: 503 },
  );
  await settle(() => find("terminal-new").click());
  expect(app.toasts.list.value.at(-1)).toMatchObject({ kind: "error", text: "alice does not run" });
  expect(root.querySelector(".terminal-tab")).toBeNull();
});

test("states and ends are told in plain words", () => {
  expect(describeState("up", null, true)).toBe("live, looking on");
  expect(describeState("lost", null, false)).toContain("the shell goes on");
  expect(describeState("ended", 0, false)).toBe("the shell ended with status 0");
  expect(describeState("ended", null, false)).toBe("the shell ended");
  expect(describeEnd(createTerminal("x", { ...ENDED, ending: "idle", status: null }))).toBe(
    "unused for too long",
  );
});
