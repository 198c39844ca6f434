import { renderCount } from "../text.ts";
import { renderClock } from "../time.ts";
import { asFields, asList, asNumber, asText, type Fields, renderJson } from "./json.ts";
import type { Draft } from "./reduce.ts";
import type { Row } from "./rows.ts";
import { renderToolInput, renderToolName, renderToolResult, renderToolSummary } from "./tool.ts";

/** Events that repeat, anticipate or only time what other events say in full. */
const SILENT_TYPES = new Set([
  "stream_event",
  "command_lifecycle",
  "keep_alive",
  "tool_progress",
  "control_request",
  "control_response",
]);
const SILENT_SUBTYPES = new Set([
  "thinking_tokens",
  "hook_started",
  "hook_response",
  "commands_changed",
  "background_tasks_changed",
]);

/** Adds what one stream-json event of the CLI shows. A type or subtype not known here becomes a raw row. */
export function reduceClaude(draft: Draft, seq: number, at: string, event: Fields): void {
  const place = { seq, at, nested: Boolean(event.parent_tool_use_id) };
  const type = asText(event.type);
  if (SILENT_TYPES.has(type)) return;
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

function notice(draft: Draft, place: Place, level: Extract<Row, { type: "notice" }>["level"], text: string) {
  draft.rows.push({ ...base(place), type: "notice", level, text });
}

function raw(draft: Draft, place: Place, label: string, value: unknown, part: number | string = 0) {
  draft.rows.push({ ...base(place, part), type: "raw", label, text: renderJson(value) });
}

function reduceAssistant(draft: Draft, place: Place, event: Fields): void {
  asList(asFields(event.message).content).forEach((value, part) => {
    const block = asFields(value);
    if (block.type === "text") {
      const text = asText(block.text);
      if (text.trim()) draft.rows.push({ ...base(place, part), type: "text", text });
    } else if (block.type === "thinking") {
      const text = asText(block.thinking);
      if (text.trim()) draft.rows.push({ ...base(place, part), type: "thinking", text });
    } else if (block.type === "tool_use") {
      addCall(draft, place, block, part);
    } else {
      raw(draft, place, `assistant ${asText(block.type)}`, block, part);
    }
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
  const content = asFields(event.message).content;
  const blocks = typeof content === "string" ? [{ type: "text", text: content }] : asList(content);
  blocks.forEach((value, part) => {
    const block = asFields(value);
    if (block.type === "tool_result") addResult(draft, place, block, isRejected(event, block), part);
    else if (block.type !== "text") raw(draft, place, `user ${asText(block.type)}`, block, part);
    // What the CLI replays is the wake prompt or a command's answer: both have rows of their own.
    else if (event.isReplay !== true) raw(draft, place, "text given to claude", asText(block.text), part);
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
    const failed = asList(event.mcp_servers)
      .map(asFields)
      .filter((server) => server.status !== "connected")
      .map((server) => `${asText(server.name)} (${asText(server.status)})`);
    if (failed.length > 0) notice(draft, place, "warn", `MCP servers not connected: ${failed.join(", ")}`);
  },
  status(draft, place, event) {
    if (event.status === "compacting") notice(draft, place, "info", "compacting the conversation");
  },
  compact_boundary(draft, place, event) {
    const { pre_tokens, post_tokens } = asFields(event.compact_metadata);
    const [before, after] = [asNumber(pre_tokens), asNumber(post_tokens)];
    const figures =
      before === null || after === null ? "" : `: ${renderCount(before)} → ${renderCount(after)} tokens`;
    notice(draft, place, "info", `compacted${figures}`);
  },
  api_retry(draft, place, event) {
    const { attempt, max_retries, error_status, retry_delay_ms } = event;
    const delay = asNumber(retry_delay_ms);
    const wait = delay === null ? "" : `, next in ${(delay / 1000).toFixed(1)}s`;
    const turn = asNumber(max_retries) ? `, retry ${attempt} of ${max_retries}` : "";
    notice(draft, place, "warn", `model request failed (${error_status ?? "no answer"})${turn}${wait}`);
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
  if (SILENT_SUBTYPES.has(subtype)) return;
  const reduce = Object.hasOwn(SYSTEM, subtype) ? SYSTEM[subtype] : undefined;
  if (reduce) reduce(draft, place, event);
  else raw(draft, place, `system ${subtype}`, event);
}

/** A good result repeats the last text and is followed by `turn.ended`; only a failure says something new. */
function reduceResult(draft: Draft, place: Place, event: Fields): void {
  if (event.is_error !== true) return;
  const status = asNumber(event.api_error_status);
  const message = asList(event.errors).map(asText).join("; ") || asText(event.result);
  const last = draft.rows.at(-1);
  const parts = [
    asText(event.terminal_reason).replaceAll("_", " ") || "failed",
    status === null ? "" : `HTTP ${status}`,
    last?.type === "text" && last.text === message ? "" : message,
  ];
  notice(draft, place, "error", parts.filter(Boolean).join(" · "));
}

function reduceRateLimit(draft: Draft, place: Place, event: Fields): void {
  const info = asFields(event.rate_limit_info);
  const status = asText(info.status);
  if (status === "allowed") return;
  const rejected = status === "rejected";
  const used = asNumber(info.utilization);
  const resets = asNumber(info.resetsAt);
  const parts = [
    rejected ? "usage limit reached" : "usage limit near",
    asText(info.rateLimitType).replaceAll("_", " "),
    used === null ? "" : `${Math.round(used * 100)} % used`,
    resets === null ? "" : `resets ${renderClock(new Date(resets * 1000).toISOString())}`,
  ];
  notice(draft, place, rejected ? "error" : "warn", parts.filter(Boolean).join(" · "));
}
