import { useSignal } from "@preact/signals";
import type { Message } from "../api_types.ts";
import { renderFact } from "../facts.ts";
import { isInbox, type MessageList, threadOf } from "../messages.ts";
import { threadPath } from "../route.ts";
import { renderFirstLine, renderRest } from "../text.ts";
import { Badge } from "./badge.tsx";
import { Hits } from "./hits.tsx";
import { Link, Name } from "./link.tsx";
import { MessageLink, messageElementId, useWanted } from "./message_link.tsx";
import { MessageChips, Receipt, Trouble } from "./receipt.tsx";
import { Block, Inline } from "./text.tsx";
import { Clock } from "./when.tsx";

interface FlowRowProps {
  list: MessageList;
  id: number;
  /** What was searched for; empty when nothing was. */
  search: string;
  onThread: (thread: number) => void;
}

/** One line of the flow: who → whom, its state, the beginning of the body; the whole and its receipt fold out. */
export function FlowRow({ list, id, search, onThread }: FlowRowProps) {
  const open = useSignal(false);
  const message = list.cell(id)?.value;
  // Those to the operator are shown in the inbox.
  const own = message !== undefined && !isInbox(message);
  useWanted(own ? [id] : [], () => {
    open.value = true;
  });
  if (message === undefined) return null;
  return (
    <li
      class="flow-row"
      tabIndex={-1}
      {...(own && { id: messageElementId(id) })}
      data-testid={`message-${id}`}
      data-state={message.state}
    >
      <span class="flow-route">
        <Name name={message.sender} />
        <Arrow />
        <Name name={message.recipient} />
      </span>
      <Facts message={message} />
      <FoldedBody
        message={message}
        search={search}
        open={open.value}
        onFold={(isOpen) => (open.value = isOpen)}
        onThread={onThread}
      />
      <Trouble message={message} />
    </li>
  );
}

interface FoldedBodyProps {
  message: Message;
  search: string;
  open: boolean;
  onFold: (open: boolean) => void;
  /** Narrows what is shown to a thread; without it there is only the way to the page of the thread. */
  onThread?: (thread: number) => void;
}

/** The beginning of a body; folded out, the whole of it, its receipt and its thread. A fact of the hive is told in words. */
export function FoldedBody({ message, search, open, onFold, onThread }: FoldedBodyProps) {
  const fact = message.kind === "system" ? renderFact(message.body) : null;
  return (
    <details class="flow-body" open={open} onToggle={(event) => onFold(event.currentTarget.open)}>
      {fact !== null && !open && search === "" ? (
        <summary>
          <Inline text={renderFirstLine(fact)} />
        </summary>
      ) : (
        <Summary body={message.body} search={search} open={open} />
      )}
      {open && (
        <>
          <Whole body={message.body} search={search} />
          <p class="receipts">
            <Receipt message={message} />
            {onThread ? (
              <ThreadButton message={message} onThread={onThread} />
            ) : (
              <ThreadLink message={message} />
            )}
          </p>
        </>
      )}
    </details>
  );
}

export const Arrow = () => (
  <span class="arrow" role="img" aria-label="to">
    →
  </span>
);

/** Whether the first line, as it is shown, is all there is. */
const isShort = (body: string, search: string) => search === "" && renderFirstLine(body) === body.trim();

/** The beginning of a body, or where what was searched for stands in it; not twice while the whole is shown below. */
export function Summary({ body, search, open }: { body: string; search: string; open: boolean }) {
  if (open && !isShort(body, search))
    return (
      <summary>
        <span class="dim">fold</span>
      </summary>
    );
  const rest = renderRest(body);
  return (
    <summary>
      {search ? <Hits text={body} search={search} /> : <Inline text={renderFirstLine(body)} />}{" "}
      {rest && <span class="dim">{rest}</span>}
    </summary>
  );
}

export const Whole = ({ body, search }: { body: string; search: string }) =>
  isShort(body, search) ? null : <Block text={body} />;

export function Facts({ message }: { message: Message }) {
  return (
    <span class="flow-facts">
      <Badge state={message.state} testId="message-state" />
      <MessageChips message={message} />
      <Clock at={message.sent_at} />
      <span class="dim">
        <MessageLink id={message.id} />
        {message.in_reply_to !== null && (
          <>
            {" ↩ "}
            <MessageLink id={message.in_reply_to} />
          </>
        )}
      </span>
    </span>
  );
}

function ThreadLink({ message }: { message: Message }) {
  const thread = threadOf(message);
  return (
    <Link to={threadPath(thread)} data-testid="thread-link">
      the thread of #{thread}
    </Link>
  );
}

function ThreadButton({ message, onThread }: { message: Message; onThread: (thread: number) => void }) {
  const thread = threadOf(message);
  return (
    <>
      <button type="button" class="link" data-testid="show-thread" onClick={() => onThread(thread)}>
        the thread of #{thread}
      </button>{" "}
      <Link to={threadPath(thread)} aria-label={`its page: thread ${thread}`} data-testid="thread-link">
        its page
      </Link>
    </>
  );
}
