import { describe, expect, test, vi } from "vitest";
import type { TranscriptEvent } from "../api_types.ts";
import { createEvent, loadRecording, RECORDINGS } from "../testing/recordings.ts";
import { EMPTY_TRANSCRIPT, reduceTranscript, type Transcript } from "./reduce.ts";
import type { Row } from "./rows.ts";
import { explainSilence } from "./silent.ts";

const reduce = (events: TranscriptEvent[]) => reduceTranscript(EMPTY_TRANSCRIPT, events).rows;
const tools = (rows: readonly Row[]) => rows.filter((row) => row.type === "tool");
const outline = (rows: readonly Row[]) =>
  rows.map((row) => {
    if (row.type === "tool") return `tool ${row.name}: ${row.summary} = ${row.result?.text ?? "…"}`;
    if (row.type === "text" || row.type === "thinking" || row.type === "notice")
      return `${row.type} ${row.text}`;
    return row.type === "raw" ? `raw ${row.label}` : row.type;
  });

/** The rows of the recordings that matter most, whole; each line cut to 90 characters. */
const EXPECTED: Record<string, string[]> = {
  "denied-default": [
    "tool Bash: touch /home/agent/work/made.$RANDOM && echo ok = A variable in this command can",
    "text all done",
  ],
  compact: [
    "notice compacting the conversation",
    "notice compacted: 22k → 2.7k tokens",
    "raw claude tells itself",
  ],
  autocompact: [
    "tool Bash: echo a = a",
    "tool Bash: echo b = b",
    "notice compacting the conversation",
    "notice compacted by claude itself: 190k → 2.7k tokens",
    "raw claude tells itself",
    "tool Bash: echo c = c",
    "text end",
  ],
  "401": [
    ...[0.5, 1.2, 2.1, 4.3, 8.5, 16.3, 34.1, 35, 36, 34.3].map(
      (wait, index) =>
        `notice model request failed (401), retry ${index + 1} of 10, next in ${wait.toFixed(1)}s`,
    ),
    "text Invalid API key · Fix external API key",
    "notice api error · HTTP 401",
  ],
  "not-logged-in": ["text Not logged in · Please run /login", "notice api error"],
  "ratelimit-rejected": [
    "notice usage limit reached · five hour",
    "text You've hit your 5-hour limit · resets 1:16pm (UTC)",
    "notice api error · HTTP 429",
  ],
  "ptl-always": [
    "text Prompt is too long · the request is ~210345 tokens (limit 200000) but this conversati",
    "notice prompt too long · HTTP 400",
  ],
  parallel: [
    "thinking hmm",
    "text I will do three.",
    "tool Bash: echo a = a",
    "tool Bash: touch zz = touch in '/home/agent/srv/zz' needs approval. The path is inside the",
    "tool Bash: echo c = c",
    "tool hive send: → x: y = sent to x: 1 chars",
    "text end",
  ],
  hooks: [
    "tool Bash: echo a = a",
    "tool Bash: echo forbidden = PreToolUse:Bash hook error: [/home/agent/hook.sh PreToolUse]: ",
    "tool Bash: echo jsondeny = PreToolUse:Bash hook error: json deny reason",
    "tool Bash: touch jsonallow = rewritten by hook",
    "tool Bash: touch needsperm = touch in '/home/agent/work/needsperm' needs approval. The pat",
    "tool Bash: cat nonexist = Exit code 1\ncat: nonexist: No such file or directory",
    "text end",
    "raw claude tells itself",
    "notice stop hook problem · ctrl+o to see",
    "text after stop hook",
  ],
};

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
    expect(reduce(loadRecording("ratelimit-warning"))[1]).toMatchObject({
      text: "usage limit near · five hour · 91 % used",
      until: "2026-11-20T13:16:30.000Z",
    });
  });

  test.each(Object.entries(EXPECTED))("%s: these rows and no others", (name, rows) => {
    expect(outline(reduce(loadRecording(name))).map((line) => line.slice(0, 90))).toEqual(rows);
  });

  test("there are recordings", () => expect(RECORDINGS.length).toBeGreaterThanOrEqual(19));

  test.each(RECORDINGS)("%s: in any two pieces, and event by event, the same rows as whole", (name) => {
    const events = loadRecording(name);
    const whole = reduceTranscript(EMPTY_TRANSCRIPT, events);
    for (let cut = 0; cut <= events.length; cut += 1) {
      const first = reduceTranscript(EMPTY_TRANSCRIPT, events.slice(0, cut));
      const frozen = structuredClone(first.rows);
      const both = reduceTranscript(first, events.slice(cut));
      expect(both.rows).toEqual(whole.rows);
      expect([...both.calls]).toEqual([...whole.calls]);
      expect(first.rows).toEqual(frozen);
      // What comes after an older page that is not there yet.
      expect(() => reduce(events.slice(cut))).not.toThrow();
    }
    const pieces = events.reduce((so_far, event) => reduceTranscript(so_far, [event]), EMPTY_TRANSCRIPT);
    expect(pieces.rows).toEqual(whole.rows);
  });

  test.each(RECORDINGS)("%s: the same rows at another time and place, under keys of their own", (name) => {
    const events = loadRecording(name);
    const zone = process.env.TZ;
    const first = reduce(events);
    vi.useFakeTimers({ now: new Date("2031-05-06T07:08:09Z") });
    process.env.TZ = "Pacific/Auckland";
    const second = reduce(structuredClone(events));
    vi.useRealTimers();
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
    expect(second).toEqual(first);
    expect(new Set(first.map((row) => row.key)).size).toBe(first.length);
  });

  test.each(RECORDINGS)(
    "%s: every event changes a row, or is silent for a reason that is written down",
    (name) => {
      let transcript: Transcript = EMPTY_TRANSCRIPT;
      for (const event of loadRecording(name)) {
        const next = reduceTranscript(transcript, [event]);
        const changed = JSON.stringify(next.rows) !== JSON.stringify(transcript.rows);
        expect([event.seq, event.body.type, event.body.subtype, changed]).toEqual([
          event.seq,
          event.body.type,
          event.body.subtype,
          explainSilence(event.body) === "",
        ]);
        transcript = next;
      }
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

  test("what a turn was for, why it failed and how full the context is stand at its end", () => {
    const body = {
      outcome: "compact_retry",
      purpose: "checkpoint",
      reason: "400 prompt is too long",
      duration_ms: 90_000,
      usage: null,
      total_cost_usd: null,
      context_tokens: 210_000,
      context_limit: 200_000,
    };
    expect(reduce([createEvent(1, "turn.ended", body)])).toEqual([
      {
        key: "1",
        at: "2026-11-20T12:00:00Z",
        nested: false,
        type: "end",
        outcome: "compact_retry",
        purpose: "checkpoint",
        reason: "400 prompt is too long",
        facts: ["1m", "context 105 %"],
      },
    ]);
  });

  test("a turn that is not for messages is marked from its start", () => {
    const body = { prompt: "write down what matters", message_ids: [], purpose: "checkpoint" };
    expect(reduce([createEvent(1, "turn.started", body)])).toMatchObject([
      { type: "prompt", purpose: "checkpoint", rest: "write down what matters" },
    ]);
  });

  test("until when an agent is parked is an instant, not text", () => {
    const reason = "12 of 10 tokens; until 2026-11-22T19:51:00+00:00";
    expect(reduce([createEvent(1, "state", { state: "parked", reason })])).toMatchObject([
      { text: "parked: 12 of 10 tokens", until: "2026-11-22T19:51:00+00:00", untilWord: "until" },
    ]);
    const odd = reduce([createEvent(1, "state", { state: "parked", reason: "x; until 2026-99-99" })]);
    expect(odd).toMatchObject([{ text: "parked: x; until 2026-99-99" }]);
    expect(odd[0]).not.toHaveProperty("until");
  });

  test("idle, thinking and compacting are no rows, a reason is", () => {
    const states = [
      createEvent(3, "state", { state: "compacting", reason: "" }),
      createEvent(4, "state", { state: "compacting", reason: "rewrites its notes" }),
      createEvent(1, "state", { state: "thinking", reason: "" }),
      createEvent(2, "state", { state: "parked", reason: "usage limit" }),
    ];
    expect(outline(reduce(states))).toEqual([
      "notice compacting: rewrites its notes",
      "notice parked: usage limit",
    ]);
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

  test("a kind of system event that says something new is no silence", () => {
    const events = [
      { subtype: "status", status: "pondering" },
      { subtype: "status", status: null, compact_result: "no_messages" },
      { subtype: "background_tasks_changed", tasks: [{}] },
      { subtype: "hook_response", exit_code: 1, outcome: "error" },
      { subtype: "init", mcp_servers: [{ name: "tracker", status: "failed" }] },
    ].map((body, index) => createEvent(index + 1, "claude", { type: "system", ...body }));
    expect(outline(reduce(events))).toEqual([
      "notice claude: pondering",
      "notice the compaction failed: no_messages",
      "notice 1 task in the background",
      "raw system hook_response",
      "notice MCP servers not connected: tracker (failed)",
    ]);
  });

  test("figures and texts that nobody would write by accident never throw", () => {
    let deep: unknown = 0;
    for (let depth = 0; depth < 20_000; depth += 1) deep = [deep];
    const odd = [1e308, -1e308, 1e-320, deep, "\ud800", "__proto__", { toString: 1 }, true];
    const events = odd.flatMap((value, i) =>
      [
        { type: "rate_limit_event", rate_limit_info: { status: value, resetsAt: value, utilization: value } },
        { type: "system", subtype: value, attempt: value, error_status: value, retry_delay_ms: value },
        { type: "system", subtype: "api_retry", attempt: value, max_retries: 3, error_status: value },
        {
          type: "system",
          subtype: "compact_boundary",
          compact_metadata: { pre_tokens: value, post_tokens: value },
        },
        { type: "result", is_error: true, errors: value, terminal_reason: value, result: value },
        { type: value, message: value },
        {
          type: "assistant",
          message: { content: [{ type: "tool_use", id: value, name: value, input: value }] },
        },
        { type: "user", message: { content: [{ type: "tool_result", tool_use_id: value, content: value }] } },
      ].map((body, j) => createEvent(i * 10 + j, "claude", body)),
    );
    const ends = odd.map((value, i) =>
      createEvent(900 + i, "turn.ended", {
        outcome: value,
        usage: value,
        duration_ms: value,
        context_limit: value,
      }),
    );
    expect(() => reduce([...events, ...ends])).not.toThrow();
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
