import { beforeEach, expect, test } from "vitest";
import type { Webhook } from "../api_types.ts";
import { createTestApp, mount, settle, type } from "../testing/stand_in.tsx";
import { Toaster } from "./toaster.tsx";
import { parseEvents } from "./webhook_form.tsx";
import { Webhooks } from "./webhooks.tsx";

const AT = "2026-11-20T12:00:00Z";
const HOSTILE = '<img src=x onerror="alert(1)">\u202egnp\u001b[2J';

const createWebhook = (change: Partial<Webhook> = {}): Webhook => ({
  id: 3,
  place: "https://hooks.example",
  events: ["approval.*"],
  bodies: false,
  added_at: AT,
  ok_at: AT,
  error: "",
  dead: 0,
  dead_at: null,
  dead_reason: "",
  waiting: null,
  ...change,
});

const WAITING = { id: 77, name: "agent.crashed", agent: "alice", at: AT, count: 3 };
const FAILING = createWebhook({ error: "hooks.example answered 500", waiting: WAITING });

beforeEach(() => sessionStorage.clear());

async function show(rows: unknown, answers: Record<string, unknown> = {}) {
  const app = createTestApp({ "GET /api/webhooks": rows, ...answers });
  const page = mount(
    app,
    <>
      <Webhooks />
      <Toaster />
    </>,
  );
  await settle();
  const asked = () => app.hive.calls.filter(({ method }) => method !== "GET");
  return { app, asked, ...page };
}

test("a webhook says what became of its events", async () => {
  const { find, query } = await show([createWebhook()]);
  expect(find("webhook-3").dataset.state).toBe("delivered");
  expect(find("webhook-3").textContent).toContain("last taken");
  expect(query("webhook-fault")).toBeNull();
  expect(query("webhook-dead")).toBeNull();
  const fresh = await show([createWebhook({ ok_at: null, events: [], bodies: true })]);
  expect(fresh.find("webhook-state").textContent).toBe("nothing sent yet");
  expect(fresh.find("webhook-3").textContent).toContain("all events, with their bodies");
});

test("one that fails says why, what is in the way of how many, and how many were given up", async () => {
  const { find } = await show([
    { ...FAILING, dead: 4, dead_at: AT, dead_reason: "hooks.example answered 404" },
  ]);
  expect(find("webhook-error").textContent).toContain("hooks.example answered 500");
  expect(find("webhook-fault").textContent).toContain("event 77, agent.crashed of alice");
  expect(find("webhook-fault").textContent).toContain("with 2 behind it");
  expect(find("webhook-dead").textContent).toBe("4 given up");
  expect(find("webhook-dead-reason").textContent).toContain("answered 404");
});

test("dropping an event asks once, and drops the one that was shown", async () => {
  const { app, asked, find, query } = await show([FAILING], { "POST /api/webhooks/3/drop": null });
  await settle(() => find("webhook-drop").click());
  await settle(() => find("webhook-drop-no").click());
  expect(asked()).toEqual([]);
  await settle(() => find("webhook-drop").click());
  app.hive.answers["GET /api/webhooks"] = [createWebhook()];
  await settle(() => find("webhook-drop-yes").click());
  expect(asked()).toEqual([{ method: "POST", path: "/api/webhooks/3/drop", body: { event: 77 } }]);
  expect(query("webhook-fault")).toBeNull();
});

test("a retry that is not taken is told as a failure", async () => {
  const { app, find } = await show([FAILING], { "POST /api/webhooks/3/retry": { fault: "nobody there" } });
  await settle(() => find("webhook-retry").click());
  expect(find("toast-error").textContent).toContain("it was not taken: nobody there");
  app.hive.answers["POST /api/webhooks/3/retry"] = { fault: "" };
  await settle(() => find("webhook-retry").click());
  expect(find("toast-done").textContent).toContain("it was taken");
});

test("a test says whether it was taken", async () => {
  const { app, find } = await show([createWebhook()], { "POST /api/webhooks/3/test": { fault: "" } });
  await settle(() => find("webhook-test").click());
  expect(find("toast-done").textContent).toContain("the test was taken");
  app.hive.answers["POST /api/webhooks/3/test"] = { fault: "hooks.example answered 401" };
  await settle(() => find("webhook-test").click());
  expect(find("toast-error").textContent).toContain("answered 401");
});

