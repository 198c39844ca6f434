import { useSignal } from "@preact/signals";
import type { Message } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useMessages } from "../followed.ts";
import type { MessageList } from "../messages.ts";
import { threadPath } from "../route.ts";
import { renderVisible } from "../text.ts";
import { isAnswerable, isUnread, mergeMessages, newestOf, type Thread } from "../threads.ts";
import { Act } from "./act.tsx";
import { Link, Name } from "./link.tsx";
import { MessageLink, useWanted } from "./message_link.tsx";
import { ListError, Older } from "./older.tsx";
import { MessageChips } from "./receipt.tsx";
import { Reply, type ReplyTo, useReplyTo } from "./reply.tsx";
import { Said } from "./said.tsx";
import { Block } from "./text.tsx";
import { Clock } from "./when.tsx";

/** Messages to the operator that belong together: folded the newest one, unfolded all that was said, and a reply. */
export function ThreadCard({ thread }: { thread: Thread }) {
  const { key, unread } = thread;
  const draft = useDraft(`reply-${key}`);
  // What was being typed is not hidden by a visit to another page.
  const open = useSignal(draft.peek() !== "");
  const focusAt = useSignal(0);
  const replyTo = useReplyTo(thread, draft);
  useWanted(
    thread.messages.map((message) => message.id),
    () => {
      open.value = true;
    },
  );

  function reply(to: ReplyTo | null): void {
    if (to) replyTo.choose(to);
    open.value = true;
    focusAt.value += 1;
  }

  return (
    <li
      class={unread > 0 ? "row row-unread" : "row row-past"}
      data-testid={`thread-${key}`}
      data-unread={unread}
    >
      <div class="row-head thread-head">
        <button
          type="button"
          class="thread-toggle"
          aria-expanded={open.value}
          aria-label={`the thread of message ${key}, ${unread} unread`}
          data-testid="thread-toggle"
          onClick={() => (open.value = !open.value)}
        >
          <span aria-hidden="true">{open.value ? "▾" : "▸"}</span>
        </button>
        <Facts thread={thread} />
        <div class="acts">
          {/* Unfolded, a single one has its own. */}
          {unread > (open.value ? 1 : 0) && <MarkThread thread={thread} />}
          {replyTo.to && !open.value && (
            <button
              type="button"
              class="act"
              aria-label={`reply to ${renderVisible(replyTo.to.name)}`}
              data-testid="reply-toggle"
              onClick={() => reply(null)}
            >
              reply
            </button>
          )}
        </div>
      </div>
      {open.value ? <InboxConversation thread={thread} onReply={reply} /> : <Preview thread={thread} />}
      {open.value && replyTo.to && (
        <Reply
          thread={thread}
          to={replyTo.to}
          draft={draft}
          focusAt={focusAt.value}
          onSent={replyTo.forget}
        />
      )}
    </li>
  );
}

function Facts({ thread }: { thread: Thread }) {
  const { key, messages, unread } = thread;
  const newest = newestOf(thread);
  const senders = [...new Set(messages.map((message) => message.sender).reverse())];
  return (
    <>
      {senders.map((sender) => (
        <Name key={sender} name={sender} />
      ))}
      <Clock at={newest.sent_at} />
      <span class="dim">
        <MessageLink id={newest.id} />
        {newest.id !== key && (
          <>
            {" in "}
            <MessageLink id={key} />
          </>
        )}
      </span>
      <Link to={threadPath(key)} aria-label={`page of thread ${key}`} data-testid="thread-link">
        page
      </Link>
      <MessageChips message={newest} />
      {unread > 1 && (
        <span class="count" data-testid="thread-unread">
          {unread} unread
        </span>
      )}
      {unread === 0 && <span class="dim">read</span>}
    </>
  );
}

function MarkThread({ thread }: { thread: Thread }) {
  const { store } = useApp();
  const { unread } = thread;
  const ids = thread.messages.filter(isUnread).map((message) => message.id);
  return (
    <Act
      label={unread > 1 ? `mark all read: ${unread} messages` : `mark read: message ${ids[0]}`}
      testId="mark-thread-read"
      until={unread}
      run={async () => {
        for (const id of ids) await store.api.markRead(id);
        return unread > 1 ? `${unread} messages are read` : `#${ids[0]} is read`;
      }}
    >
      {unread > 1 ? "mark all read" : "mark read"}
    </Act>
  );
}

/** The newest message, as much of it as a few lines hold. */
function Preview({ thread }: { thread: Thread }) {
  const newest = newestOf(thread);
  return (
    <div class="thread-preview" data-testid={`inbox-${newest.id}`} data-state={newest.state}>
      <Block text={newest.body} />
    </div>
  );
}

interface ConversationProps {
  list: MessageList;
  messages: readonly Message[];
  onReply: (to: ReplyTo) => void;
}

/** What was said in a thread of the inbox: what is known of it is there at once, also when the rest cannot be fetched. */
function InboxConversation({ thread, onReply }: { thread: Thread; onReply: (to: ReplyTo) => void }) {
  const list = useMessages({ thread: thread.key });
  if (list === null) return null;
  return (
    <Conversation list={list} messages={mergeMessages(list.rows(), thread.messages)} onReply={onReply} />
  );
}

/** A thread on its own page: all that was said, and a reply where somebody can be answered. */
export function WholeThread({ thread, list }: { thread: Thread; list: MessageList }) {
  const draft = useDraft(`reply-${thread.key}`);
  const focusAt = useSignal(0);
  const replyTo = useReplyTo(thread, draft);
  function reply(to: ReplyTo): void {
    replyTo.choose(to);
    focusAt.value += 1;
  }
  return (
    <>
      <Conversation list={list} messages={thread.messages} onReply={reply} />
      {replyTo.to && (
        <Reply
          thread={thread}
          to={replyTo.to}
          draft={draft}
          focusAt={focusAt.value}
          onSent={replyTo.forget}
        />
      )}
    </>
  );
}

/** All that was said in a thread, by whomever to whomever, the oldest first. */
function Conversation({ list, messages, onReply }: ConversationProps) {
  const answerable = new Set(messages.filter(isAnswerable).map((message) => message.sender));
  return (
    <div class="conversation" data-testid="conversation">
      <ListError list={list} />
      <Older list={list} testId="thread-older">
        earlier in this thread
      </Older>
      <ol class="said-list">
        {messages.map((message) => (
          <Said
            key={message.id}
            message={message}
            {...(answerable.size > 1 && isAnswerable(message) && { onReply })}
          />
        ))}
      </ol>
    </div>
  );
}
