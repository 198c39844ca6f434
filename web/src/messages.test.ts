import { afterEach, expect, test, vi } from "vitest";
import type { HiveEvent, Message } from "./api_types.ts";
import { MESSAGE_LIMIT, MESSAGE_PAGE, MessageList, type MessagePage, mayMatch } from "./messages.ts";
import { createMessage } from "./testing/stand_in.tsx";

afterEach(() => vi.useRealTimers());

const event = (name: string, body: Record<string, unknown>): HiveEvent => ({
  id: 0,
  at: "2026-11-20T12:00:09Z",
  name,
  agent: null,
  body,
});
const sent = (message: Message) => event("message.sent", { message });
const changed = (state: string, ...ids: number[]) =>
  event(`message.${state}`, { ids, state, note: state === "dead" ? "it broke" : null });

/** A list on a hive that has the messages 1 to `count`; `fetches` are the pages it was asked for. */
function createList(count: number, options: { exact?: boolean } = {}) {
  const hive = new Map(Array.from({ length: count }, (_, index) => [index + 1, createMessage(index + 1)]));
  const fetches: MessagePage[] = [];
  let gate: Promise<void> = Promise.resolve();
  const list = new MessageList({
    async fetchPage(page) {
      fetches.push(page);
      const { before = Number.MAX_SAFE_INTEGER, limit = 0 } = page;
      const rows = [...hive.values()].filter((row) => row.id < before).sort((a, b) => b.id - a.id);
      await gate;
      return rows.slice(0, limit);
    },
    mayMatch: () => true,
    exact: options.exact ?? true,
  });
  return {
    hive,
    list,
    fetches,
    /** Keeps answers back until what it returns is called. */
    hold() {
      let release = () => {};
      gate = new Promise((resolve) => (release = resolve));
      return release;
    },
    say(...ids: number[]) {
      for (const id of ids) {
        const message = createMessage(id);
        hive.set(id, message);
        list.apply(sent(message));
      }
    },
  };
}

const range = (newest: number, oldest: number) =>
  Array.from({ length: newest - oldest + 1 }, (_, index) => newest - index);

test("the newest page is fetched, older ones on request until there are none", async () => {
  const { list } = createList(120);
  await list.refresh();
  expect(list.keys.value).toEqual(range(120, 71));
  await list.older();
  await list.older();
  expect(list.keys.value).toEqual(range(120, 1));
  expect(list.ended.value).toBe(true);
});

test("a message comes in by its event, and its states follow with when and why", async () => {
  const { list, say } = createList(0);
  await list.refresh();
  say(1);
  list.apply(changed("leased", 1, 99));
  expect(list.find(1)).toMatchObject({ state: "leased", deliveries: 1, settled_at: null });
  list.apply(event("message.requeued", { ids: [1], state: "queued", note: "the container died" }));
  list.apply(changed("leased", 1));
  expect(list.find(1)).toMatchObject({ deliveries: 2, note: "the container died" });
  list.apply(changed("dead", 1));
  expect(list.find(1)).toMatchObject({
    state: "dead",
    note: "it broke",
    settled_at: "2026-11-20T12:00:09Z",
  });
  list.apply(event("message.requeued", { ids: [1], state: "queued", note: null }));
  expect(list.find(1)).toMatchObject({ state: "queued", settled_at: null });
  list.apply(changed("expired", 1));
  expect(list.find(1)?.state).toBe("expired");
});

test("what is told late of a settled message hands it out no second time", async () => {
  const { list, say } = createList(0);
  await list.refresh();
  say(1);
  list.apply(changed("acked", 1));
  list.apply(changed("leased", 1));
  expect(list.find(1)).toMatchObject({ state: "acked", deliveries: 0 });
});

test("what happens during a fetch is applied on top of the older answer", async () => {
  const { list, hold, say } = createList(3);
  await list.refresh();
  const release = hold();
  const fetching = list.refresh();
  say(4);
  list.apply(changed("acked", 2));
  release();
  await fetching;
  expect(list.keys.value).toEqual([4, 3, 2, 1]);
  expect(list.find(2)?.state).toBe("acked");
});

