import { expect, test } from "vitest";
import { createMessage } from "./testing/stand_in.tsx";
import { groupFlow, groupThreads, holdOrder, mergeMessages } from "./threads.ts";

const toOperator = (id: number, thread: number | null, state: "queued" | "acked" = "queued") =>
  createMessage(id, { recipient: "operator", thread, state });

test("threads are ordered by what was said last, and count what is not read", () => {
  const threads = groupThreads([
    toOperator(9, 4),
    toOperator(8, null),
    toOperator(6, 4, "acked"),
    toOperator(4, null),
  ]);
  expect(threads.map(({ key, unread, messages }) => [key, unread, messages.map((row) => row.id)])).toEqual([
    [4, 2, [4, 6, 9]],
    [8, 1, [8]],
  ]);
});

test("an expired message to the operator is not unread", () => {
  expect(groupThreads([createMessage(1, { recipient: "operator", state: "expired" })])[0]?.unread).toBe(0);
});

test("while the order is held, only new threads come in, above", () => {
  const threads = groupThreads([
    toOperator(9, 2),
    toOperator(8, null),
    toOperator(5, null),
    toOperator(2, null),
  ]);
  expect(threads.map((thread) => thread.key)).toEqual([2, 8, 5]);
  expect(holdOrder(threads, [5, 2]).map((thread) => thread.key)).toEqual([8, 5, 2]);
});

test("two lists of a conversation make one without doubles, the later one counts", () => {
  const merged = mergeMessages([createMessage(3), createMessage(1)], [createMessage(3, { state: "acked" })]);
  expect(merged.map((row) => [row.id, row.state])).toEqual([
    [1, "queued"],
    [3, "acked"],
  ]);
});

test("the messages of a broadcast stand in one place, where the newest of them is", () => {
  const row = (id: number, broadcast: number | null = null) => createMessage(id, { broadcast });
  expect(groupFlow([row(9), row(8, 6), row(7, 6), row(6, 6), row(5, 5), row(4)])).toEqual([
    { key: "9", ids: [9] },
    { key: "to-all-6", ids: [8, 7, 6] },
    { key: "to-all-5", ids: [5] },
    { key: "4", ids: [4] },
  ]);
});
