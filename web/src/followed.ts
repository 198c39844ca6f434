import { useEffect, useMemo } from "preact/hooks";
import { useApp } from "./context.ts";
import type { MessageFilter, MessageList } from "./messages.ts";

/** The messages that match, kept current for as long as the component is in the page; none without a filter. */
export function useMessages(filter: MessageFilter | null): MessageList | null {
  const { store } = useApp();
  // What it says stands for the filter: the object is another one at each rendering.
  const key = JSON.stringify(filter);
  const list = useMemo(() => (filter === null ? null : store.createMessages(filter)), [store, key]);
  useEffect(() => (list === null ? undefined : store.follow(list)), [store, list]);
  return list;
}