test("after a lost connection all that is shown is fetched, and no older message goes", async () => {
  const { list, hive } = createList(200);
  await list.refresh();
  await list.older();
  hive.set(110, createMessage(110, { state: "dead" }));
  for (const id of range(230, 201)) hive.set(id, createMessage(id));
  await list.refresh();
  expect(list.keys.value).toEqual(range(230, 101));
  expect(list.find(110)?.state).toBe("dead");
});

test("what does not reach down to the known messages drops them: there is no silent gap", async () => {
  const { list, hive } = createList(60);
  await list.refresh();
  for (const id of range(600, 61)) hive.set(id, createMessage(id));
  await list.refresh();
  expect(list.keys.value).toEqual(range(600, 501));
  await list.older();
  expect(list.keys.value).toEqual(range(600, 451));
});

test("what was kept stays, whatever else goes, and is no part of the stretch", async () => {
  const { list, hive } = createList(300);
  await list.refresh();
  list.keep(hive.get(7) as Message);
  await list.refresh();
  expect(list.keys.value).toEqual([...range(300, 251), 7]);
  await list.older();
  expect(list.keys.value).toEqual([...range(300, 201), 7]);
});

test("a busy hive does not fill the page: the oldest give way", async () => {
  const { list, say } = createList(0);
  await list.refresh();
  say(...range(MESSAGE_LIMIT + 100, 1).reverse());
  expect(list.keys.value).toEqual(range(MESSAGE_LIMIT + 100, 101));
  expect(list.ended.value).toBe(false);
  await list.older();
  expect(list.keys.value.at(-1)).toBe(51);
});

test("who looks far back gives up the newest, is told of new ones, and comes back to them", async () => {
  const { list, say } = createList(1000);
  await list.refresh();
  for (let pages = 0; pages < 10; pages += 1) await list.older();
  expect(list.keys.value).toEqual(range(850, 451));
  say(1001, 1002);
  expect([list.away.value, list.unseen.value, list.find(1001)]).toEqual([true, 2, undefined]);
  await list.refresh();
  expect(list.keys.value).toEqual(range(850, 451));
  await list.newest();
  expect(list.keys.value).toEqual(range(1002, 1002 - MESSAGE_PAGE + 1));
  expect([list.away.value, list.unseen.value]).toEqual([false, 0]);
});

test("a list that only the hive can answer for is fetched again when something happens, not for each", async () => {
  vi.useFakeTimers();
  const { list, hive, fetches, say } = createList(3, { exact: false });
  await list.refresh();
  say(4, 5, 6);
  hive.delete(2);
  list.apply(changed("dead", 2));
  expect(fetches).toHaveLength(1);
  await vi.runAllTimersAsync();
  expect(fetches).toHaveLength(2);
  expect(list.keys.value).toEqual([6, 5, 4, 3, 1]);
  say(7);
  list.close();
  await vi.runAllTimersAsync();
  expect(fetches).toHaveLength(2);
});

test("a failed fetch is told, keeps what was there, and what happened meanwhile counts", async () => {
  let fail = false;
  const list = new MessageList({
    fetchPage: () => (fail ? Promise.reject(new Error("no disk")) : Promise.resolve([createMessage(1)])),
    mayMatch: () => true,
    exact: true,
  });
  await list.refresh();
  fail = true;
  const failing = list.refresh();
  list.apply(sent(createMessage(2)));
  await expect(failing).rejects.toThrow("no disk");
  expect(list.error.value).toBe("no disk");
  expect(list.keys.value).toEqual([2, 1]);
  fail = false;
  await list.refresh();
  expect(list.error.value).toBe("");
});

test("a filter lets through what is from or to an agent, of a kind, in a thread", () => {
  const message = createMessage(5, { sender: "alice", recipient: "bob", kind: "peer", thread: 3 });
  expect(mayMatch({}, message)).toBe(true);
  expect(mayMatch({ agent: "bob", kind: "peer", thread: 3 }, message)).toBe(true);
  expect(mayMatch({ agent: "carol" }, message)).toBe(false);
  expect(mayMatch({ kind: "manager" }, message)).toBe(false);
  expect(mayMatch({ recipient: "bob" }, message)).toBe(true);
  expect(mayMatch({ recipient: "alice" }, message)).toBe(false);
  expect(mayMatch({ thread: 5 }, message)).toBe(false);
  expect(mayMatch({ thread: 5 }, createMessage(5))).toBe(true);
});
