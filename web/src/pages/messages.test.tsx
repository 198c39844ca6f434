import { beforeEach, expect, test, vi } from "vitest";
import type { HiveEvent, Message } from "../api_types.ts";
import { navigate } from "../route.ts";
import { createAgent, createMessage, createTestApp, mount, settle, type } from "../testing/stand_in.tsx";
import { DashboardPage } from "./dashboard.tsx";

beforeEach(() => {
  sessionStorage.clear();
  navigate("/");
});

const event = (name: string, body: Record<string, unknown>): HiveEvent => ({
  id: 0,
  at: "2026-11-20T12:00:09Z",
  name,
  agent: null,
  body,
});

/** Answers as the hive does, from messages that a test may change. */
function answerMessages(messages: Message[], inbox: boolean) {
  return (url: URL) => {
    const wanted = (name: string) => url.searchParams.get(name);
    const matches = (row: Message) =>
      row.id < Number(wanted("before") ?? Number.MAX_SAFE_INTEGER) &&
      (!inbox || row.recipient === "operator") &&
      [null, row.sender, row.recipient].includes(wanted("agent")) &&
      [null, row.state as string].includes(wanted("state")) &&
      [null, row.kind as string].includes(wanted("kind")) &&
      [null, String(row.id), String(row.thread)].includes(wanted("thread")) &&
      row.body.includes(wanted("search") ?? "");
    return messages
      .filter(matches)
      .sort((a, b) => b.id - a.id)
      .slice(0, Number(wanted("limit")));
  };
}

async function show(messages: Message[], answers: Record<string, unknown> = {}) {
  const app = createTestApp({
    "GET /api/agents": [createAgent("manager"), createAgent("alice"), createAgent("bob")],
    "GET /api/messages": answerMessages(messages, false),
    "GET /api/inbox": answerMessages(messages, true),
    ...answers,
  });
  await app.store.load();
  const page = mount(app, <DashboardPage />);
  await settle();
  const posts = () => app.hive.calls.filter((call) => call.method === "POST");
  const within = (testId: string, inner: string) => {
    const element = page.find(testId).querySelector<HTMLElement>(`[data-testid="${inner}"]`);
    if (element === null) throw new Error(`no ${inner} in ${page.find(testId).innerHTML}`);
    return element;
  };
  const say = (...said: Message[]) =>
    settle(() => {
      messages.push(...said);
      for (const message of said) app.store.applyEvent(event("message.sent", { message }));
    });
  return { app, ...page, posts, within, say };
}

const toOperator = (id: number, change: Partial<Message> = {}) =>
  createMessage(id, { recipient: "operator", ...change });

/** A question of the operator's, an answer, a word between agents, and two more words to the operator. */
const CONVERSATION = () => [
  createMessage(1, { sender: "operator", kind: "operator", recipient: "alice", body: "how far?" }),
  toOperator(2, { thread: 1, in_reply_to: 1, body: "half way", state: "acked" }),
  createMessage(3, { recipient: "bob", thread: 1, body: "bob, how far are you?" }),
  toOperator(4, { thread: 1, sender: "bob", body: "almost done" }),
  toOperator(5, { thread: 1, body: "all done" }),
  toOperator(6, { sender: "system", kind: "system", body: "restarted" }),
];

test("the inbox is grouped by thread: the newest first, folded, with what is not read counted", async () => {
  const { root, find, within } = await show(CONVERSATION());
  const keys = [...root.querySelectorAll<HTMLElement>('[data-testid="inbox"] [data-testid^="thread-"]')]
    .map((element) => element.dataset.testid)
    .filter((id) => /\d/.test(id ?? ""));
  expect(keys).toEqual(["thread-6", "thread-1"]);
  expect(within("thread-1", "thread-unread").textContent).toBe("2 unread");
  expect(find("inbox-5").textContent).toBe("all done");
  expect(find("thread-1").textContent).not.toContain("almost done");
});

test("unfolded, a thread shows all that was said in it, also between agents, the oldest first", async () => {
  const { app, find, within, query } = await show(CONVERSATION());
  await settle(() => within("thread-1", "thread-toggle").click());
  expect(app.hive.calls.at(-1)?.path).toBe("/api/messages?thread=1&limit=50");
  const said = [...find("conversation").querySelectorAll<HTMLElement>("li")].map((row) => row.dataset.testid);
  expect(said).toEqual(["said-1", "inbox-2", "said-3", "inbox-4", "inbox-5"]);
  await settle(() => within("thread-1", "thread-toggle").click());
  expect(query("conversation")).toBeNull();
});

