import source from "@xterm/xterm/lib/xterm.mjs?raw";
import { expect, test } from "vitest";
import { rewriteStyles } from "../../xterm_styles.ts";

test("nothing in xterm.js makes a style that the pages' policy forbids once it is built", () => {
  const built = rewriteStyles(source);
  expect(built).not.toMatch(/createElement\(["'`]style|setAttribute\(["'`]style/);
  expect(built).not.toMatch(/innerHTML|insertAdjacentHTML|document\.write|new Function|\beval\(/);
  expect(built.match(/adopted-style/g)).toHaveLength(3);
});

test("another xterm.js than the one that was looked at fails the build", () => {
  expect(() => rewriteStyles(`${source};document.createElement("style")`)).toThrow("xterm_styles.ts");
  expect(() => rewriteStyles("")).toThrow("xterm_styles.ts");
});
