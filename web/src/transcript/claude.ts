import { renderCount } from "../text.ts";
import { asFields, asInstant, asList, asNumber, asText, type Fields, renderJson } from "./json.ts";
import type { Draft } from "./reduce.ts";
import type { Row } from "./rows.ts";
import { blocksOf, explainSilence, findUnconnected, isEmptyBlock } from "./silent.ts";
import { renderToolInput, renderToolName, renderToolResult, renderToolSummary } from "./tool.ts";

/**
 * Adds what one stream-json event of the CLI shows. A type or subtype not known here becomes a raw row; only what
 * `explainSilence` has a reason for leaves no trace.
 */
export function reduceClaude(draft: Draft, seq: number, at: string, event: Fields): void {
  const place = { seq, at, nested: Boolean(event.parent_tool_use_id) };
  const type = asText(event.type);
  if (explainSilence(event)) return;
  if (type === "assistant") reduceAssistant(draft, place, event);
  else if (type === "user") reduceUser(draft, place, event);
  else if (type === "system") reduceSystem(draft, place, event);
  else if (type === "result") reduceResult(draft, place, event);
  else if (type === "rate_limit_event") reduceRateLimit(draft, place, event);
  else if (type === "conversation_reset") notice(draft, place, "info", "the conversation starts afresh");
  else raw(draft, place, type || "event", event);
}

interface Place {
  seq: number;
  at: string;
  nested: boolean;
}

const base = (place: Place, part: number | string = 0) => ({
  key: part === 0 ? `${place.seq}` : `${place.seq}.${part}`,
  at: place.at,
  nested: place.nested,
});

type Level = Extract<Row, { type: "notice" }>["level"];

function notice(draft: Draft, place: Place, level: Level, text: string, until = "") {
  draft.rows.push({ ...base(place), type: "notice", level, text, ...(until && { until }) });
}

function raw(draft: Draft, place: Place, label: string, value: unknown, part: number | string = 0) {
  draft.rows.push({ ...base(place, part), type: "raw", label, text: renderJson(value) });
}

function reduceAssistant(draft: Draft, place: Place, event: Fields): void {
  const blocks = blocksOf(event);
  if (blocks.length === 0) raw(draft, place, "assistant", event);
  blocks.forEach((block, part) => {
    if (isEmptyBlock(block)) return;
    if (block.type === "text")
      draft.rows.push({ ...base(place, part), type: "text", text: asText(block.text) });
    else if (block.type === "thinking")
      draft.rows.push({ ...base(place, part), type: "thinking", text: asText(block.thinking) });
    else if (block.type === "tool_use") addCall(draft, place, block, part);
    else raw(draft, place, `assistant ${asText(block.type)}`, block, part);
  });
}

function addCall(draft: Draft, place: Place, block: Fields, part: number): void {
  const name = asText(block.name);
  const input = asFields(block.input);
  draft.calls.set(asText(block.id), draft.rows.length);
  draft.rows.push({
    ...base(place, part),
    type: "tool",
    name: renderToolName(name),
    summary: renderToolSummary(name, input),
    input: renderToolInput(input),
    denied: "",
    result: null,
  });
}

function reduceUser(draft: Draft, place: Place, event: Fields): void {
  const blocks = blocksOf(event);
  if (blocks.length === 0) raw(draft, place, "user", event);
  blocks.forEach((block, part) => {
    if (block.type === "tool_result") addResult(draft, place, block, isRejected(event, block), part);
    else if (block.type !== "text") raw(draft, place, `user ${asText(block.type)}`, block, part);
    // What the CLI replays is the wake prompt or a command's answer: both have rows of their own.
    else if (event.isReplay !== true)
      raw(
        draft,
        place,
        event.isSynthetic === true ? "claude tells itself" : "text given to claude",
        asText(block.text),
        part,
      );
  });
}

/** Whether the call was not let through, by what the CLI tells beside its result. */
function isRejected(event: Fields, block: Fields): boolean {
  return asList(event.tool_result_meta)
    .map(asFields)
    .some(
      (meta) => meta.id === block.tool_use_id && asFields(meta.permission_decision).decision === "reject",
    );
}

/** The reason in the words of whoever refused, without what the CLI and the row say already. */
function renderDenial(text: string): string {
  const reason = text.replace(/^PreToolUse:\S+ hook error: /, "").replace(/^denied:? /, "");
  return reason || "no reason was given";
}

