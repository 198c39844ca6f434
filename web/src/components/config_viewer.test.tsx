import { beforeEach, expect, test } from "vitest";
import {
  createAgent,
  createApproval,
  createConfigView,
  createTestApp,
  createVersion,
  mount,
  settle,
  type,
} from "../testing/stand_in.tsx";
import { Containers } from "./containers.tsx";

beforeEach(() => sessionStorage.clear());

async function show(answers: Record<string, unknown> = {}, open = true) {
  const app = createTestApp({
    "GET /api/agents": [createAgent("alice")],
    "GET /api/agent-config/alice": createConfigView("alice"),
    "GET /api/agent-config/alice/history": [createVersion(3, { current: true }), createVersion(0)],
    ...answers,
  });
  await app.store.load();
  const page = mount(app, <Containers />);
  if (open) await settle(() => page.find("config-toggle-alice").click());
  return { app, ...page };
}

test("a config is fetched when it is asked for, and not before", async () => {
  const { app, find } = await show({}, false);
  await settle();
  expect(app.hive.calls.some((call) => call.path.startsWith("/api/agent-config"))).toBe(false);
  await settle(() => find("config-toggle-alice").click());
  expect(find("config-alice").textContent).toContain('model = "x"');
  expect(find("config-toggle-alice").getAttribute("aria-expanded")).toBe("true");
});

test("it stays open with its folds and what is typed while the config becomes another", async () => {
  const { app, find } = await show();
  const viewer = find("config-alice");
  const input = find<HTMLInputElement>("check-input");
  await settle(() => type(input, "git pu"));
  input.focus();
  input.setSelectionRange(1, 2);
  app.hive.answers["GET /api/agent-config/alice"] = createConfigView("alice", { commit: "d".repeat(40) });
  await settle(() => {
    app.store.applyState(createAgent("alice", { state: "thinking" }));
    app.store.applyEvent({
      id: 1,
      at: "2026-11-20T12:00:00Z",
      name: "agent.configured",
      agent: "alice",
      body: { commit: "d".repeat(40) },
    });
  });
  expect(find("config-alice")).toBe(viewer);
  expect(viewer.textContent).toContain("dddddddddd");
  expect(find("check-input")).toBe(input);
  expect([input.value, input.selectionStart, input.selectionEnd]).toEqual(["git pu", 1, 2]);
  expect(document.activeElement).toBe(input);
});

test("permissions are grouped, each with its verdict in words and its rule", async () => {
  const { find } = await show({
    "GET /api/agent-config/alice": createConfigView("alice", {
      permissions: [
        { area: "message", subject: "bob", verdict: "deny", rule: "allowed_recipients" },
        { area: "run", subject: "git *", verdict: "allow", rule: "bash.allow: git *" },
        { area: "run", subject: "rm *", verdict: "ask", rule: "bash.ask: rm *" },
      ],
    }),
  });
  const groups = [...find("permissions-alice").querySelectorAll<HTMLElement>(".permission-group")];
  expect(groups.map((group) => [group.dataset.area, group.querySelectorAll("li").length])).toEqual([
    ["run", 2],
    ["message", 1],
  ]);
  expect(find("permissions-alice").textContent).toContain("?askrm *bash.ask: rm *");
});

test("a config that cannot be used says why", async () => {
  const { find } = await show({
    "GET /api/agent-config/alice": createConfigView("alice", {
      problem: "unknown key bahs",
      permissions: [],
    }),
  });
  expect(find("config-problem").textContent).toContain("unknown key bahs");
  expect(find("permissions-alice").textContent).toContain("not known");
});

test("would this be allowed: each kind asks its own question, and the answer names the rule", async () => {
  const { app, find } = await show({
    "POST /api/agent-config/alice/check": {
      verdict: "deny",
      rule: "bash.allow: git *",
      reason: "curl is no git",
    },
  });
  const kind = find<HTMLSelectElement>("check-kind");
  for (const [value, text] of [
    ["bash", "git status; curl x"],
    ["tool", "WebFetch"],
    ["recipient", "bob"],
  ] as const) {
    await settle(() => {
      kind.value = value;
      kind.dispatchEvent(new Event("change", { bubbles: true }));
      type(find<HTMLInputElement>("check-input"), text);
    });
    await settle(() => find("check-submit").click());
    expect(app.hive.calls.at(-1)?.body).toEqual({ [value]: text });
    expect(find("check-result").textContent).toContain("deny — bash.allow: git *");
    expect(find("check-result").textContent).toContain(text);
  }
});

test("an answer is asked for again when the config is another one", async () => {
  let verdict = "deny";
  const { app, find } = await show({
    "POST /api/agent-config/alice/check": () => ({ verdict, rule: "r", reason: "" }),
  });
  await settle(() => type(find<HTMLInputElement>("check-input"), "git push"));
  await settle(() => find("check-submit").click());
  expect(find("check-result").dataset.verdict).toBe("deny");
  verdict = "allow";
  await settle(() => void app.store.load());
  expect(find("check-result").dataset.verdict).toBe("allow");
});

test("only what was deployed and is not current can be brought back, after one question", async () => {
  const approval = createApproval(9, { kind: "revert", agent: "alice", status: "approved", reverts_to: 0 });
  const { app, find, query } = await show({
    "GET /api/agent-config/alice/history": [
      createVersion(5, { status: "failed", reason: "no jq" }),
      createVersion(3, { current: true }),
      createVersion(0),
    ],
    "POST /api/agent-config/alice/revert": approval,
  });
  expect(query("revert-5")).toBeNull();
  expect(query("revert-3")).toBeNull();
  await settle(() => find("revert-0").click());
  expect(app.hive.calls.some((call) => call.method === "POST")).toBe(false);
  await settle(() => find("revert-0-yes").click());
  expect(app.hive.calls.at(-1)).toMatchObject({ method: "POST", body: { to: 0 } });
  expect(app.store.approvals.find(9)?.kind).toBe("revert");
  expect(app.toasts.list.value.at(-1)?.text).toContain("#9");
});

test("a config that failed to build is told on the row", async () => {
  const { find, query, app } = await show({
    "GET /api/agents": [createAgent("alice", { config_error: "jq is not installed" })],
  });
  expect(find("config-error").textContent).toContain("jq is not installed");
  await settle(() => app.store.applyState(createAgent("alice")));
  expect(query("config-error")).toBeNull();
});
