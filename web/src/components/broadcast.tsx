import { useSignal } from "@preact/signals";
import type { Message, MessageState } from "../api_types.ts";
import { isInbox, type MessageList } from "../messages.ts";
import { Badge } from "./badge.tsx";
import { Name } from "./link.tsx";
import { Arrow, Summary, Whole } from "./message.tsx";
import { MessageLink, messageElementId, useWanted } from "./message_link.tsx";
import { MessageChips, Receipt, Trouble } from "./receipt.tsx";
import { Clock } from "./when.tsx";

/** In the order in which a message gets there; what went wrong is first. */
const STATES: readonly MessageState[] = ["dead", "expired", "queued", "leased", "acked"];

/** A message to all in one line of the flow: what became of it counted, each recipient's receipt folded out. */
export function BroadcastRow({ list, ids, search }: { list: MessageList; ids: number[]; search: string }) {
  const open = useSignal(false);
  const rows = ids.flatMap((id) => list.cell(id)?.value ?? []).reverse();
  useWanted(
    rows.filter((row) => !isInbox(row)).map((row) => row.id),
    () => {
      open.value = true;
    },
  );
  const [first] = rows;
  if (first === undefined) return null;
  return (
    <li class="flow-row" data-testid={`broadcast-${first.broadcast}`}>
      <span class="flow-route">
        <Name name={first.sender} />
        <Arrow />
        <span class="name name-*">all {rows.length}</span>
      </span>
      <span class="flow-facts">
        <Tally rows={rows} />
        <Clock at={first.sent_at} />
        <span class="dim">
          #{first.id}–{rows.at(-1)?.id}
        </span>
      </span>
      <details
        class="flow-body"
        open={open.value}
        onToggle={(event) => (open.value = event.currentTarget.open)}
      >
        <Summary body={first.body} search={search} open={open.value} />
        {open.value && (
          <>
            <Whole body={first.body} search={search} />
            <ul class="receipt-list">
              {rows.map((row) => (
                <ReceiptRow key={row.id} message={row} />
              ))}
            </ul>
          </>
        )}
      </details>
    </li>
  );
}

function Tally({ rows }: { rows: Message[] }) {
  return (
    <>
      {STATES.map((state) => {
        const count = rows.filter((row) => row.state === state).length;
        return (
          count > 0 && (
            <span key={state} class="tally" data-testid={`tally-${state}`}>
              {count} <Badge state={state} testId="tally-state" />
            </span>
          )
        );
      })}
    </>
  );
}

function ReceiptRow({ message }: { message: Message }) {
  return (
    <li
      class="receipt-row"
      tabIndex={-1}
      {...(!isInbox(message) && { id: messageElementId(message.id) })}
      data-testid={`message-${message.id}`}
      data-state={message.state}
    >
      <Name name={message.recipient} />
      <Receipt message={message} />
      <MessageChips message={{ ...message, broadcast: null }} />
      <span class="dim">
        <MessageLink id={message.id} />
      </span>
      <Trouble message={message} />
    </li>
  );
}
