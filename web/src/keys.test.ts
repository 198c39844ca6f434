import { expect, test } from "vitest";
import { createKeys, type KeyAct } from "./keys.ts";

const press = (key: string, more: Partial<KeyboardEvent> = {}) => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  ...more,
});

function createTyped(singles = true) {
  const clock = { now_ms: 0 };
  const find = createKeys(() => clock.now_ms);
  return { clock, type: (key: string, typing = false): KeyAct | null => find(press(key), typing, singles) };
}

test("ctrl or cmd with k opens the palette, also from a field and when single keys are off", () => {
  const find = createKeys(() => 0);
  for (const more of [{ ctrlKey: true }, { metaKey: true }]) {
    expect(find(press("k", more), true, false)).toEqual({ kind: "palette" });
  }
  expect(find(press("k", { ctrlKey: true, altKey: true }), false, true)).toBeNull();
});

test("g and then a letter leads somewhere, if the letter comes soon", () => {
  const { type, clock } = createTyped();
  expect(type("a")).toBeNull();
  expect(type("g")).toBeNull();
  expect(type("a")).toEqual({ kind: "section", id: "approvals" });
  type("g");
  expect(type("h")).toEqual({ kind: "home" });
  type("g");
  expect(type("x")).toBeNull();
  expect(type("a")).toBeNull();
  type("g");
  clock.now_ms = 60_000;
  expect(type("a")).toBeNull();
});

test("what is typed into a field is no shortcut, and a g before it is forgotten", () => {
  const { type } = createTyped();
  type("g");
  expect(type("a", true)).toBeNull();
  expect(type("a")).toBeNull();
  expect(type("?", true)).toBeNull();
});

test("single keys do nothing when they are switched off", () => {
  const { type } = createTyped(false);
  for (const key of ["?", "j", "k", "g", "a", "ArrowDown"]) expect(type(key)).toBeNull();
});

test("a letter with ctrl or alt is the browser's", () => {
  const find = createKeys(() => 0);
  expect(find(press("j", { ctrlKey: true }), false, true)).toBeNull();
  expect(find(press("?", { altKey: true }), false, true)).toBeNull();
});
