import { afterEach, beforeEach, expect, test } from "vitest";
import { keepPresses } from "./press.ts";

let stop = () => {};
let clicks: string[] = [];

beforeEach(() => {
  clicks = [];
  document.body.innerHTML = '<button id="one"><span id="in">one</span></button><p id="text">text</p>';
  for (const button of document.querySelectorAll("button"))
    button.addEventListener("click", () => clicks.push(button.id));
  stop = keepPresses(document);
});
afterEach(() => stop());

function point(type: string, id: string, change: PointerEventInit = {}): void {
  const init = { bubbles: true, button: 0, pointerType: "mouse", pointerId: 1, clientX: 50, clientY: 50 };
  document.getElementById(id)?.dispatchEvent(new PointerEvent(type, { ...init, ...change }));
}

test("a press whose button moved away under the mouse still counts", () => {
  point("pointerdown", "in");
  point("pointerup", "text");
  expect(clicks).toEqual(["one"]);
  point("pointerup", "text");
  expect(clicks).toEqual(["one"]);
});

test("what the browser clicks itself is not clicked twice", () => {
  point("pointerdown", "one");
  point("pointerup", "in");
  expect(clicks).toEqual([]);
});

test("a press is taken back by a drag, and ends with its button", () => {
  point("pointerdown", "one");
  point("pointerup", "text", { clientY: 90 });
  point("pointerdown", "one");
  document.getElementById("one")?.remove();
  point("pointerup", "text");
  expect(clicks).toEqual([]);
});

test("another button of the mouse, a finger and what is no button begin none", () => {
  for (const [id, change] of [
    ["one", { button: 2 }],
    ["one", { pointerType: "touch" }],
    ["text", {}],
  ] as const) {
    point("pointerdown", id, change);
    point("pointerup", "text", change);
  }
  expect(clicks).toEqual([]);
});
