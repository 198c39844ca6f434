import { beforeEach, expect, test } from "vitest";
import type { HiveEvent, Message } from "../api_types.ts";
import {
  createAgent,
  createMessage,
  createNeed,
  createTestApp,
  mount,
  settle,
} from "../testing/stand_in.tsx";
import { AgentInbox } from "./agent_inbox.tsx";

beforeEach(() => sessionStorage.clear());

const event = (name: string, body: Record<string, unknown>): HiveEvent => ({
  id: 0,
  at: "2026-11-20T12:00:09Z",
  name,
  agent: null,
  body,
});
const toAlice = (id: number, change: Partial<Message> = {}) =>
  createMessage(id, { sender: "bob", recipient: "alice", ...change });

/** The inbox of alice on a hive that has these messages. */
async function show(messages: Message[], answers: Record<string, unknown> = {}) {
  const hive = new Map(messages.map((message) => [message.id, message]));
  const app = createTestApp({
    "GET /api/agents": [createAgent("alice")],
    "GET /api/messages": ({ searchParams }: URL) => {
      const before = Number(searchParams.get("before") ?? Number.MAX_SAFE_INTEGER);
      const [recipient, state] = [searchParams.get("recipient"), searchParams.get("state")];
      return [...hive.values()]
        .filter((row) => row.id < before && (recipient ?? row.recipient) === row.recipient)
        .filter((row) => (state ?? row.state) === row.state)
        .sort((a, b) => b.id - a.id)
        .slice(0, Number(searchParams.get("limit")));
    },
    ...answers,
  });
  await app.store.load();
  const page = mount(app, <AgentInbox row={createAgent("alice", { waiting: 2 })} />);
  await settle();
  const row = (id: number) => page.find(`agent-message-${id}`);
  return {
    app,
    hive,
    ...page,
    row,
    ids: () =>
      [...page.root.querySelectorAll<HTMLElement>(".flow-row")].map((element) =>
        Number(element.dataset.testid?.replace("agent-message-", "")),
      ),
    say: (message: Message) =>
      settle(() => {
        hive.set(message.id, message);
        app.store.applyEvent(event("message.sent", { message }));
      }),
    change: (state: Message["state"], ...ids: number[]) =>
      settle(() => {
        for (const id of ids) hive.set(id, { ...(hive.get(id) as Message), state });
        app.store.applyEvent(event(`message.${state}`, { ids, state }));
      }),
    fold: (id: number, open: boolean) =>
      settle(() => {
        const details = row(id).querySelector("details") as HTMLDetailsElement;
        details.open = open;
        details.dispatchEvent(new Event("toggle"));
      }),
  };
}

test("what waits or is worked on comes first, then what is settled, the newest first, and nothing of others", async () => {
  const { ids, find, row } = await show([
    toAlice(1, { state: "leased" }),
    toAlice(2, { state: "acked" }),
    toAlice(3, { state: "queued", deliveries: 2, note: "the container died" }),
    toAlice(4, { state: "expired" }),
    createMessage(5, { sender: "alice", recipient: "bob" }),
  ]);
  expect(ids()).toEqual([3, 1, 4, 2]);
  expect(find("agent-inbox-waiting").textContent).toBe("2 wait, 1 of them here · 1 worked on");
  expect(row(3).textContent).toContain("the container died");
});

test("it follows what happens, and a message that is done goes to those that are", async () => {
  const { ids, say, change, row } = await show([toAlice(1), toAlice(2, { state: "acked" })]);
  expect(ids()).toEqual([1, 2]);
  await say(toAlice(3));
  await say(createMessage(4, { recipient: "bob" }));
  expect(ids()).toEqual([3, 1, 2]);
  await change("leased", 1);
  expect(row(1).dataset.state).toBe("leased");
  await change("acked", 1);
  expect(ids()).toEqual([3, 2, 1]);
});

test("while one is folded out nothing moves: states change in their place, what is new is counted", async () => {
  const { ids, say, change, fold, row, find, query } = await show([
    toAlice(1, { body: "first\nand more" }),
    toAlice(2, { state: "acked" }),
  ]);
  await fold(1, true);
  const element = row(1);
  expect(element.textContent).toContain("and more");
  expect(element.querySelector('[data-testid="thread-link"]')?.getAttribute("href")).toBe("/threads/1");
  await change("acked", 1);
  await say(toAlice(3));
  expect(ids()).toEqual([1, 2]);
  expect(element.dataset.state).toBe("acked");
  expect(element.querySelector('[data-testid="receipt-state"]')?.textContent).toContain("acked");
  expect(find("agent-inbox-fresh").textContent).toContain("1 new");
  await settle(() => find("agent-inbox-fresh").click());
  expect(ids()).toEqual([3, 2, 1]);
  expect(query("agent-inbox-fresh")).toBeNull();
  expect(row(1)).toBe(element);
  expect(element.querySelector("details")?.open).toBe(true);
});

