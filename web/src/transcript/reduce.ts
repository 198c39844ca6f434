import type { TranscriptEvent } from "../api_types.ts";
import { renderCount } from "../text.ts";
import { renderElapsed } from "../time.ts";
import { reduceClaude } from "./claude.ts";
import { parsePrompt } from "./envelope.ts";
import { asFields, asNumber, asText, renderJson } from "./json.ts";
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
      draft.rows.push({ ...base, type: "prompt", ...parsePrompt(asText(body.prompt)) });
      return;
    case "turn.ended":
      draft.rows.push({ ...base, type: "end", outcome: asText(body.outcome), facts: renderFacts(body) });
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

/** Idle and thinking follow from the turn's own rows; only what stops an agent from working is worth a row. */
function reduceState(
  draft: Draft,
  base: { key: string; at: string; nested: boolean },
  state: string,
  reason: string,
) {
  if (!reason && !["needs_login", "parked", "compacting"].includes(state)) return;
  const text = `${state.replace("_", " ")}${reason ? `: ${reason}` : ""}`;
  draft.rows.push({ ...base, type: "notice", level: "warn", text });
}

function renderFacts(body: Record<string, unknown>): string[] {
  const usage = asFields(body.usage);
  const duration = asNumber(body.duration_ms);
  const tokensIn = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].reduce(
    (sum, key) => sum + (asNumber(usage[key]) ?? 0),
    0,
  );
  const facts: string[] = [];
  if (duration !== null) facts.push(renderElapsed(duration));
  const tokensOut = asNumber(usage.output_tokens);
  if (tokensOut !== null && tokensIn + tokensOut > 0)
    facts.push(`${renderCount(tokensIn)} in, ${renderCount(tokensOut)} out`);
  const cost = asNumber(body.total_cost_usd);
  // The CLI's figure is cumulative over the session, so it must not read as the turn's.
  if (cost !== null && cost > 0) facts.push(`session $${cost.toFixed(2)}`);
  return facts;
}
