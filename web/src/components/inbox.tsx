import { useSignal } from "@preact/signals";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { MESSAGE_PAGE } from "../store.ts";
import { Act } from "./act.tsx";
import { Compose } from "./compose.tsx";
import { Name } from "./link.tsx";
import { Older } from "./older.tsx";
import { Empty, Section } from "./section.tsx";
import { Block } from "./text.tsx";
import { Clock } from "./when.tsx";

/** What was sent to the operator, with a reply in place. */
export function Inbox() {
  const { store } = useApp();
  const ids = store.inbox.keys.value;
  const unread = store.inbox.rows().filter((row) => row.state !== "acked").length;
  return (
    <Section title="operator inbox" leet="0PER4T0R 1NB0X" testId="inbox" count={unread} urgent={unread > 0}>
      {ids.length === 0 && <Empty>no message for you</Empty>}
      <ul class="rows">
        {ids.map((id) => (
          <InboxRow key={id} id={id} />
        ))}
      </ul>
      <Older
        table={store.inbox}
        testId="inbox-older"
        fetchPage={(before) => store.api.inbox({ before, limit: MESSAGE_PAGE })}
      />
    </Section>
  );
}

function InboxRow({ id }: { id: number }) {
  const { store } = useApp();
  const replying = useSignal(false);
  const row = store.inbox.cell(id)?.value;
  if (row === undefined) return null;
  const unread = row.state !== "acked";
  const answerable = row.sender !== "system";
  return (
    <li class={unread ? "row row-unread" : "row row-past"} data-testid={`inbox-${id}`} data-state={row.state}>
      <div class="row-head">
        <Name name={row.sender} />
        <Clock at={row.sent_at} />
        <span class="dim">
          #{id}
          {row.in_reply_to !== null && ` ↩ #${row.in_reply_to}`}
        </span>
        {!unread && <span class="dim">read</span>}
      </div>
      <Block text={row.body} />
      <div class="acts">
        {unread && (
          <Act
            label={`mark message ${id} from ${row.sender} as read`}
            testId="mark-read"
            until={row.state}
            run={async () => {
              await store.api.markRead(id);
              return `#${id} is read`;
            }}
          >
            mark read
          </Act>
        )}
        {answerable && (
          <button
            type="button"
            class="act"
            aria-expanded={replying.value}
            aria-label={`reply to message ${id} from ${row.sender}`}
            data-testid="reply-toggle"
            onClick={() => (replying.value = !replying.value)}
          >
            reply
          </button>
        )}
      </div>
      {replying.value && <Reply id={id} to={row.sender} onSent={() => (replying.value = false)} />}
    </li>
  );
}

function Reply({ id, to, onSent }: { id: number; to: string; onSent: () => void }) {
  const draft = useDraft(`reply-${id}`);
  return (
    <Compose
      to={to}
      draft={draft}
      inReplyTo={id}
      testId="reply"
      placeholder={`reply to ${to}`}
      autoFocus
      onSent={onSent}
    />
  );
}
