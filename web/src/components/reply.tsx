import type { Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { renderVisible } from "../text.ts";
import { isAnswerable, isUnread, type Thread } from "../threads.ts";
import { Compose } from "./compose.tsx";

/** The message that a reply answers, and who wrote it. */
export interface ReplyTo {
  id: number;
  name: string;
}

/**
 * Whom a reply in a thread goes to: who wrote last, unless another message is chosen. It stays from the first letter
 * typed until it is sent, whoever writes meanwhile. Null when nobody can be answered.
 */
export function useReplyTo(thread: Thread, draft: Signal<string>) {
  const chosen = useDraft(`reply-to-${thread.key}`);
  const newest = thread.messages.findLast(isAnswerable);
  const to = parseReplyTo(chosen.value) ?? (newest ? { id: newest.id, name: newest.sender } : null);
  const typing = draft.value !== "";
  useEffect(() => {
    if (typing && to !== null && chosen.peek() === "") chosen.value = renderReplyTo(to);
  }, [typing]);
  return {
    to,
    choose(one: ReplyTo) {
      chosen.value = renderReplyTo(one);
    },
    forget() {
      chosen.value = "";
    },
  };
}

const renderReplyTo = ({ id, name }: ReplyTo) => `${id} ${name}`;

function parseReplyTo(text: string): ReplyTo | null {
  const [, id, name] = /^(\d{1,15}) (\S+)$/.exec(text) ?? [];
  return id !== undefined && name !== undefined ? { id: Number(id), name } : null;
}

interface ReplyProps {
  thread: Thread;
  to: ReplyTo;
  draft: Signal<string>;
  focusAt: number;
  onSent: () => void;
}

/** Writes into a thread. What was to be read in it has been read by whoever answers. */
export function Reply({ thread, to, draft, focusAt, onSent }: ReplyProps) {
  const { store, toasts } = useApp();

  async function markRead(): Promise<void> {
    for (const message of thread.messages.filter(isUnread)) await store.api.markRead(message.id);
  }

  return (
    <Compose
      to={to.name}
      draft={draft}
      inReplyTo={to.id}
      testId="reply"
      more
      placeholder={`reply to ${renderVisible(to.name)}, #${to.id}`}
      focusAt={focusAt}
      onSent={() => {
        onSent();
        markRead().catch(toasts.failed);
      }}
    />
  );
}
