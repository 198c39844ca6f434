import { beforeEach, expect, test } from "vitest";
import type { EgressGrant, EgressRequest } from "../api_types.ts";
import { createApproval, createTestApp, mount, settle } from "../testing/stand_in.tsx";
import { chooseOffered, Egress, renderEntry } from "./egress.tsx";
import { Toaster } from "./toaster.tsx";

const AT = "2026-11-20T12:00:00Z";
const HOSTILE = '<img src=x onerror="alert(1)">\u202egnp\u001b[2J';

const createRequest = (change: Partial<EgressRequest> = {}): EgressRequest => ({
  agent: "alice",
  at: AT,
  host: "example.org",
  port: 443,
  verdict: "refused",
  rule: "network.allow",
  method: "",
  path: "",
  bytes_up: 0,
  bytes_down: 0,
  elapsed_ms: 3,
  ...change,
});

const createGrant = (change: Partial<EgressGrant> = {}): EgressGrant => ({
  id: 4,
  agent: "alice",
  host: "example.org",
  port: 443,
  granted_at: AT,
  until: new Date(Date.now() + 25 * 60_000).toISOString(),
  ...change,
});

beforeEach(() => sessionStorage.clear());

async function show(rows: EgressRequest[], grants: EgressGrant[], answers: Record<string, unknown> = {}) {
  const app = createTestApp({ "GET /api/egress": rows, "GET /api/egress/grants": grants, ...answers });
  const page = mount(
    app,
    <>
      <Egress agent="alice" />
      <Toaster />
    </>,
  );
  await settle();
  const asked = () => app.hive.calls.filter(({ method }) => method !== "GET");
  return { app, asked, ...page };
}

test("each request says what was asked for, what became of it and by which rule", async () => {
  const { root } = await show(
    [
      createRequest({
        verdict: "allowed",
        rule: "network.allow: *.org",
        bytes_up: 700,
        bytes_down: 5_242_880,
      }),
      createRequest({ method: "GET", path: "/debian/a", port: 80, host: "deb.org" }),
      createRequest({ host: "*", port: 0 }),
      createRequest({ host: "", port: 0, rule: "request" }),
    ],
    [],
  );
  const rows = [...root.querySelectorAll<HTMLElement>('[data-testid="egress-request"]')];
  expect(rows.map((row) => row.dataset.verdict)).toEqual(["allowed", "refused", "refused", "refused"]);
  expect(rows[0]?.textContent).toContain("example.org:443");
  expect(rows[0]?.textContent).toContain("700 B up, 5.0 MiB down");
  expect(rows[1]?.textContent).toContain("GET http://deb.org/debian/a");
  expect(rows[2]?.textContent).toContain("several other hosts");
  expect(rows[3]?.textContent).toContain("what was no request");
});

test("a refused host is allowed for half an hour with one click", async () => {
  const { app, asked, find, query } = await show([createRequest({ port: 8443 })], [], {
    "POST /api/egress/grants": createGrant({ port: 8443 }),
  });
  app.hive.answers["GET /api/egress/grants"] = [createGrant({ port: 8443 })];
  await settle(() => find("egress-allow").click());
  expect(asked()).toEqual([
    {
      method: "POST",
      path: "/api/egress/grants",
      body: { agent: "alice", host: "example.org", port: 8443, minutes: 30 },
    },
  ]);
  expect(find("egress-grant-4").textContent).toContain("example.org:8443");
  expect(query("egress-allow")).toBeNull();
});

test("for good is a proposal, and leads to its approval while that waits", async () => {
  const approval = createApproval(12, { description: "Allow GET http://deb.org/a for good" });
  const { app, asked, find, query, root } = await show(
    [createRequest({ host: "deb.org", port: 80, method: "GET", path: "/a" })],
    [],
    { "POST /api/egress/proposals": approval },
  );
  await settle(() => find("egress-propose").click());
  expect(asked()).toEqual([
    {
      method: "POST",
      path: "/api/egress/proposals",
      body: { agent: "alice", entry: "GET http://deb.org/a" },
    },
  ]);
  expect(root.textContent).toContain("approval 12 would add GET http://deb.org/a");
  expect(find("egress-proposed").getAttribute("href")).toBe("/approvals/12");
  expect(query("egress-propose")).toBeNull();
  await settle(() => app.store.approvals.put({ ...approval, status: "denied" }));
  expect(query("egress-proposed")).toBeNull();
  expect(query("egress-propose")).not.toBeNull();
});

test("a grant shows how long it lasts and is taken back", async () => {
  const { app, asked, find, query } = await show([], [createGrant()], {
    "DELETE /api/egress/grants/4": null,
  });
  expect(find("egress-grant-4").textContent).toMatch(/for 2[45]:\d\d more/);
  app.hive.answers["GET /api/egress/grants"] = [];
  await settle(() => find("egress-revoke").click());
  expect(asked()).toEqual([{ method: "DELETE", path: "/api/egress/grants/4", body: {} }]);
  expect(query("egress-grant-4")).toBeNull();
});

test("a grant that the hive tells of is shown", async () => {
  const { app, find, query } = await show([createRequest()], []);
  expect(query("egress-grant-4")).toBeNull();
  app.hive.answers["GET /api/egress/grants"] = [createGrant()];
  await settle(() =>
    app.store.applyEvent({ id: 9, at: AT, name: "egress.granted", agent: "alice", body: {} }),
  );
  expect(find("egress-grant-4").textContent).toContain("granted");
});

test("what an agent has in a host or path is text", async () => {
  const { root } = await show([createRequest({ host: HOSTILE, path: HOSTILE, method: "GET" })], []);
  expect(root.querySelector("img")).toBeNull();
  expect(root.textContent).toContain("⟨U+202E⟩");
});

test("of what was refused the newest of each is offered, and nothing that can never be reached", () => {
  const first = createRequest();
  const rows = [
    first,
    createRequest(),
    createRequest({ host: "granted.org" }),
    createRequest({ host: "169.254.169.254", rule: "address" }),
    createRequest({ host: "a.org", verdict: "failed", rule: "lookup" }),
    createRequest({ host: "*" }),
    createRequest({ host: "", rule: "request" }),
  ];
  expect([...chooseOffered(rows, [createGrant({ host: "granted.org" })])]).toEqual([first]);
});

test("an entry is as short as it can be written", () => {
  expect(renderEntry(createRequest())).toBe("example.org");
  expect(renderEntry(createRequest({ port: 22 }))).toBe("example.org:22");
  expect(renderEntry(createRequest({ port: 80, method: "GET", path: "/a" }))).toBe(
    "GET http://example.org/a",
  );
  expect(renderEntry(createRequest({ port: 8080, method: "GET", path: "/" }))).toBe(
    "GET http://example.org:8080/",
  );
});
