import type { TranscriptEvent } from "../api_types.ts";
import { renderCount } from "../text.ts";
import { renderElapsed } from "../time.ts";
import { reduceClaude } from "./claude.ts";
import { parsePrompt } from "./envelope.ts";
import { asFields, asNumber, asText, type Fields, renderJson } from "./json.ts";
import type { Row } from "./rows.ts";

/** The rows so far, and where the row of each tool call is, for the result that follows. */
export interface Transcript {
  rows: readonly Row[];
  calls: ReadonlyMap<string, number>;
}

export const EMPTY_TRANSCRIPT: Transcript = { rows: [], calls: new Map() };

/** `transcript` after `events`, which are in order and later than what it holds. Rows not concerned stay the same objects. */
export function reduceTranscript(transcript: Transcript, events: readonly TranscriptEvent[]): Transcript {
  const draft = new Draft(transcript);
  for (const event of events) reduceEvent(draft, event);
  return draft;
}

/** A transcript being written: copies of what it began with, so that the original stays as it was. */
export class Draft implements Transcript {
  readonly rows: Row[];
  readonly calls: Map<string, number>;

  constructor(from: Transcript) {
    this.rows = [...from.rows];
    this.calls = new Map(from.calls);
  }

  /** Replaces the row of a tool call; false when that call is not in here. */
  changeCall(id: string, change: (row: Extract<Row, { type: "tool" }>) => Row): boolean {
    const index = this.calls.get(id);
    const row = index === undefined ? undefined : this.rows[index];
    if (index === undefined || row?.type !== "tool") return false;
    this.rows[index] = change(row);
    return true;
  }
}

function reduceEvent(draft: Draft, event: TranscriptEvent): void {
  const base = { key: `${event.seq}`, at: event.at, nested: false };
  const body = asFields(event.body);
  switch (event.kind) {
    case "claude":
      reduceClaude(draft, event.seq, event.at, body);
      return;
    case "turn.started":
      draft.rows.push({
        ...base,
        type: "prompt",
        purpose: asText(body.purpose),
        ...parsePrompt(asText(body.prompt)),
      });
      return;
    case "turn.ended":
      draft.rows.push({
        ...base,
        type: "end",
        outcome: asText(body.outcome),
        purpose: asText(body.purpose),
        reason: asText(body.reason),
        facts: renderFacts(body),
      });
      return;
    case "notice":
      draft.rows.push({ ...base, type: "notice", level: "info", text: asText(body.text) });
      return;
    case "state":
      reduceState(draft, base, asText(body.state), asText(body.reason));
      return;
    default:
      draft.rows.push({ ...base, type: "raw", label: event.kind, text: renderJson(event.body) });
  }
}

/** Idle, thinking and compacting follow from the turn's own rows; what stops an agent, or has a reason, is worth a row. */
function reduceState(
  draft: Draft,
  base: { key: string; at: string; nested: boolean },
  state: string,
  reason: string,
) {
  if (!reason && !["needs_login", "parked"].includes(state)) return;
  const { why, ...ends } = splitUntil(reason);
  const text = `${state.replaceAll("_", " ")}${why ? `: ${why}` : ""}`;
  const level = state === "compacting" ? "info" : "warn";
  draft.rows.push({ ...base, type: "notice", level, text, ...ends });
}

/** The harness writes the instant at which a park ends behind the reason: it does not know the reader's time zone. */
function splitUntil(reason: string): { why: string; until?: string; untilWord?: string } {
  const [, why = "", until = ""] = /^(.*); until (\d{4}-\S+)$/s.exec(reason) ?? [];
  return Number.isNaN(Date.parse(until)) ? { why: reason } : { why, until, untilWord: "until" };
}

/** The figures of a turn, those that are known. */
function renderFacts(body: Fields): string[] {
  const duration = asNumber(body.duration_ms);
  const cost = asNumber(body.total_cost_usd);
  return [
    duration === null ? "" : renderElapsed(duration),
    renderTokens(asFields(body.usage)),
    renderContext(asNumber(body.context_tokens), asNumber(body.context_limit)),
    // The CLI's figure is cumulative over the session, so it must not read as the turn's.
    cost !== null && cost > 0 ? `session $${cost.toFixed(2)}` : "",
  ].filter(Boolean);
}

function renderTokens(usage: Fields): string {
  const sum = (...keys: string[]) => keys.reduce((so_far, key) => so_far + (asNumber(usage[key]) ?? 0), 0);
  const tokensIn = sum("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens");
  const tokensOut = sum("output_tokens");
  return tokensIn + tokensOut > 0 ? `${renderCount(tokensIn)} in, ${renderCount(tokensOut)} out` : "";
}

function renderContext(tokens: number | null, limit: number | null): string {
  return tokens && limit ? `context ${Math.round((100 * tokens) / limit)} %` : "";
}
