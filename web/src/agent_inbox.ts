import { useEffect, useMemo } from "preact/hooks";
import type { Api } from "./api.ts";
import type { Message, MessageState } from "./api_types.ts";
import { useApp } from "./context.ts";
import { isWaiting, MESSAGE_PAGE, MessageList, mayMatch } from "./messages.ts";

/** What may be open in the order in which a message gets there: one that moves on between two answers is in the later. */
const OPEN: readonly MessageState[] = ["queued", "leased", "dead"];

/** What an agent was sent, kept current for as long as the component is in the page; what is open is never too old. */
export function useAgentInbox(agent: string): MessageList {
  const { store } = useApp();
  const list = useMemo(() => createAgentInbox(store.api, agent), [store, agent]);
  useEffect(() => store.follow(list), [store, list]);
  return list;
}

export function createAgentInbox(api: Pick<Api, "messages">, agent: string): MessageList {
  const filter = { recipient: agent };
  return new MessageList({
    fetchPage: (page) => api.messages({ ...filter, ...page }),
    mayMatch: (message) => mayMatch(filter, message),
    exact: true,
    apart: { fetch: () => fetchOpen(api, agent), is: (message) => OPEN.includes(message.state) },
  });
}

async function fetchOpen(api: Pick<Api, "messages">, recipient: string): Promise<Message[]> {
  const found = new Map<number, Message>();
  for (const state of OPEN)
    for (const message of await api.messages({ recipient, state, limit: MESSAGE_PAGE }))
      found.set(message.id, message);
  return [...found.values()];
}

/**
 * The ids of what is open, then of what is settled, both the newest first. `undecided` are the dead that wait for the
 * operator. What is settled and further back than the list reaches is left out: others are missing before it.
 */
export function orderInbox(list: MessageList, undecided: ReadonlySet<number>): number[] {
  const rows = list.rows();
  const isOpen = (message: Message) => isWaiting(message) || undecided.has(message.id);
  const open = rows.filter(isOpen);
  const settled = rows.filter((message) => !isOpen(message) && list.covers(message.id));
  return [...open, ...settled].map((message) => message.id);
}
