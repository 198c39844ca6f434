/** How turns end, in words, and how good that is. What is not known here is shown as it is. */
const OUTCOMES: Record<string, { words: string; tone: "good" | "warn" | "bad" }> = {
  ok: { words: "ok", tone: "good" },
  compact_retry: { words: "prompt too long: compacted and tried again", tone: "warn" },
  cancelled: { words: "cancelled", tone: "warn" },
  api_error: { words: "the model request failed", tone: "bad" },
  limit: { words: "a limit or budget was reached", tone: "warn" },
  login: { words: "login needed", tone: "warn" },
  crash: { words: "claude crashed", tone: "bad" },
  timeout: { words: "took too long", tone: "bad" },
};

export function describeOutcome(outcome: string): { words: string; tone: "good" | "warn" | "bad" } {
  const known = Object.hasOwn(OUTCOMES, outcome) ? OUTCOMES[outcome] : undefined;
  return known ?? { words: outcome.replaceAll("_", " ") || "not known how", tone: "warn" };
}

/** What a turn was for when it was not for messages. */
const PURPOSES: Record<string, { chip: string; words: string }> = {
  messages: { chip: "", words: "" },
  checkpoint: {
    chip: "checkpoint",
    words: "the agent writes down what matters, before the conversation is compacted",
  },
  compact: { chip: "compaction", words: "the conversation is made shorter" },
  notes: { chip: "notes", words: "a second session makes the notes shorter" },
};

/** An empty chip when there is nothing to say. */
export function describePurpose(purpose: string): { chip: string; words: string } {
  const known = Object.hasOwn(PURPOSES, purpose) ? PURPOSES[purpose] : undefined;
  return known ?? { chip: purpose.replaceAll("_", " "), words: "" };
}
