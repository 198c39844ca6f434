import { expect, test } from "vitest";
import { renderFirstLine, renderRest, renderSize, renderVisible, splitExact, splitHits } from "./text.ts";

test("what reorders or hides text is written out", () => {
  expect(renderVisible("a\u202eb\u2066c\u200bd\ufeffe\u00adf")).toBe(
    "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200B⟩d⟨U+FEFF⟩e⟨U+00AD⟩f",
  );
  expect(renderVisible("\u{e0041}\u{e0042}")).toBe("⟨U+E0041⟩⟨U+E0042⟩");
  expect(renderVisible("\ud800 lone")).toBe("⟨U+D800⟩ lone");
});

test("control characters are written out, colours of a terminal are dropped", () => {
  expect(renderVisible("\x1b[1;31mred\x1b[0m \x1b]52;c;AAAA\x07 \x9b2J \x00")).toBe(
    "red ⟨U+001B⟩]52;c;AAAA⟨U+0007⟩ ⟨U+009B⟩2J ⟨U+0000⟩",
  );
});

test("ordinary text of any script stays as it is", () => {
  const text = "tab\there\nnew line, naïve, שלום, 日本語, 👩‍💻, می‌خواهم";
  expect(renderVisible(text)).toBe(text);
  expect(renderVisible("a\r\nb")).toBe("a\nb");
});

test("a first line is short and the rest is counted", () => {
  expect(renderFirstLine("\n\n  one\ntwo")).toBe("one");
  expect(renderFirstLine("x".repeat(500))).toHaveLength(160);
  expect(renderRest("one\ntwo\nthree\n")).toBe("+2 lines");
  expect(renderRest("one")).toBe("");
});

test("sizes are in units of 1024", () => {
  expect([0, 1023, 1536, 73_400_320].map(renderSize)).toEqual(["0 B", "1023 B", "1.5 KiB", "70 MiB"]);
});

const shown = (text: string, multiline = false) =>
  splitExact(text, multiline)
    .map((piece) => (piece.title ? `[${piece.text}]` : piece.text))
    .join("");

test("in exact text everything that is not what it looks like is marked", () => {
  expect(shown("plain = 'text'\tof it")).toBe("plain = 'text'\tof it");
  expect(shown("a\u202eb")).toBe("a[⟨U+202E⟩]b");
  expect(shown("x\u200dy\u00a0z\r")).toBe("x[⟨U+200D⟩]y[⟨U+00A0⟩]z[⟨U+000D⟩]");
  expect(shown("\x1b[31mred")).toBe("[⟨U+001B⟩][31mred");
  expect(shown("v\ufe0f \ue000 \u{e0041}")).toBe("v[⟨U+FE0F⟩] [⟨U+E000⟩] [⟨U+E0041⟩]");
  expect(shown("two\nlines")).toBe("two[⟨U+000A⟩]lines");
  expect(shown("two\nlines", true)).toBe("two\nlines");
  expect(splitExact("")).toEqual([]);
});

test("a letter of another script within a Latin word is marked, whole words of it are not", () => {
  expect(shown("gi\u0442 push")).toBe("gi[\u0442⟨U+0442⟩] push");
  expect(shown("\uff47it")).toBe("[\uff47⟨U+FF47⟩]it");
  expect(shown("привет, κόσμε, naïve, 日本語text")).toBe("привет, κόσμε, naïve, 日本語text");
});

test("each mark says why", () => {
  expect(splitExact("\u202e")[0]?.title).toBe("changes the order of the text around it");
  expect(splitExact("\x07")[0]?.title).toBe("a control character");
  expect(splitExact("\u2003")[0]?.title).toBe("not the plain space");
  expect(splitExact("\u200b")[0]?.title).toBe("cannot be seen");
});

const found = (text: string, search: string) =>
  splitHits(text, search)
    .map(({ text: part, hit }) => (hit ? `[${part}]` : part))
    .join("");

test("the words of a search are marked where they stand, the first of them in sight", () => {
  expect(found("a Heron and\na crane", "heron crane")).toBe("a [Heron] and a [crane]");
  const far = found(`${"x ".repeat(500)}the heron${" y".repeat(500)}`, "heron");
  expect(far).toMatch(/^…x .*the \[heron\] y .*…$/);
  expect(far.length).toBeLessThan(200);
});

test("a word is marked as a whole, with a star by its beginning", () => {
  expect(found("a band, an ant, retry_after", "an retry_after")).toBe("a band, [an] ant, [retry]_[after]");
  expect(found("a band, bandages", "band*")).toBe("a [band], [bandages]");
});

test("what is no word marks nothing, and what only the hive finds shows the beginning", () => {
  expect(found("a (b", "(")).toBe("a (b");
  expect(found("first\nsecond", "third")).toBe("first");
  expect(found(`${"\u{1f41d}".repeat(200)}heron`, "heron")).not.toMatch(/\p{Cs}/u);
});
