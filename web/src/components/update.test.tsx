import { beforeEach, expect, test } from "vitest";
import { DashboardPage } from "../pages/dashboard.tsx";
import { createAgent, createTestApp, mount, settle } from "../testing/stand_in.tsx";

const OLD = "its harness is of hyperhive 0.0.9, the hive of 0.1.0";
const stale = (name: string, change = {}) => createAgent(name, { needs_update: OLD, ...change });

beforeEach(() => sessionStorage.clear());

async function show(answers: Record<string, unknown>) {
  const app = createTestApp(answers);
  await app.store.load();
  return { app, ...mount(app, <DashboardPage />) };
}

const listPosts = (app: ReturnType<typeof createTestApp>) =>
  app.hive.calls.filter((call) => call.method === "POST").map((call) => call.path);

test("with nothing stale there is neither a badge nor a button", async () => {
  const { query } = await show({ "GET /api/agents": [createAgent("manager"), createAgent("alice")] });
  expect(query("needs-update")).toBeNull();
  expect(query("update-all")).toBeNull();
  expect(query("rebuild")).toBeNull();
});

test("all stale agents are built anew by one request, asked for once", async () => {
  const { app, find, query } = await show({
    "GET /api/agents": [stale("manager"), stale("alice"), createAgent("bob")],
    "POST /api/update-all": { agents: ["manager", "alice"] },
  });
  expect(find("agent-alice").textContent).toContain("needs update");
  expect(find("agent-alice").textContent).toContain(OLD);
  expect(find("update-all").textContent).toContain("(2)");
  await settle(() => find("update-all").click());
  expect(listPosts(app)).toEqual([]);
  await settle(() => find("update-all-yes").click());
  await settle(() => find("update-all").click());
  expect(listPosts(app)).toEqual(["/api/update-all"]);
  await settle(() => {
    app.store.applyState(stale("manager", { updating: true }));
    app.store.applyState(stale("alice", { updating: true }));
  });
  expect(query("update-all")).toBeNull();
  expect(find("agent-alice").textContent).toContain("rebuilds after its turn");
  await settle(() => app.store.applyState(createAgent("alice")));
  expect(find("agent-alice").textContent).not.toContain("rebuild");
});

test("one agent is built anew by the button in its row", async () => {
  const { app, find } = await show({
    "GET /api/agents": [createAgent("manager"), stale("alice")],
    "POST /api/agents/alice/rebuild": {},
  });
  await settle(() => find("rebuild").click());
  expect(listPosts(app)).toEqual(["/api/agents/alice/rebuild"]);
});
