import { expect, test } from "vitest";
import { BAR_KEYS, isAnswer, renderControl, renderKey } from "./keys.ts";

const key = (name: string) => BAR_KEYS.find((one) => one.name === name) ?? BAR_KEYS[0];

test("cursor keys are sent as the program asked for them", () => {
  const up = key("up");
  if (up === undefined) throw new Error("no such key");
  expect(renderKey(up, false)).toBe("\x1b[A");
  expect(renderKey(up, true)).toBe("\x1bOA");
});

test("the bar has what a phone's keyboard has not", () => {
  const sent = ["escape", "tab", "pipe", "tilde", "slash"].map((name) => {
    const found = BAR_KEYS.find((one) => one.name === name);
    return found && renderKey(found, true);
  });
  expect(sent).toEqual(["\x1b", "\t", "|", "~", "/"]);
});

test("with ctrl held a letter is its control character, and what has none stays", () => {
  expect(["c", "C", "[", " ", "?", "_"].map(renderControl)).toEqual([
    "\x03",
    "\x03",
    "\x1b",
    "\x00",
    "\x7f",
    "\x1f",
  ]);
  expect(["1", "é", "ls\r", "\x1b[A"].map(renderControl)).toEqual(["1", "é", "ls\r", "\x1b[A"]);
});

test("what a terminal answers by itself is told from what is typed", () => {
  const answers = [
    "\x1b[?1;2c",
    "\x1b[>0;276;0c",
    "\x1b[2;2R",
    "\x1b[0n",
    "\x1b[?12;2$y",
    "\x1b]11;rgb:0/0/0\x1b\\",
  ];
  expect(answers.filter(isAnswer)).toEqual(answers);
  const typed = [
    "a",
    "\x1b",
    "\x1b[A",
    "\x1bOA",
    "\x1b[1;5C",
    "\x1b[3~",
    "\x1b[200~x\x1b[201~",
    "\x1bc",
    "ls\r",
    "\x1b[I",
  ];
  expect(typed.filter(isAnswer)).toEqual([]);
});
