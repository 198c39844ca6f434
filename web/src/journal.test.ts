import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { JournalQuery } from "./api.ts";
import type { Journal } from "./api_types.ts";
import { openJournal } from "./journal.ts";

const LINE = "x".repeat(9_999);

/** A hive that has `text` as the journal of every agent, in pages of so many characters. */
function createSource(text: string, pageChars = 30) {
  const source = {
    text,
    asked: [] as JournalQuery[],
    fails: "",
    async journal(_agent: string, query: JournalQuery = {}): Promise<Journal> {
      source.asked.push(query);
      if (source.fails) throw new Error(source.fails);
      const words = query.filter?.toLowerCase() ?? "";
      const pick = (from: number, to: number) =>
        source.text
          .slice(from, to)
          .split(/(?<=\n)/)
          .filter((line) => line.toLowerCase().includes(words))
          .join("");
      if (query.offset !== undefined)
        return {
          text: pick(query.offset, source.text.length),
          offset: query.offset,
          next_offset: source.text.length,
          more: query.offset > 0,
        };
      const end = query.before ?? source.text.length;
      const from = Math.max(0, end - pageChars);
      const start = from === 0 ? 0 : source.text.lastIndexOf("\n", from) + 1;
      return { text: pick(start, end), offset: start, next_offset: end, more: start > 0 };
    },
  };
  return source;
}

const read = (journal: ReturnType<typeof openJournal>) =>
  journal.chunks.value.map((chunk) => chunk.text).join("");
const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => `line ${from + index}\n`).join("");

let opened: ReturnType<typeof openJournal>[] = [];

function open(source: ReturnType<typeof createSource>) {
  const journal = openJournal(source, "alice");
  opened.push(journal);
  return journal;
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  for (const journal of opened) journal.close();
  opened = [];
  vi.useRealTimers();
});

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

test("the end is read first, and older pages only when they are asked for", async () => {
  const source = createSource(lines(10, 40));
  const journal = open(source);
  expect(journal.note.value).toBe("reading…");
  await pass(0);
  expect(read(journal)).toBe(lines(36, 40));
  expect([journal.more.value, journal.note.value]).toEqual([true, ""]);
  const first = journal.chunks.value[0];
  await journal.loadOlder();
  expect(read(journal)).toBe(lines(32, 40));
  // What was there is the same piece: text that is selected in it stays selected.
  expect(journal.chunks.value[1]).toBe(first);
  while (journal.more.value) await journal.loadOlder();
  expect(read(journal)).toBe(source.text);
  const before = source.asked.length;
  await journal.loadOlder();
  expect(source.asked.length).toBe(before);
});

test("two scrolls at once ask for one page", async () => {
  const source = createSource(lines(10, 40));
  const journal = open(source);
  await pass(0);
  await Promise.all([journal.loadOlder(), journal.loadOlder()]);
  expect(read(journal)).toBe(lines(32, 40));
});

test("what is written is followed, and counted as new while one reads further up", async () => {
  const source = createSource(lines(10, 12));
  const journal = open(source);
  await pass(0);
  source.text += lines(12, 14);
  await pass(2_000);
  expect(read(journal)).toBe(lines(10, 14));
  expect(journal.fresh.value).toBe(0);
  journal.stick(false);
  source.text += lines(14, 17);
  await pass(2_000);
  expect(journal.fresh.value).toBe(3);
  expect(read(journal)).toBe(lines(10, 17));
  journal.stick(true);
  expect(journal.fresh.value).toBe(0);
});

