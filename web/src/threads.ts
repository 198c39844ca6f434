import type { Message } from "./api_types.ts";
import { isInbox, isWaiting, threadOf } from "./messages.ts";

/** What belongs together, the oldest first and at least one. */
export interface Thread {
  key: number;
  messages: Message[];
  unread: number;
}

export const isUnread = (message: Message) => isInbox(message) && isWaiting(message);

/** Whether somebody waits for what the operator has to say to it. */
export const isAnswerable = (message: Message) => isInbox(message) && message.sender !== "system";

/** Both without doubles, the oldest first. Where they differ, `newer` has it as it is. */
export function mergeMessages(older: readonly Message[], newer: readonly Message[]): Message[] {
  const byId = new Map([...older, ...newer].map((message) => [message.id, message]));
  return [...byId.values()].sort((a, b) => a.id - b.id);
}

/** The threads of messages, the one in which something was said last first. */
export function groupThreads(messages: readonly Message[]): Thread[] {
  const byKey = new Map<number, Message[]>();
  for (const message of messages) {
    const key = threadOf(message);
    const known = byKey.get(key);
    if (known) known.push(message);
    else byKey.set(key, [message]);
  }
  const threads = [...byKey].map(([key, rows]) => {
    const sorted = rows.sort((a, b) => a.id - b.id);
    return { key, messages: sorted, unread: sorted.filter(isUnread).length };
  });
  return threads.sort((a, b) => newestOf(b).id - newestOf(a).id);
}

export const newestOf = (thread: Thread) => thread.messages[thread.messages.length - 1] as Message;

/** New threads first and the others where they were: what somebody has in hand does not move away. */
export function holdOrder(threads: readonly Thread[], before: readonly number[]): Thread[] {
  const place = new Map(before.map((key, index) => [key, index]));
  const placeOf = (thread: Thread) => place.get(thread.key) ?? -1;
  return [...threads].sort((a, b) => placeOf(a) - placeOf(b));
}

/** What stands in one place of the flow: a message, or all that is known of a broadcast. */
export interface FlowEntry {
  key: string;
  ids: number[];
}

/** The flow with the messages of each broadcast in one place, the newest first. */
export function groupFlow(messages: readonly Pick<Message, "id" | "broadcast">[]): FlowEntry[] {
  const entries: FlowEntry[] = [];
  const broadcasts = new Map<number, FlowEntry>();
  for (const { id, broadcast } of messages) {
    const known = broadcast === null ? undefined : broadcasts.get(broadcast);
    if (known) {
      known.ids.push(id);
      continue;
    }
    const entry = { key: broadcast === null ? `${id}` : `to-all-${broadcast}`, ids: [id] };
    if (broadcast !== null) broadcasts.set(broadcast, entry);
    entries.push(entry);
  }
  return entries;
}
