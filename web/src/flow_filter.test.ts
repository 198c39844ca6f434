import { expect, test } from "vitest";
import { parseMessageId } from "./components/message_link.tsx";
import { parseFilter } from "./flow_filter.ts";

const NOTHING = { agent: "", kind: "", state: "", thread: "", search: "" };

test("only what is chosen narrows", () => {
  expect(parseFilter(NOTHING)).toEqual({});
  expect(parseFilter({ agent: "bob", kind: "peer", state: "dead", thread: "5", search: "a b" })).toEqual({
    agent: "bob",
    kind: "peer",
    state: "dead",
    thread: 5,
    search: "a b",
  });
});

test("what nobody offers narrows nothing", () => {
  expect(parseFilter({ ...NOTHING, kind: "god", state: "__proto__", thread: "-1" })).toEqual({});
});

test.each([
  ["message-12", 12],
  ["message-", null],
  ["message-1x", null],
  ["need-approval-1", null],
  [`message-${"9".repeat(16)}`, null],
])("the fragment %s names the message %s", (fragment, id) => {
  expect(parseMessageId(fragment)).toBe(id);
});