test("a filter shows the lines that have it, old and new, and asks again when none of a page has", async () => {
  const source = createSource(`an Error\n${lines(10, 40)}`);
  const journal = open(source);
  await pass(0);
  journal.narrow("error");
  expect([read(journal), journal.note.value]).toEqual(["", "reading…"]);
  await pass(0);
  // Page after page was empty: the line stands far above.
  expect([read(journal), journal.more.value]).toEqual(["an Error\n", false]);
  source.text += "nothing\nthe second ERROR\n";
  await pass(2_000);
  expect(read(journal)).toBe("an Error\nthe second ERROR\n");
  journal.narrow("nowhere");
  await pass(0);
  expect(journal.note.value).toBe("no line has that");
  journal.narrow("");
  await pass(0);
  expect(read(journal)).toContain("line 39\nnothing\n");
});

test("an answer to what was asked before the filter changed is not shown", async () => {
  const source = createSource(lines(10, 40));
  const { journal: answer } = source;
  let late = () => {};
  source.journal = (agent, query = {}) =>
    query.filter === undefined && query.before === undefined && query.offset === undefined
      ? new Promise((resolve) => {
          late = () => void answer(agent, query).then(resolve);
        })
      : answer(agent, query);
  const journal = open(source);
  journal.narrow("line 11");
  await pass(0);
  late();
  await pass(0);
  expect(read(journal)).toBe("line 11\n");
});

test("what cannot be read is said, and tried again", async () => {
  const source = createSource("");
  source.fails = "the log cannot be read";
  const journal = open(source);
  await pass(0);
  expect(journal.note.value).toBe("the log cannot be read");
  source.fails = "";
  await pass(3_000);
  expect(journal.note.value).toBe("nothing written yet");
  source.text = "first\n";
  source.fails = "gone for a moment";
  await pass(2_000);
  source.fails = "";
  await pass(5_000);
  expect([read(journal), journal.note.value]).toEqual(["first\n", ""]);
});

test("what hides in an agent's lines is made visible", async () => {
  const journal = open(createSource("\u001b[2J\u202eevil\u0007 <b>\n"));
  await pass(0);
  for (const character of ["\u001b", "\u202e", "\u0007"]) expect(read(journal)).not.toContain(character);
  expect(read(journal)).toContain("evil");
  expect(read(journal)).toContain("<b>");
});

test("a journal that never ends fills neither the page at its end nor that of who reads further up", async () => {
  const source = createSource(`${LINE}\n`);
  const journal = open(source);
  await pass(0);
  for (let round = 0; round < 60; round += 1) {
    source.text += `${LINE}\n`.repeat(2);
    await pass(1_100);
  }
  expect(read(journal).length).toBeLessThanOrEqual(220_000);
  expect(read(journal).endsWith(`${LINE}\n`)).toBe(true);
  expect(journal.more.value).toBe(true);
  journal.stick(false);
  for (let round = 0; round < 80; round += 1) {
    source.text += `${LINE}\n`.repeat(2);
    await pass(1_100);
  }
  const full = read(journal).length;
  expect(full).toBeLessThanOrEqual(1_030_000);
  // What came meanwhile is there once the end is looked at again.
  journal.stick(true);
  await pass(3_000);
  source.text += "the last\n";
  await pass(3_000);
  expect(read(journal).endsWith("the last\n")).toBe(true);
});

test("no more than two of those that are open keep a request waiting", async () => {
  const sources = [1, 2, 3, 4].map(() => createSource("a\n"));
  for (const source of sources) {
    const { journal } = source;
    source.journal = (agent, query = {}) =>
      query.wait_s === undefined
        ? journal(agent, query)
        : new Promise((resolve) => setTimeout(() => void journal(agent, query).then(resolve), 5_000));
    open(source);
  }
  await pass(10);
  await pass(2_500);
  const quick = sources.filter((source) => source.asked.length > 2);
  expect(quick).toHaveLength(2);
  await pass(6_000);
});

test("nothing is asked for once it is closed", async () => {
  const source = createSource(lines(10, 12));
  const journal = open(source);
  await pass(0);
  journal.close();
  const before = source.asked.length;
  await pass(30_000);
  expect(source.asked.length).toBeLessThanOrEqual(before + 1);
});
