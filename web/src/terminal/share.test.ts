import { expect, test } from "vitest";
import { isWebLink, parseTerminalLink, renderTerminalLink } from "./share.ts";

test("a link names a terminal, and whether it is for looking on", () => {
  for (const link of [
    { id: "a1b2", reading: false },
    { id: "t-7", reading: true },
  ])
    expect(parseTerminalLink(renderTerminalLink(link).slice(1))).toEqual(link);
});

test("what is no link to a terminal is none", () => {
  for (const fragment of [
    "",
    "terminal",
    "terminal-",
    "notes",
    "terminal-../x",
    `terminal-${"a".repeat(80)}`,
  ])
    expect(parseTerminalLink(fragment)).toBeNull();
});

test("only web pages are opened from output, and none with a name that could be taken for the host", () => {
  expect(isWebLink("https://example.org/a?b=c")).toBe(true);
  expect(isWebLink("http://127.0.0.1:8080/")).toBe(true);
  for (const address of [
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "https://bank.example@evil.example/",
    "https://",
    "",
  ])
    expect(isWebLink(address), address).toBe(false);
});