test("removing asks once", async () => {
  const { app, asked, find, query } = await show([createWebhook()], { "DELETE /api/webhooks/3": null });
  await settle(() => find("webhook-remove").click());
  expect(asked()).toEqual([]);
  app.hive.answers["GET /api/webhooks"] = [];
  await settle(() => find("webhook-remove-yes").click());
  expect(asked().map(({ method, path }) => `${method} ${path}`)).toEqual(["DELETE /api/webhooks/3"]);
  expect(query("webhook-3")).toBeNull();
});

test("a new one shows its secret until that is put away, and never again", async () => {
  const answer = { webhook: createWebhook(), secret: "hivehook_abc" };
  const { app, asked, find, query, root } = await show([], { "POST /api/webhooks": answer });
  await settle(() => find("webhook-add").click());
  expect(asked()).toEqual([]);
  await settle(() => {
    type(find<HTMLInputElement>("webhook-url"), " https://hooks.example/x?key=s3cret ");
    type(find<HTMLInputElement>("webhook-events"), "approval.*, agent.crashed");
    find("webhook-bodies").click();
  });
  app.hive.answers["GET /api/webhooks"] = [createWebhook()];
  await settle(() => find("webhook-add").click());
  expect(asked()[0]?.body).toEqual({
    url: "https://hooks.example/x?key=s3cret",
    events: ["approval.*", "agent.crashed"],
    bodies: true,
  });
  expect(find<HTMLInputElement>("webhook-secret-text").value).toBe("hivehook_abc");
  expect(find<HTMLInputElement>("webhook-url").value).toBe("");
  await settle(() => find("webhook-secret-close").click());
  expect(query("webhook-secret")).toBeNull();
  expect(root.innerHTML + JSON.stringify(sessionStorage)).not.toMatch(/hivehook_abc|s3cret/);
});

test("what was typed is still there after a refusal and after the rows are another", async () => {
  const refusal = Response.json({ code: "invalid_input", message: "no address", hint: "" }, { status: 422 });
  const { app, find } = await show([FAILING], {
    "POST /api/webhooks": () => refusal.clone(),
    "POST /api/webhooks/3/retry": { fault: "" },
  });
  const url = find<HTMLInputElement>("webhook-url");
  await settle(() => type(url, "ftp://x"));
  await settle(() => find("webhook-add").click());
  expect(find("toast-error").textContent).toContain("no address");
  app.hive.answers["GET /api/webhooks"] = [createWebhook()];
  await settle(() => find("webhook-retry").click());
  expect(find("webhook-3").dataset.state).toBe("delivered");
  expect(find("webhook-url")).toBe(url);
  expect(url.value).toBe("ftp://x");
});

test("names that are no names of events are not sent", async () => {
  const { asked, find } = await show([]);
  await settle(() => type(find<HTMLInputElement>("webhook-url"), "https://hooks.example/"));
  await settle(() => type(find<HTMLInputElement>("webhook-events"), "approval.*, <b>"));
  expect(find("webhook-events").getAttribute("aria-invalid")).toBe("true");
  await settle(() => find("webhook-add").click());
  expect(asked()).toEqual([]);
  expect(parseEvents(" a.b,c.*\n, ")).toEqual(["a.b", "c.*"]);
});

test("what a receiver or an agent wrote is text and nothing else", async () => {
  const { root } = await show([
    {
      ...FAILING,
      place: HOSTILE,
      events: [HOSTILE],
      error: HOSTILE,
      dead: 1,
      dead_at: AT,
      dead_reason: HOSTILE,
      waiting: { ...WAITING, name: HOSTILE, agent: HOSTILE },
    },
  ]);
  expect(root.querySelector("img")).toBeNull();
  expect(root.textContent?.match(/<img/g)).toHaveLength(6);
  expect(root.textContent).not.toContain("\u202e");
  expect(root.textContent).not.toContain("\u001b");
});

test("that the hive does not tell is said", async () => {
  const { find } = await show(() => Response.json({ message: "it restarts" }, { status: 503 }));
  expect(find("fetch-failed").textContent).toContain("it restarts");
});
