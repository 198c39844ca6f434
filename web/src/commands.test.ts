import { expect, test } from "vitest";
import { COMMANDS, findCompletions, parseTyped, renderCompletion } from "./commands.ts";

test.each([
  ["hello", "hello"],
  [" /help", " /help"],
  ["//help", "/help"],
  ["///etc", "//etc"],
  ["//", "/"],
])("%s is the message %s", (typed, text) => expect(parseTyped(typed)).toEqual({ kind: "message", text }));

test("a command is its name and what stands after it", () => {
  expect(parseTyped("/model  claude-opus-4 ")).toEqual({
    kind: "command",
    name: "model",
    argument: "claude-opus-4",
  });
  expect(parseTyped("/pause\nuntil monday")).toEqual({
    kind: "command",
    name: "pause",
    argument: "until monday",
  });
  expect(parseTyped("/pause")).toEqual({ kind: "command", name: "pause", argument: "" });
});

test.each([
  "/",
  "/nope",
  "/etc/hosts is broken",
  "/Help",
  "/clear",
  "/constructor",
  "/cancel now",
  "/model",
  "/ help",
])("%s is no command and no message", (typed) => expect(parseTyped(typed).kind).toBe("wrong"));

test("what is begun is completed, what is whole is not", () => {
  expect(findCompletions("/").map(({ name }) => name)).toEqual(COMMANDS.map(({ name }) => name));
  expect(findCompletions("/c").map(({ name }) => name)).toEqual(["cancel", "compact"]);
  expect(findCompletions("/cancel")).toEqual([]);
  expect(findCompletions("/model x")).toEqual([]);
  expect(findCompletions("//c")).toEqual([]);
  expect(findCompletions("hello /c")).toEqual([]);
});

test("every completion, with an argument where it wants one, is understood", () => {
  for (const command of COMMANDS)
    expect(parseTyped(renderCompletion(command) + (command.argument && "x")).kind).toBe("command");
});
