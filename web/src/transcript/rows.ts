/** What a transcript shows: one row a fact, keyed so that a row keeps its place and its fold over every update. */

interface RowBase {
  key: string;
  at: string;
  /** True for what a sub-agent did. */
  nested: boolean;
}

export interface Envelope {
  id: string;
  from: string;
  kind: string;
  redelivered: boolean;
  body: string;
}

export interface ToolResult {
  text: string;
  failed: boolean;
}

export type Row = RowBase &
  (
    | { type: "prompt"; purpose: string; envelopes: Envelope[]; rest: string }
    | { type: "text"; text: string }
    | { type: "thinking"; text: string }
    | {
        type: "tool";
        name: string;
        summary: string;
        input: string;
        denied: string;
        result: ToolResult | null;
      }
    | { type: "end"; outcome: string; purpose: string; reason: string; facts: string[] }
    // `until` is when what it tells of ends; a boundary is where claude forgot what stands above it
    | {
        type: "notice";
        level: "info" | "warn" | "error" | "boundary";
        text: string;
        until?: string;
        untilWord?: string;
      }
    | { type: "raw"; label: string; text: string }
  );