function addResult(draft: Draft, place: Place, block: Fields, rejected: boolean, part: number): void {
  const result = { text: renderToolResult(block.content), failed: block.is_error === true };
  const denied = rejected ? renderDenial(result.text) : "";
  const found = draft.changeCall(asText(block.tool_use_id), (row) => ({
    ...row,
    result,
    denied: row.denied || denied,
  }));
  if (found) return;
  // The call is on an older page that is not loaded yet.
  draft.rows.push({
    ...base(place, part),
    type: "tool",
    name: "…",
    summary: "result of an earlier call",
    input: "",
    denied,
    result,
  });
}

const SYSTEM: Record<string, (draft: Draft, place: Place, event: Fields) => void> = {
  init(draft, place, event) {
    const names = findUnconnected(event).map((server) => `${asText(server.name)} (${asText(server.status)})`);
    notice(draft, place, "warn", `MCP servers not connected: ${names.join(", ")}`);
  },
  status(draft, place, event) {
    const { compact_result } = event;
    if (event.status === "compacting") notice(draft, place, "info", "compacting the conversation");
    else if (compact_result !== undefined && compact_result !== "success")
      notice(draft, place, "warn", `the compaction failed: ${renderJson(compact_result)}`);
    else notice(draft, place, "info", `claude: ${asText(event.status) || renderJson(event)}`);
  },
  compact_boundary(draft, place, event) {
    const { pre_tokens, post_tokens, trigger } = asFields(event.compact_metadata);
    const [before, after] = [asNumber(pre_tokens), asNumber(post_tokens)];
    const figures =
      before === null || after === null ? "" : `: ${renderCount(before)} → ${renderCount(after)} tokens`;
    notice(draft, place, "boundary", `compacted${trigger === "auto" ? " by claude itself" : ""}${figures}`);
  },
  background_tasks_changed(draft, place, event) {
    const count = asList(event.tasks).length;
    notice(draft, place, "info", `${count} task${count === 1 ? "" : "s"} in the background`);
  },
  api_retry(draft, place, event) {
    const { attempt, max_retries, error_status, retry_delay_ms } = event;
    const delay = asNumber(retry_delay_ms);
    const wait = delay === null ? "" : `, next in ${(delay / 1000).toFixed(1)}s`;
    const turn = asNumber(max_retries) ? `, retry ${renderJson(attempt)} of ${max_retries}` : "";
    const status = asNumber(error_status) ?? (asText(error_status) || "no answer");
    notice(draft, place, "warn", `model request failed (${status})${turn}${wait}`);
  },
  permission_denied(draft, place, event) {
    const reason = asText(event.message);
    const known = draft.changeCall(asText(event.tool_use_id), (row) => ({
      ...row,
      denied: reason || "denied",
    }));
    if (!known) notice(draft, place, "warn", `${asText(event.tool_name)} denied: ${reason}`);
  },
  model_fallback(draft, place, event) {
    notice(
      draft,
      place,
      "warn",
      `another model answers: ${renderJson(event.model ?? event.to ?? "unknown")}`,
    );
  },
  notification(draft, place, event) {
    notice(draft, place, "info", asText(event.text) || asText(event.message) || renderJson(event));
  },
};

function reduceSystem(draft: Draft, place: Place, event: Fields): void {
  const subtype = asText(event.subtype);
  const reduce = Object.hasOwn(SYSTEM, subtype) ? SYSTEM[subtype] : undefined;
  if (reduce) reduce(draft, place, event);
  else raw(draft, place, `system ${subtype}`, event);
}

const ABORTED = new Set(["aborted_streaming", "aborted_tools"]);

/** A good result repeats the last text and is followed by `turn.ended`; only a failure says something new. */
function reduceResult(draft: Draft, place: Place, event: Fields): void {
  const reason = asText(event.terminal_reason);
  // What claude says of it is meant for those who build it.
  if (ABORTED.has(reason)) {
    notice(draft, place, "warn", "interrupted");
    return;
  }
  const status = asNumber(event.api_error_status);
  const message = asList(event.errors).map(asText).join("; ") || asText(event.result);
  const last = draft.rows.at(-1);
  const parts = [
    reason.replaceAll("_", " ") || "failed",
    status === null ? "" : `HTTP ${status}`,
    last?.type === "text" && last.text === message ? "" : message,
  ];
  notice(draft, place, "error", parts.filter(Boolean).join(" · "));
}

function reduceRateLimit(draft: Draft, place: Place, event: Fields): void {
  const info = asFields(event.rate_limit_info);
  const rejected = info.status === "rejected";
  const used = asNumber(info.utilization);
  const parts = [
    rejected ? "usage limit reached" : "usage limit near",
    asText(info.rateLimitType).replaceAll("_", " "),
    used === null ? "" : `${Math.round(used * 100)} % used`,
  ];
  const text = parts.filter(Boolean).join(" · ");
  notice(draft, place, rejected ? "error" : "warn", text, asInstant(info.resetsAt));
}