test("what comes into an unfolded thread is added to it, and what was typed stays", async () => {
  const { find, within, say } = await show(CONVERSATION());
  await settle(() => within("thread-1", "reply-toggle").click());
  const field = find<HTMLTextAreaElement>("reply-text");
  expect(document.activeElement).toBe(field);
  await settle(() => type(field, "half a rep"));
  await say(toOperator(7, { sender: "bob", thread: 1, body: "wait" }), toOperator(8, { body: "another" }));
  expect(find("conversation").textContent).toContain("wait");
  expect(find<HTMLTextAreaElement>("reply-text")).toBe(field);
  expect(field.value).toBe("half a rep");
  expect(document.activeElement).toBe(field);
  // Bob wrote last now, and is not who the words are for.
  expect(field.placeholder).toBe("reply to alice, #5");
});

test("a thread that somebody has in hand does not move; new ones come in above", async () => {
  const { root, within, say } = await show([toOperator(1), toOperator(2, { sender: "bob" })]);
  const order = () =>
    [...root.querySelectorAll<HTMLElement>('[data-testid="inbox"] > ul > li')].map(
      (row) => row.dataset.testid,
    );
  within("thread-1", "reply-toggle").focus();
  await say(toOperator(3), toOperator(4, { thread: 1 }));
  expect(order()).toEqual(["thread-3", "thread-2", "thread-1"]);
  (document.activeElement as HTMLElement).blur();
  await say(toOperator(5, { thread: 3 }));
  expect(order()).toEqual(["thread-3", "thread-1", "thread-2"]);
});

test("a reply answers who wrote last, or the message that is chosen, and reads the thread", async () => {
  const { find, within, posts } = await show(CONVERSATION(), {
    "POST /api/messages": { id: 9, ids: [9] },
    "POST /api/inbox/4/ack": null,
    "POST /api/inbox/5/ack": null,
  });
  await settle(() => within("thread-1", "thread-toggle").click());
  await settle(() => within("inbox-4", "reply-to").click());
  const field = find<HTMLTextAreaElement>("reply-text");
  expect(document.activeElement).toBe(field);
  await settle(() => type(field, "good"));
  await settle(() => find("reply-send").click());
  expect(posts()[0]?.body).toMatchObject({ to: "bob", in_reply_to: 4, body: "good" });
  expect(
    posts()
      .slice(1)
      .map((call) => call.path),
  ).toEqual(["/api/inbox/4/ack", "/api/inbox/5/ack"]);
  expect(field.value).toBe("");
  expect(field.placeholder).toBe("reply to alice, #5");
});

test("messages are marked as read one by one, or the whole thread", async () => {
  const { app, find, within, posts } = await show(CONVERSATION(), {
    "POST /api/inbox/4/ack": null,
    "POST /api/inbox/5/ack": null,
  });
  await settle(() => within("thread-1", "mark-thread-read").click());
  expect(posts().map((call) => call.path)).toEqual(["/api/inbox/4/ack", "/api/inbox/5/ack"]);
  await settle(() => app.store.applyEvent(event("message.acked", { ids: [5], state: "acked" })));
  expect(find("thread-1").dataset.unread).toBe("1");
  await settle(() => within("thread-1", "thread-toggle").click());
  await settle(() => within("inbox-4", "mark-read").click());
  expect(posts().at(-1)?.path).toBe("/api/inbox/4/ack");
  await settle(() => app.store.applyEvent(event("message.acked", { ids: [4], state: "acked" })));
  expect(find("thread-1").dataset.unread).toBe("0");
  // It was unfolded by hand and stays so.
  expect(find("conversation").textContent).toContain("almost done");
});

test("the flow is narrowed by agent, sender, state and words, live, and shown whole again", async () => {
  const messages = [
    createMessage(1, { body: "red" }),
    createMessage(2, { sender: "manager", kind: "manager", recipient: "bob", body: "blue and red" }),
    createMessage(3, { recipient: "bob", state: "dead", note: "five turns failed" }),
    createMessage(4, { recipient: "bob", state: "expired" }),
  ];
  const { root, find, query, say } = await show(messages);
  const shown = () =>
    [...root.querySelectorAll<HTMLElement>(".flow > li")].map((row) => row.dataset.testid?.slice(8));
  const choose = (name: string, value: string) =>
    settle(() => {
      find<HTMLSelectElement>(`flow-${name}`).value = value;
      find(`flow-${name}`).dispatchEvent(new Event("change", { bubbles: true }));
    });
  await choose("agent", "bob");
  expect(shown()).toEqual(["4", "3", "2"]);
  await choose("kind", "manager");
  expect(shown()).toEqual(["2"]);
  await say(
    createMessage(5, { sender: "manager", kind: "manager", recipient: "bob" }),
    createMessage(6, { recipient: "bob" }),
  );
  expect(shown()).toEqual(["5", "2"]);
  await settle(() => find("flow-clear").click());
  expect(shown()).toEqual(["6", "5", "4", "3", "2", "1"]);
  await choose("state", "dead");
  expect(shown()).toEqual(["3"]);
  await choose("state", "expired");
  expect(shown()).toEqual(["4"]);
  await choose("state", "");
  await settle(() => type(find<HTMLInputElement>("flow-search"), "red"));
  await vi.waitFor(async () => {
    await settle();
    expect(shown()).toEqual(["2", "1"]);
  });
  expect(find("message-2").querySelector("mark")?.textContent).toBe("red");
  await settle(() => type(find<HTMLInputElement>("flow-search"), ""));
  expect(shown()).toHaveLength(6);
  expect(query("flow-clear")).toBeNull();
});

