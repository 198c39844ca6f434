import { describe, expect, test } from "vitest";
import type { TranscriptEvent } from "../api_types.ts";
import { createEvent, loadRecording, RECORDINGS } from "../testing/recordings.ts";
import { EMPTY_TRANSCRIPT, reduceTranscript } from "./reduce.ts";
import type { Row } from "./rows.ts";

const reduce = (events: TranscriptEvent[]) => reduceTranscript(EMPTY_TRANSCRIPT, events).rows;
const tools = (rows: readonly Row[]) => rows.filter((row) => row.type === "tool");
const outline = (rows: readonly Row[]) =>
  rows.map((row) => {
    if (row.type === "tool") return `tool ${row.name}: ${row.summary} = ${row.result?.text ?? "…"}`;
    if (row.type === "text" || row.type === "thinking" || row.type === "notice")
      return `${row.type} ${row.text}`;
    return row.type === "raw" ? `raw ${row.label}` : row.type;
  });

describe("recordings of the real CLI", () => {
  test("a plain answer is one row of text", () => {
    expect(outline(reduce(loadRecording("hello")))).toEqual(["text STANDIN-ECHO: hello there"]);
  });

  test("parallel calls are one row each with their own results folded under them", () => {
    const rows = reduce(loadRecording("parallel"));
    expect(outline(rows).slice(0, 3)).toEqual([
      "thinking hmm",
      "text I will do three.",
      "tool Bash: echo a = a",
    ]);
    expect(tools(rows).map((row) => [row.name, row.summary, row.result?.failed, row.denied !== ""])).toEqual([
      ["Bash", "echo a", false, false],
      ["Bash", "touch zz", true, true],
      ["Bash", "echo c", false, false],
      ["hive send", "→ x: y", false, false],
    ]);
    expect(tools(rows)[3]?.result?.text).toBe("sent to x: 1 chars");
    expect(outline(rows).at(-1)).toBe("text end");
  });

  test("streamed pieces of a text do not show beside the text", () => {
    expect(reduce(loadRecording("partial")).filter((row) => row.type === "raw")).toEqual([]);
  });

  test("a compaction says what it saved", () => {
    expect(outline(reduce(loadRecording("compact")))).toContain("notice compacted: 22k → 2.7k tokens");
  });

  test("an API failure is an error although its subtype is success, and does not repeat the text before it", () => {
    const errors = reduce(loadRecording("oauth-401")).filter(
      (row) => row.type === "notice" && row.level === "error",
    );
    expect(outline(errors)).toEqual(["notice api error · HTTP 401"]);
  });

  test("a turn cut off by its limit says so", () => {
    expect(outline(reduce(loadRecording("max-turns"))).at(-1)).toBe(
      "notice max turns · Reached maximum number of turns (2)",
    );
  });

  test("a usage limit that comes near is a warning with its figures", () => {
    expect(outline(reduce(loadRecording("ratelimit-warning")))[1]).toMatch(
      /^notice usage limit near · five hour · 91 % used · resets /,
    );
  });

  test.each(RECORDINGS)(
    "%s: piece by piece gives the same rows as at once, under keys of their own",
    (name) => {
      const events = loadRecording(name);
      const whole = reduce(events);
      const pieces = events.reduce((so_far, event) => reduceTranscript(so_far, [event]), EMPTY_TRANSCRIPT);
      expect(pieces.rows).toEqual(whole);
      expect(new Set(whole.map((row) => row.key)).size).toBe(whole.length);
    },
  );
});

test("a call that a rule refused is denied, with the rule, and did not merely fail", () => {
  const call = { type: "tool_use", id: "t1", name: "Bash", input: { command: "curl x" } };
  const said = "PreToolUse:Bash hook error: denied by the rule 'bash.allow' of your config: no";
  const result = { type: "tool_result", tool_use_id: "t1", content: said, is_error: true };
  const answer = (decision: string) => [
    createEvent(1, "claude", { type: "assistant", message: { content: [call] } }),
    createEvent(2, "claude", {
      type: "user",
      message: { content: [result] },
      tool_result_meta: [{ id: "t1", permission_decision: { decision, source: "hook" } }],
    }),
  ];
  expect(reduce(answer("reject"))).toMatchObject([{ denied: "by the rule 'bash.allow' of your config: no" }]);
  expect(reduce(answer("accept"))).toMatchObject([{ denied: "", result: { failed: true } }]);
});

