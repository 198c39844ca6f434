import type { ComponentChildren } from "preact";
import type { Message } from "../api_types.ts";
import { useApp } from "../context.ts";
import { renderVisible } from "../text.ts";
import { now, renderClock, renderCountdown } from "../time.ts";
import { Act } from "./act.tsx";
import { Badge } from "./badge.tsx";
import { Inline } from "./text.tsx";
import { Clock } from "./when.tsx";

/** What is special about a message, as small badges; nothing about most. */
export function MessageChips({ message }: { message: Message }) {
  const { priority, deliveries, broadcast } = message;
  return (
    <>
      {priority !== "normal" && (
        <span class={priority === "high" ? "chip chip-warn" : "chip"} data-testid="message-priority">
          {priority}
        </span>
      )}
      {broadcast !== null && (
        <span class="chip" data-testid="message-broadcast" title={`part of broadcast #${broadcast}`}>
          to all
        </span>
      )}
      <Expiry message={message} />
      {deliveries > 1 && (
        <span class="chip chip-warn" data-testid="message-deliveries">
          {deliveries} deliveries
        </span>
      )}
    </>
  );
}

/** Until when a message that waits may still be handed out. */
function Expiry({ message }: { message: Message }) {
  if (message.expires_at === null || message.state !== "queued") return null;
  const left = Date.parse(message.expires_at) - now.value;
  return (
    <span class="chip" data-testid="message-expiry" title={renderClock(message.expires_at)}>
      {left > 0 ? `expires in ${renderCountdown(left)}` : "expires now"}
    </span>
  );
}

/** What became of a message. */
export function Receipt({ message }: { message: Message }) {
  const { deliveries, settled_at } = message;
  return (
    <span class="receipt" data-testid="receipt">
      <Badge state={message.state} testId="receipt-state" />
      {settled_at !== null && <Clock at={settled_at} />}
      <span class="dim">{describeDeliveries(deliveries)}</span>
    </span>
  );
}

function describeDeliveries(deliveries: number): string {
  if (deliveries === 0) return "not handed out";
  return deliveries === 1 ? "handed out once" : `handed out ${deliveries} times`;
}

/** Why a message was given back or died, and what can be done about it; `children` are further acts. */
export function Trouble({ message, children }: { message: Message; children?: ComponentChildren }) {
  const { store } = useApp();
  const dead = message.state === "dead";
  if (!message.note && !dead) return null;
  return (
    <div class="trouble">
      {message.note && (
        <span class={dead ? "reason reason-failed" : "reason"} data-testid="message-note">
          <Inline text={message.note} />
        </span>
      )}
      {dead && (
        <Act
          label={`requeue message ${message.id} to ${renderVisible(message.recipient)}`}
          testId="requeue"
          until={message.state}
          run={async () => {
            await store.api.requeue(message.id);
            return `#${message.id} waits for ${message.recipient} again`;
          }}
        >
          requeue
        </Act>
      )}
      {children}
    </div>
  );
}
