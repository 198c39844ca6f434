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
    | { type: "prompt"; envelopes: Envelope[]; rest: string }
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
    | { type: "end"; outcome: string; facts: string[] }
    | { type: "notice"; level: "info" | "warn" | "error"; text: string }
    | { type: "raw"; label: string; text: string }
  );