test("what was searched for is found again after a visit to another page", async () => {
  const { app, find } = await show([createMessage(1, { body: "red" }), createMessage(2)]);
  await settle(() => type(find<HTMLInputElement>("flow-search"), "red"));
  const again = mount(app, <DashboardPage />);
  await settle();
  expect(again.find<HTMLInputElement>("flow-search").value).toBe("red");
  expect(again.query("message-2")).toBeNull();
  expect(again.find("message-1")).toBeTruthy();
});

test("a search that the hive refuses says why, and what was typed stays", async () => {
  const { find, query } = await show([], {
    "GET /api/messages": (url: URL) =>
      url.searchParams.has("search")
        ? Response.json({ code: "x", message: "no such words", hint: "" }, { status: 400 })
        : [createMessage(1)],
  });
  await settle(() => type(find<HTMLInputElement>("flow-search"), '"half'));
  await vi.waitFor(async () => {
    await settle();
    expect(query("messages-error")?.textContent).toContain("no such words");
  });
  expect(find<HTMLInputElement>("flow-search").value).toBe('"half');
});

test("the thread of a message is shown in the flow by one click", async () => {
  const { find, within, root } = await show(CONVERSATION());
  await settle(() => {
    const details = find("message-3").querySelector("details") as HTMLDetailsElement;
    details.open = true;
    details.dispatchEvent(new Event("toggle"));
  });
  await settle(() => within("message-3", "show-thread").click());
  expect(root.querySelectorAll(".flow > li")).toHaveLength(5);
  await settle(() => find("flow-thread").click());
  expect(root.querySelectorAll(".flow > li")).toHaveLength(6);
});

test("what is special about a message is shown small, and what became of it with the reason", async () => {
  const { within, find, posts, app } = await show(
    [
      createMessage(1, { priority: "high", expires_at: "2099-01-01T00:00:00Z", deliveries: 3 }),
      createMessage(2, { state: "dead", note: "five turns failed", settled_at: "2026-11-20T12:00:00Z" }),
      createMessage(3),
    ],
    { "POST /api/messages/2/requeue": {} },
  );
  expect(within("message-1", "message-priority").textContent).toBe("high");
  expect(within("message-1", "message-expiry").textContent).toContain("expires in");
  expect(within("message-1", "message-deliveries").textContent).toBe("3 deliveries");
  expect(find("message-3").querySelector(".chip")).toBeNull();
  expect(within("message-2", "message-note").textContent).toBe("five turns failed");
  await settle(() => within("message-2", "requeue").click());
  expect(posts().map((call) => call.path)).toEqual(["/api/messages/2/requeue"]);
  expect(within("message-2", "requeue").getAttribute("aria-busy")).toBe("true");
  await settle(() =>
    app.store.applyEvent(event("message.requeued", { ids: [2], state: "queued", note: "asked to" })),
  );
  expect(find("message-2").dataset.state).toBe("queued");
  expect(find("message-2").querySelector('[data-testid="requeue"]')).toBeNull();
});

test("a message to all is asked about once, sent once, and shown in one place with all its receipts", async () => {
  const { app, find, query, posts, say, within } = await show([], {
    "POST /api/messages": { id: 1, ids: [1, 2, 3] },
  });
  await settle(() => {
    find<HTMLSelectElement>("flow-to").value = "*";
    find("flow-to").dispatchEvent(new Event("change", { bubbles: true }));
  });
  await settle(() => type(find<HTMLTextAreaElement>("flow-text"), "stop"));
  await settle(() => find("flow-send").click());
  expect(posts()).toEqual([]);
  await settle(() => find("flow-send-no").click());
  expect(posts()).toEqual([]);
  expect(find<HTMLTextAreaElement>("flow-text").value).toBe("stop");
  await settle(() => find("flow-send").click());
  await settle(() => find("flow-send-yes").click());
  expect(posts().map((call) => (call.body as { to: string }).to)).toEqual(["*"]);
  const one = (id: number, recipient: string) =>
    createMessage(id, { sender: "operator", recipient, broadcast: 1, body: "stop" });
  await say(one(1, "manager"), one(2, "alice"), one(3, "bob"));
  await settle(() => app.store.applyEvent(event("message.acked", { ids: [2], state: "acked" })));
  expect(find("broadcast-1").textContent).toContain("all 3");
  expect(within("broadcast-1", "tally-queued").textContent).toContain("2");
  expect(within("broadcast-1", "tally-acked").textContent).toContain("1");
  expect(query("message-2")).toBeNull();
  await settle(() => navigate("/#message-2"));
  await vi.waitFor(() => expect(document.activeElement).toBe(find("message-2")));
});

