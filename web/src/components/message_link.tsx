import { useEffect } from "preact/hooks";
import type { Message } from "../api_types.ts";
import { useApp } from "../context.ts";
import { jumpTo } from "../jump.ts";
import { isInbox } from "../messages.ts";
import { fragment } from "../route.ts";
import type { Store } from "../store.ts";
import { Link } from "./link.tsx";

const FRAGMENT = /^message-(\d{1,15})$/;

/** The id of the message that an address names, or null. */
export function parseMessageId(fragment: string): number | null {
  const digits = FRAGMENT.exec(fragment)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** The element of a message in the page. Messages to the operator have theirs in the inbox, others in the flow. */
export const messageElementId = (id: number) => `message-${id}`;

/** A message's number: leads to it. */
export const MessageLink = ({ id }: { id: number }) => (
  <Link to={`/#${messageElementId(id)}`} class="message-link" aria-label={`message ${id}`}>
    #{id}
  </Link>
);

/**
 * Follows links to messages: fetches what is not in the page. `showAll` is called before one is shown in the flow that a
 * filter may hide.
 */
export function useMessageLinks(showAll: () => void): void {
  const { store, toasts } = useApp();
  const asked = fragment.value;
  useEffect(() => {
    const id = parseMessageId(asked.id);
    if (id !== null) store.wantedMessage.value = { id };
  }, [store, asked]);

  const wanted = store.wantedMessage.value;
  const loaded = store.loaded.value;
  useEffect(() => {
    // Whoever shows it already has answered.
    if (!loaded || wanted === null || store.wantedMessage.peek() !== wanted) return;
    place(store, wanted.id, showAll).catch((error: unknown) => {
      if (store.wantedMessage.peek() === wanted) store.wantedMessage.value = null;
      toasts.failed(error);
    });
  }, [wanted, loaded, store, toasts]);
}

async function place(store: Store, id: number, showAll: () => void): Promise<void> {
  const message = store.flow.find(id) ?? store.inbox.find(id) ?? (await fetchMessage(store, id));
  if (isInbox(message)) store.inbox.keep(message);
  else {
    store.flow.keep(message);
    showAll();
  }
}

async function fetchMessage(store: Store, id: number): Promise<Message> {
  const [found] = await store.api.messages({ before: id + 1, limit: 1 });
  if (found?.id !== id) throw new Error(`there is no message #${id}`);
  return found;
}

/** Opens what holds the message that a link asks for, then moves the view and the focus to it. */
export function useWanted(ids: readonly number[], open: () => void): void {
  const { store } = useApp();
  const wanted = store.wantedMessage.value;
  const mine = wanted !== null && ids.includes(wanted.id) ? wanted : null;
  useEffect(() => {
    if (mine === null) return;
    open();
    store.wantedMessage.value = null;
    requestAnimationFrame(() => jumpTo(messageElementId(mine.id)));
  }, [mine]);
}
