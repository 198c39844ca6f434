import type { Message } from "../api_types.ts";
import { renderFirstLine, renderRest } from "../text.ts";
import { Badge } from "./badge.tsx";
import { Name } from "./link.tsx";
import { Block, Inline } from "./text.tsx";
import { Clock } from "./when.tsx";

/** One line of the flow: who → whom, its state, the beginning of the body; the whole folds out. */
export function FlowRow({ message }: { message: Message }) {
  const rest = renderRest(message.body);
  const first = renderFirstLine(message.body);
  const folded = rest !== "" || first.length < message.body.trim().length;
  return (
    <li class="flow-row" data-testid={`message-${message.id}`} data-state={message.state}>
      <span class="flow-route">
        <Name name={message.sender} />
        <span class="arrow" role="img" aria-label="to">
          →
        </span>
        <Name name={message.recipient} />
      </span>
      <Facts message={message} />
      {folded ? (
        <details class="flow-body">
          <summary>
            <Inline text={first} /> {rest && <span class="dim">{rest}</span>}
          </summary>
          <Block text={message.body} />
        </details>
      ) : (
        <div class="flow-body">
          <Inline text={first} />
        </div>
      )}
      {message.note && (
        <p class="reason flow-note">
          <Inline text={message.note} />
        </p>
      )}
    </li>
  );
}

export function Facts({ message }: { message: Message }) {
  return (
    <span class="flow-facts">
      <Badge state={message.state} testId="message-state" />
      {message.deliveries > 1 && <span class="chip chip-warn">{message.deliveries} deliveries</span>}
      <Clock at={message.sent_at} />
      <span class="dim">
        #{message.id}
        {message.in_reply_to !== null && ` ↩ #${message.in_reply_to}`}
      </span>
    </span>
  );
}
