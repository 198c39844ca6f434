import type { Message } from "../api_types.ts";
import { useApp } from "../context.ts";
import { isInbox } from "../messages.ts";
import { renderVisible } from "../text.ts";
import { isUnread } from "../threads.ts";
import { Act } from "./act.tsx";
import { Name } from "./link.tsx";
import { Arrow } from "./message.tsx";
import { MessageLink, messageElementId } from "./message_link.tsx";
import { MessageChips, Receipt, Trouble } from "./receipt.tsx";
import type { ReplyTo } from "./reply.tsx";
import { Block } from "./text.tsx";
import { Clock } from "./when.tsx";

interface SaidProps {
  message: Message;
  /** Offers to answer this one, where there are several to answer. */
  onReply?: (to: ReplyTo) => void;
}

/** One message in its conversation. */
export function Said({ message, onReply }: SaidProps) {
  const { id, sender } = message;
  const toOperator = isInbox(message);
  const unread = isUnread(message);
  return (
    <li
      class={`said${unread ? " said-unread" : ""}${sender === "operator" ? " said-own" : ""}`}
      tabIndex={-1}
      {...(toOperator && { id: messageElementId(id) })}
      data-testid={toOperator ? `inbox-${id}` : `said-${id}`}
      data-state={message.state}
    >
      <div class="said-head">
        <Name name={sender} />
        {!toOperator && (
          <>
            <Arrow />
            <Name name={message.recipient} />
          </>
        )}
        <Clock at={message.sent_at} />
        <span class="dim">
          <MessageLink id={id} />
          {message.in_reply_to !== null && (
            <>
              {" ↩ "}
              <MessageLink id={message.in_reply_to} />
            </>
          )}
        </span>
        <MessageChips message={message} />
        <span class="acts said-acts">
          {unread && <MarkRead message={message} />}
          {onReply && (
            <button
              type="button"
              class="act act-quiet"
              aria-label={`reply to message ${id} from ${renderVisible(sender)}`}
              data-testid="reply-to"
              onClick={() => onReply({ id, name: sender })}
            >
              reply to this
            </button>
          )}
        </span>
      </div>
      <Block text={message.body} />
      {!toOperator && <Receipt message={message} />}
      <Trouble message={message} />
    </li>
  );
}

function MarkRead({ message }: { message: Message }) {
  const { store } = useApp();
  const { id, sender } = message;
  return (
    <Act
      label={`mark read: message ${id} from ${renderVisible(sender)}`}
      testId="mark-read"
      kind="plain"
      until={message.state}
      run={async () => {
        await store.api.markRead(id);
        return `#${id} is read`;
      }}
    >
      mark read
    </Act>
  );
}
