import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { MessageState, SenderKind } from "./api_types.ts";
import { useDraft } from "./draft.ts";
import type { MessageFilter } from "./messages.ts";

export const KINDS: readonly SenderKind[] = ["operator", "manager", "peer", "system"];
export const STATES: readonly MessageState[] = ["queued", "leased", "acked", "expired", "dead"];

/** How long after the last key the hive is asked what was typed. */
const TYPING_MS = 300;

export type FlowFilter = ReturnType<typeof useFlowFilter>;

/** What the flow is narrowed to; it outlives a visit to another page. */
export function useFlowFilter() {
  const fields = {
    agent: useDraft("flow-agent"),
    kind: useDraft("flow-kind"),
    state: useDraft("flow-state"),
    thread: useDraft("flow-thread"),
    search: useDraft("flow-search"),
  };
  const searched = useSettled(fields.search.value.trim());
  const filter = parseFilter({
    agent: fields.agent.value,
    kind: fields.kind.value,
    state: fields.state.value,
    thread: fields.thread.value,
    search: searched,
  });
  return {
    fields,
    /** Null when nothing is narrowed. */
    filter: Object.keys(filter).length > 0 ? filter : null,
    searched,
    clear() {
      for (const field of Object.values(fields)) field.value = "";
    },
  };
}

/** `text` once it has not changed for a moment; nothing at once. */
export function useSettled(text: string): string {
  const settled = useSignal(text);
  useEffect(() => {
    if (text === "") settled.value = "";
    const timer = setTimeout(() => {
      settled.value = text;
    }, TYPING_MS);
    return () => clearTimeout(timer);
  }, [text, settled]);
  return text === "" ? "" : settled.value;
}

/** What an earlier version remembered, or nobody offers, narrows nothing. */
export function parseFilter(texts: Record<Exclude<keyof MessageFilter, "recipient">, string>): MessageFilter {
  const filter: MessageFilter = {};
  const kind = KINDS.find((one) => one === texts.kind);
  const state = STATES.find((one) => one === texts.state);
  if (texts.agent) filter.agent = texts.agent;
  if (kind) filter.kind = kind;
  if (state) filter.state = state;
  if (/^\d{1,15}$/.test(texts.thread)) filter.thread = Number(texts.thread);
  if (texts.search) filter.search = texts.search;
  return filter;
}
