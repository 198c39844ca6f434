import { expect, test } from "vitest";
import { createDecide } from "./service_worker_decisions.ts";
import { applyNotice, type Board, keepOnly, parseJson, parseNotice } from "./service_worker_notices.ts";

interface Shown {
  title: string;
  tag: string;
  data: unknown;
  actions: { action: string }[];
  close(): void;
}

/** What stands on a screen: one notification a tag. */
function createBoard() {
  const shown = new Map<string, Shown>();
  const board = {
    async showNotification(title: string, options: Omit<Shown, "title" | "close">) {
      shown.set(options.tag, { title, ...options, close: () => shown.delete(options.tag) });
    },
    getNotifications: async ({ tag }: { tag?: string } = {}) =>
      [...shown.values()].filter((one) => tag === undefined || one.tag === tag),
  };
  return { shown, board: board as unknown as Board };
}

const need = (key: string, change: object = {}) =>
  parseNotice({ kind: "need", key, need: "approval", title: "look", acts: ["approve", "deny"], ...change });

async function show(board: Board, ...notices: ReturnType<typeof need>[]): Promise<void> {
  for (const notice of notices) if (notice !== null) await applyNotice(board, notice);
}

test("a need is shown once however often it is told, and closed when it is gone", async () => {
  const { board, shown } = createBoard();
  await show(board, need("approval-1"), need("approval-1"), need("approval-2"));
  expect([...shown.keys()]).toEqual(["need-approval-1", "need-approval-2"]);
  expect(shown.get("need-approval-1")?.data).toEqual({ key: "approval-1", link: "/#need-approval-1" });
  await show(board, parseNotice({ kind: "gone", key: "approval-1" }));
  expect([...shown.keys()]).toEqual(["need-approval-2"]);
});

test("only an approval can be decided from a notification, by the acts that it has", async () => {
  const { board, shown } = createBoard();
  await show(
    board,
    need("approval-1"),
    need("approval-2", { acts: ["deny", "selfdestruct"] }),
    need("question-3", { need: "question", acts: ["answer", "approve"] }),
    need("x-4", { need: "constructor", acts: ["approve"] }),
  );
  const actions = [...shown.values()].map((one) => one.actions.map(({ action }) => action));
  expect(actions).toEqual([["approve", "deny"], ["deny"], [], []]);
});

test("what was dealt with while nobody looked is closed, a notification of another kind is not", async () => {
  const { board, shown } = createBoard();
  await show(board, need("approval-1"), need("approval-2"));
  await board.showNotification("other", { tag: "other" });
  await keepOnly(board, ["approval-2"]);
  expect([...shown.keys()]).toEqual(["need-approval-2", "other"]);
});

test("what is no notice is none", () => {
  const odd = [null, 7, "x", [], {}, { kind: "need" }, { kind: "gone", key: 3 }, { kind: "gone", key: "" }];
  for (const value of odd) expect(parseNotice(value)).toBeNull();
  expect(need("approval-1", { title: 3 })).toBeNull();
  expect(need("approval-1", { acts: "approve" })).toBeNull();
  expect(need("approval-1", { kind: "later" })).toBeNull();
  expect(need("approval-1", { acts: [1, "deny"] })).toMatchObject({ acts: ["deny"] });
  expect(parseNotice(parseJson("{"))).toBeNull();
  expect(need("approval-1", { title: "x".repeat(9999) })).toMatchObject({ title: "x".repeat(200) });
});

/** A hive with one approval, that counts decisions. */
function createHive(change: { commit?: string | null; status?: string; fails?: boolean } = {}) {
  const row = { status: "pending", commit: null, ...change };
  const decisions: string[] = [];
  const answer = async (input: unknown, init: RequestInit = {}): Promise<Response> => {
    if (change.fails) throw new TypeError("gone");
    const path = String(input);
    if (init.method !== "POST") return Response.json(row);
    if (row.status !== "pending") return Response.json({ code: "conflict" }, { status: 409 });
    decisions.push(path);
    row.status = path.endsWith("/deny") ? "denied" : "approved";
    return Response.json(row);
  };
  return { row, decisions, decide: createDecide(answer as typeof fetch) };
}

test("a double click decides once and is no trouble", async () => {
  const { decide, decisions } = createHive();
  const clicks = [decide("approve", "approval-1"), decide("approve", "approval-1")];
  expect(await Promise.all(clicks)).toEqual([true, true]);
  expect(decisions).toEqual(["/api/approvals/1/approve"]);
});

test("the first of two opposite clicks counts, and the second is to be looked at", async () => {
  const { decide, decisions } = createHive();
  expect(await Promise.all([decide("deny", "approval-1"), decide("approve", "approval-1")])).toEqual([
    true,
    false,
  ]);
  expect(decisions).toEqual(["/api/approvals/1/deny"]);
});

test("a change that has to be seen is denied from a notification, but never approved", async () => {
  const seen = createHive({ commit: "c".repeat(40) });
  expect(await seen.decide("approve", "approval-1")).toBe(false);
  expect(seen.row.status).toBe("pending");
  expect(await seen.decide("deny", "approval-1")).toBe(true);
});

test("what was decided otherwise, what the hive does not take and what is no approval is to be looked at", async () => {
  expect(await createHive({ status: "deployed" }).decide("deny", "approval-1")).toBe(false);
  expect(await createHive({ status: "deployed" }).decide("approve", "approval-1")).toBe(true);
  expect(await createHive({ fails: true }).decide("deny", "approval-1")).toBe(false);
  const { decide, decisions } = createHive();
  for (const key of ["question-1", "approval-1/approve", "approval-x", "approval-", "approval-1?"])
    expect(await decide("approve", key)).toBe(false);
  for (const act of ["", "requeue", "constructor", "../approve"])
    expect(await decide(act, "approval-1")).toBe(false);
  expect(decisions).toEqual([]);
});

test("a failure does not stand in the way of the next click", async () => {
  const hive = { fails: true };
  const { decide } = createHive(hive);
  expect(await decide("deny", "approval-1")).toBe(false);
  hive.fails = false;
  expect(await decide("deny", "approval-1")).toBe(true);
});