describe("the hive's own events", () => {
  const prompt =
    '<message id="7" from="alice" kind="peer" redelivered="true">\nhi\n&lt;/message> still mine\n</message>\n\n' +
    '<message id="8" from="operator" kind="operator">\ngo\n</message>\n\n2 more waiting: call recv for them.';

  test("a wake prompt is shown as the messages it carries", () => {
    expect(reduce([createEvent(1, "turn.started", { prompt })])).toMatchObject([
      {
        type: "prompt",
        envelopes: [
          { id: "7", from: "alice", kind: "peer", redelivered: true, body: "hi\n&lt;/message> still mine" },
          { id: "8", from: "operator", kind: "operator", redelivered: false, body: "go" },
        ],
        rest: "2 more waiting: call recv for them.",
      },
    ]);
  });

  test("a turn's end shows its outcome and its figures, the cost as the session's", () => {
    const usage = { input_tokens: 1200, cache_read_input_tokens: 11_000, output_tokens: 80 };
    const body = { outcome: "ok", duration_ms: 3210, usage, total_cost_usd: 0.1364 };
    expect(reduce([createEvent(1, "turn.ended", body)])).toMatchObject([
      { outcome: "ok", facts: ["3.2s", "12k in, 80 out", "session $0.14"] },
    ]);
  });

  test("idle and thinking are no rows, a reason is", () => {
    const states = [
      createEvent(1, "state", { state: "thinking", reason: "" }),
      createEvent(2, "state", { state: "parked", reason: "usage limit" }),
    ];
    expect(outline(reduce(states))).toEqual(["notice parked: usage limit"]);
  });
});

describe("what is not known or not well formed", () => {
  test("unknown kinds, types, subtypes and blocks are raw rows", () => {
    const events = [
      createEvent(1, "brand.new", { a: 1 }),
      createEvent(2, "claude", { type: "novelty" }),
      createEvent(3, "claude", { type: "system", subtype: "constructor" }),
      createEvent(4, "claude", { type: "assistant", message: { content: [{ type: "hologram" }] } }),
    ];
    expect(outline(reduce(events))).toEqual([
      "raw brand.new",
      "raw novelty",
      "raw system constructor",
      "raw assistant hologram",
    ]);
  });

  test("values of a wrong shape never throw", () => {
    const wrong = [
      null,
      3,
      "text",
      [],
      [null],
      { content: null },
      { content: [null, 3, { type: "tool_use" }] },
    ];
    const kinds = ["assistant", "user", "system", "result", "rate_limit_event"];
    const events = kinds.flatMap((type, i) =>
      wrong.map((message, j) => createEvent(i * 100 + j, "claude", { type, message, mcp_servers: message })),
    );
    const own = ["turn.started", "turn.ended", "notice", "state"].map((kind, i) =>
      createEvent(900 + i, kind, {}),
    );
    const bodiless = { ...createEvent(999, "claude", {}), body: null as never };
    expect(() => reduce([...events, ...own, bodiless])).not.toThrow();
  });

  test("a result whose call is on an older page stands by itself until that page is there", () => {
    const events = loadRecording("parallel");
    const split = events.findIndex((event) => event.body.type === "user");
    expect(tools(reduce(events.slice(split)))[0]).toMatchObject({
      summary: "result of an earlier call",
      result: { text: "a" },
    });
    expect(tools(reduce(events))).toHaveLength(4);
  });
});

test("rows that an event does not concern stay the same objects", () => {
  const before = reduceTranscript(EMPTY_TRANSCRIPT, loadRecording("hello"));
  const copy = structuredClone(before.rows);
  const after = reduceTranscript(before, [createEvent(50, "notice", { text: "later" })]);
  expect(after.rows[0]).toBe(before.rows[0]);
  expect(before.rows).toEqual(copy);
});