test("a question whom to send to goes when the recipient changes", async () => {
  const { find, query } = await show([]);
  const choose = (to: string) =>
    settle(() => {
      find<HTMLSelectElement>("flow-to").value = to;
      find("flow-to").dispatchEvent(new Event("change", { bubbles: true }));
    });
  await choose("*");
  await settle(() => type(find<HTMLTextAreaElement>("flow-text"), "stop"));
  await settle(() => find("flow-send").click());
  await choose("alice");
  expect(query("flow-send-yes")).toBeNull();
  await choose("*");
  expect(query("flow-send-yes")).toBeNull();
});

test("priority and lifetime go with one message, and the next begins with none", async () => {
  const { find, query, posts } = await show([], { "POST /api/messages": { id: 1, ids: [1] } });
  const choose = (name: string, value: string) =>
    settle(() => {
      find<HTMLSelectElement>(name).value = value;
      find(name).dispatchEvent(new Event("change", { bubbles: true }));
    });
  await choose("flow-priority", "high");
  await choose("flow-lifetime", "600");
  expect(find("flow-chosen").textContent).toBe("high · 10 minutes");
  for (const text of ["first", "second"]) {
    await settle(() => type(find<HTMLTextAreaElement>("flow-text"), text));
    await settle(() => find("flow-send").click());
  }
  expect(posts().map((call) => call.body)).toMatchObject([
    { body: "first", priority: "high", ttl_s: 600 },
    { body: "second", priority: "normal", ttl_s: null },
  ]);
  expect(query("flow-chosen")).toBeNull();
});

test("a link to a message opens and focuses it, in the inbox or in the flow", async () => {
  const { find } = await show(CONVERSATION());
  await settle(() => navigate("/#message-4"));
  await vi.waitFor(() => expect(document.activeElement).toBe(find("inbox-4")));
  await settle(() => navigate("/#message-3"));
  await vi.waitFor(() => expect(document.activeElement).toBe(find("message-3")));
  expect(find("message-3").querySelector("details")?.open).toBe(true);
});

test("a link to a message that is not loaded fetches it, and it stays over loads", async () => {
  const messages = Array.from({ length: 200 }, (_, index) => createMessage(index + 1));
  messages[9] = toOperator(10, { body: "long ago" });
  for (let id = 101; id <= 200; id += 1) messages[id - 1] = toOperator(id);
  const { app, find, query } = await show(messages);
  await settle(() => type(find<HTMLInputElement>("flow-search"), "nothing has this"));
  expect(query("inbox-10")).toBeNull();
  await settle(() => navigate("/#message-10"));
  await vi.waitFor(() => expect(document.activeElement).toBe(find("inbox-10")));
  await settle(() => navigate("/#message-5"));
  await vi.waitFor(() => expect(document.activeElement).toBe(find("message-5")));
  expect(find<HTMLInputElement>("flow-search").value).toBe("");
  await settle(() => void app.store.load());
  expect([find("inbox-10"), find("message-5")].map((row) => row.isConnected)).toEqual([true, true]);
});

test("a link to a message that does not exist says so", async () => {
  const { app } = await show([createMessage(3)]);
  await settle(() => navigate("/#message-99"));
  expect(app.toasts.list.value.at(-1)?.text).toBe("there is no message #99");
  expect(app.store.wantedMessage.value).toBeNull();
});

test("after a new connection the lists are fetched anew, and what is open and typed stays", async () => {
  const messages = CONVERSATION();
  const { app, find, within } = await show(messages);
  await settle(() => within("thread-1", "reply-toggle").click());
  await settle(() => type(find<HTMLTextAreaElement>("reply-text"), "half"));
  await settle(() => type(find<HTMLInputElement>("flow-search"), "done"));
  const field = find<HTMLTextAreaElement>("reply-text");
  messages[2] = { ...(messages[2] as Message), state: "acked" };
  messages.push(toOperator(7, { thread: 1, body: "said while nobody listened, done" }));
  await settle(() => void app.store.load());
  expect(find("said-3").dataset.state).toBe("acked");
  expect(find("conversation").textContent).toContain("nobody listened");
  await vi.waitFor(async () => {
    await settle();
    expect(find("message-7")).toBeTruthy();
  });
  expect(find<HTMLTextAreaElement>("reply-text")).toBe(field);
  expect([field.value, document.activeElement]).toEqual(["half", field]);
  expect(find<HTMLInputElement>("flow-search").value).toBe("done");
});
