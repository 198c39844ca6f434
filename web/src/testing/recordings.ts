import type { TranscriptEvent } from "../api_types.ts";

const FOLDER = "../../../tests/data/claude-events";
const FILES = import.meta.glob<string>("../../../tests/data/claude-events/*.jsonl", {
  query: "?raw",
  import: "default",
  eager: true,
});

/** What the real CLI printed in one situation, as transcript events. */
export function loadRecording(name: string, firstSeq = 1): TranscriptEvent[] {
  const text = FILES[`${FOLDER}/${name}.jsonl`];
  if (text === undefined) throw new Error(`there is no recording ${name}`);
  return text
    .trim()
    .split("\n")
    .map((line, index) => createEvent(firstSeq + index, "claude", JSON.parse(line)));
}

export const RECORDINGS = Object.keys(FILES).map((path) => path.replace(/^.*\/|\.jsonl$/g, ""));

export function createEvent(seq: number, kind: string, body: Record<string, unknown>): TranscriptEvent {
  return { seq, at: "2026-11-20T12:00:00Z", kind, body };
}