test("while the pointer is at the rows they stay, and afterwards they are in order", async () => {
  const { ids, root, change, say } = await show([toAlice(1), toAlice(2)]);
  const list = root.querySelector("ul") as HTMLElement;
  await settle(() => void list.dispatchEvent(new PointerEvent("pointerenter", { pointerType: "mouse" })));
  await change("acked", 2);
  await say(toAlice(3));
  expect(ids()).toEqual([2, 1]);
  await settle(() => void list.dispatchEvent(new PointerEvent("pointerleave")));
  expect(ids()).toEqual([3, 1, 2]);
});

test("older ones come on request, and what is open is there however old it is", async () => {
  const many = Array.from({ length: 130 }, (_, index) => toAlice(index + 1, { state: "acked" }));
  many[4] = toAlice(5);
  many[5] = toAlice(6, { state: "leased" });
  const { ids, find, query, change } = await show(many);
  expect(ids().slice(0, 4)).toEqual([6, 5, 130, 129]);
  expect(ids()).toHaveLength(52);
  // Settled, it is one of those that are not loaded yet.
  await change("acked", 6);
  expect(ids()).toHaveLength(51);
  await settle(() => find("agent-inbox-older").click());
  await settle(() => find("agent-inbox-older").click());
  const settled = many.map(({ id }) => id).filter((id) => id !== 5);
  expect(ids()).toEqual([5, ...settled.reverse()]);
  expect(query("agent-inbox-older")).toBeNull();
});

test("what was settled while the page heard nothing is not shown as waiting", async () => {
  const many = Array.from({ length: 130 }, (_, index) => toAlice(index + 1, { state: "acked" }));
  many[4] = toAlice(5);
  const { app, hive, ids } = await show(many);
  expect(ids()[0]).toBe(5);
  hive.set(5, toAlice(5, { state: "acked" }));
  await settle(() => void app.store.load());
  expect(ids()[0]).toBe(130);
  expect(ids()).toHaveLength(50);
});

test("a dead one that waits for the operator is first until it is queued again or dismissed", async () => {
  const need = (id: number) => createNeed("dead_letter", String(id), { acts: ["requeue", "dismiss"] });
  const { app, ids, row } = await show(
    [
      toAlice(1, { state: "dead", note: "it broke" }),
      toAlice(2, { state: "dead", note: "it broke too" }),
      toAlice(3, { state: "dead", note: "long dismissed" }),
      toAlice(4, { state: "acked" }),
    ],
    {
      "GET /api/needs": [need(1), need(2)],
      "POST /api/messages/1/dismiss": null,
      "POST /api/messages/2/requeue": {},
    },
  );
  expect(ids()).toEqual([2, 1, 4, 3]);
  const act = (id: number, name: string) => row(id).querySelector<HTMLElement>(`[data-testid="${name}"]`);
  expect(act(3, "dismiss")).toBeNull();
  await settle(() => act(1, "dismiss")?.click());
  await settle(() => act(2, "requeue")?.click());
  expect(app.hive.calls.filter(({ method }) => method === "POST").map(({ path }) => path)).toEqual([
    "/api/messages/1/dismiss",
    "/api/messages/2/requeue",
  ]);
  app.hive.answers["GET /api/needs"] = [];
  await settle(() => {
    app.store.applyNeeds();
    app.store.applyEvent(event("message.requeued", { ids: [2], state: "queued" }));
  });
  expect(ids()).toEqual([2, 4, 3, 1]);
  expect(act(1, "dismiss")).toBeNull();
});

test("what does not come is told, and tried again", async () => {
  const { app, find, query } = await show([], {
    "GET /api/messages": () => Response.json({ code: "x", message: "it is away", hint: "" }, { status: 500 }),
  });
  expect(find("messages-error").textContent).toContain("it is away");
  app.hive.answers["GET /api/messages"] = [];
  await settle(() => find("messages-error").querySelector("button")?.click());
  expect(query("messages-error")).toBeNull();
  expect(find("agent-inbox").textContent).toContain("nothing was sent to alice");
});
