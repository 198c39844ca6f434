import { type ReadonlySignal, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { orderInbox, useAgentInbox } from "../agent_inbox.ts";
import type { AgentRow, Message } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useEnding, usePresence } from "../held.ts";
import { isWaiting, type MessageList } from "../messages.ts";
import type { Store } from "../store.ts";
import { Act } from "./act.tsx";
import { Name } from "./link.tsx";
import { Facts, FoldedBody } from "./message.tsx";
import { ListError, Newest, Older } from "./older.tsx";
import { Trouble } from "./receipt.tsx";
import { Empty } from "./section.tsx";

/** What an agent was sent: what waits or is worked on first, then what is settled, the newest first. */
export function AgentInbox({ row }: { row: AgentRow }) {
  const { store } = useApp();
  const list = useAgentInbox(row.name);
  const rows = useRef<HTMLUListElement>(null);
  const at = useSignal(false);
  const folds = useSignal<ReadonlySet<number>>(new Set());
  const asked = useSignal(0);
  usePresence(rows, at);
  const undecided = listUndecided(store);
  const held = at.value || [...folds.value].some((id) => list.find(id) !== undefined);
  const mark = `${list.away.value} ${asked.value}`;
  const { shown, fresh } = useStill(orderInbox(list, undecided), held, mark);

  function fold(id: number, open: boolean): void {
    if (folds.peek().has(id) === open) return;
    const others = [...folds.peek()].filter((other) => other !== id);
    folds.value = new Set(open ? [...others, id] : others);
  }

  return (
    <section class="panel" aria-label={`inbox of ${row.name}`} data-testid="agent-inbox">
      <div class="panel-head">
        <h3>inbox</h3>
        <span class="dim panel-note" data-testid="agent-inbox-waiting">
          {renderWaiting(row.waiting, list)}
        </span>
        {fresh > 0 && (
          <button
            type="button"
            class="link"
            data-testid="agent-inbox-fresh"
            onClick={() => (asked.value += 1)}
          >
            ↑ {fresh} new
          </button>
        )}
      </div>
      <ListError list={list} />
      {!list.loaded.value && !list.error.value && <p class="dim">loading…</p>}
      {list.loaded.value && shown.length === 0 && <Empty>nothing was sent to {row.name}</Empty>}
      <Newest list={list} testId="agent-inbox-newest" />
      <ul class="flow" ref={rows}>
        {shown.map((id) => (
          <InboxRow
            key={id}
            list={list}
            id={id}
            undecided={undecided.has(id)}
            at={at}
            open={folds.value.has(id)}
            onFold={(open) => fold(id, open)}
          />
        ))}
      </ul>
      <Older list={list} testId="agent-inbox-older" />
    </section>
  );
}

const LETTER = "dead_letter-";

/** The messages that died and that nobody has decided about. */
const listUndecided = (store: Store): ReadonlySet<number> =>
  new Set(
    store.needs.keys.value
      .filter((key) => key.startsWith(LETTER))
      .map((key) => Number(key.slice(LETTER.length))),
  );

/** How many wait, how many of those are here if not all, and how many are worked on. */
function renderWaiting(waiting: number, list: MessageList): string {
  const states = list.rows().map((message) => message.state);
  const here = states.filter((state) => state === "queued").length;
  const leased = states.filter((state) => state === "leased").length;
  const back = list.loaded.value && waiting > here ? `, ${here} of them here` : "";
  const words = waiting === 0 ? "nothing waits" : `${waiting} wait${back}`;
  return leased === 0 ? words : `${words} · ${leased} worked on`;
}

/**
 * Rows in an order that stays while they are `held`, until `mark` is another one: what is older comes last meanwhile,
 * what is newer is only counted, and what is gone keeps its place.
 */
function useStill(ids: readonly number[], held: boolean, mark: string) {
  const last = useRef({ ids, mark });
  const { current } = last;
  if (!held || current.mark !== mark || current.ids.length === 0) last.current = { ids, mark };
  else {
    const known = new Set(current.ids);
    const newest = current.ids.reduce((a, b) => Math.max(a, b));
    const older = ids.filter((id) => id < newest && !known.has(id));
    last.current = { ids: [...current.ids, ...older], mark };
  }
  const shown = new Set(last.current.ids);
  return { shown: last.current.ids, fresh: ids.filter((id) => !shown.has(id)).length };
}

interface InboxRowProps {
  list: MessageList;
  id: number;
  /** It died, and waits for the operator. */
  undecided: boolean;
  at: ReadonlySignal<boolean>;
  open: boolean;
  onFold: (open: boolean) => void;
}

function InboxRow({ list, id, undecided, at, open, onFold }: InboxRowProps) {
  const last = useRef<Message | undefined>(undefined);
  last.current = list.cell(id)?.value ?? last.current;
  const message = last.current;
  if (message === undefined) return null;
  return (
    <li
      class={isWaiting(message) || undecided ? "flow-row flow-row-open" : "flow-row"}
      tabIndex={-1}
      data-testid={`agent-message-${id}`}
      data-state={message.state}
    >
      <span class="flow-route">
        <span class="visually-hidden">from </span>
        <Name name={message.sender} />
      </span>
      <Facts message={message} />
      <FoldedBody message={message} search="" open={open} onFold={onFold} />
      <Trouble message={message}>
        <Dismiss message={message} undecided={undecided && message.state === "dead"} at={at} />
      </Trouble>
    </li>
  );
}

interface DismissProps {
  message: Message;
  undecided: boolean;
  at: ReadonlySignal<boolean>;
}

function Dismiss({ message, undecided, at }: DismissProps) {
  const { api } = useApp().store;
  const { form, shown } = useEnding(undecided, at);
  if (!shown) return null;
  return (
    <div ref={form} inert={!undecided}>
      <Act
        label={`dismiss message ${message.id}`}
        testId="dismiss"
        until={message.settled_at ?? ""}
        run={async () => {
          await api.dismiss(message.id);
          return `message ${message.id} stays undelivered`;
        }}
      >
        dismiss
      </Act>
    </div>
  );
}
