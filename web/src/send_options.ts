import type { Priority } from "./api_types.ts";
import { useDraft } from "./draft.ts";

export const PRIORITIES: readonly Priority[] = ["high", "normal", "low"];

/** How long a message may wait, in words and seconds. */
export const LIFETIMES: readonly (readonly [words: string, seconds: number])[] = [
  ["1 minute", 60],
  ["10 minutes", 600],
  ["1 hour", 3_600],
  ["8 hours", 28_800],
  ["1 day", 86_400],
  ["1 week", 604_800],
];

/** What is chosen beside the text of a message in one field. It is for one message: the next begins with none of it. */
export function useSendOptions(name: string) {
  const priority = useDraft(`${name}-priority`);
  const lifetime = useDraft(`${name}-lifetime`);
  const chosenPriority = PRIORITIES.find((one) => one === priority.value) ?? "normal";
  const chosenLifetime = LIFETIMES.find(([, seconds]) => String(seconds) === lifetime.value);
  return {
    priority,
    lifetime,
    /** In words, what is not as usual; empty when all is. */
    words: [chosenPriority === "normal" ? "" : chosenPriority, chosenLifetime?.[0] ?? ""]
      .filter(Boolean)
      .join(" · "),
    request: { priority: chosenPriority, ttl_s: chosenLifetime?.[1] ?? null },
    clear() {
      priority.value = "";
      lifetime.value = "";
    },
  };
}
