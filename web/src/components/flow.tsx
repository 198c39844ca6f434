import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useFlowFilter } from "../flow_filter.ts";
import { useMessages } from "../followed.ts";
import type { MessageList } from "../messages.ts";
import { EVERYONE } from "../store.ts";
import { groupFlow } from "../threads.ts";
import { BroadcastRow } from "./broadcast.tsx";
import { Compose } from "./compose.tsx";
import { FilterBar } from "./filter_bar.tsx";
import { FlowRow } from "./message.tsx";
import { useMessageLinks } from "./message_link.tsx";
import { ListError, Newest, Older } from "./older.tsx";
import { Empty, Section } from "./section.tsx";

/** Who says what to whom, live, and a word of one's own. */
export function Flow() {
  const { store } = useApp();
  const narrowed = useFlowFilter();
  const found = useMessages(narrowed.filter);
  const list = found ?? store.flow;
  useMessageLinks(narrowed.clear);

  function showThread(thread: number): void {
    narrowed.clear();
    narrowed.fields.thread.value = String(thread);
  }

  return (
    <Section title="message flow" leet="MESS4GE FL0W" testId="flow">
      <FlowCompose />
      <FilterBar narrowed={narrowed} />
      <ListError list={list} />
      <Nothing list={list} filtered={found !== null} />
      <Newest list={list} testId="flow-newest" />
      <Rows list={list} search={found === null ? "" : narrowed.searched} onThread={showThread} />
      <Older list={list} testId="flow-older" />
    </Section>
  );
}

interface RowsProps {
  list: MessageList;
  search: string;
  onThread: (thread: number) => void;
}

function Rows({ list, search, onThread }: RowsProps) {
  const entries = groupFlow(list.keys.value.flatMap((id) => list.find(id) ?? []));
  return (
    <ul class="flow">
      {entries.map(({ key, ids }) =>
        ids.length > 1 ? (
          <BroadcastRow key={key} list={list} ids={ids} search={search} />
        ) : (
          <FlowRow key={key} list={list} id={ids[0] as number} search={search} onThread={onThread} />
        ),
      )}
    </ul>
  );
}

function Nothing({ list, filtered }: { list: MessageList; filtered: boolean }) {
  if (list.keys.value.length > 0 || list.error.value) return null;
  if (!list.loaded.value) return <Empty>looking…</Empty>;
  return <Empty>{filtered ? "no message is like that" : "nothing was said yet"}</Empty>;
}

function FlowCompose() {
  const { store } = useApp();
  const draft = useDraft("flow");
  const to = useDraft("flow-to");
  const names = store.agents.keys.value;
  // The manager is first, and whom one writes to who does not know whom.
  const recipient = names.includes(to.value) || to.value === EVERYONE ? to.value : (names[0] ?? "");
  const toAll = recipient === EVERYONE;
  return (
    <div class="flow-compose">
      <label>
        <span class="dim">to</span>
        <select
          data-testid="flow-to"
          aria-label="whom to write to"
          value={recipient}
          onChange={(event) => (to.value = event.currentTarget.value)}
        >
          {names.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
          <option value={EVERYONE}>all agents</option>
        </select>
      </label>
      <Compose
        to={recipient}
        draft={draft}
        testId="flow"
        more
        placeholder={describePlaceholder(recipient, names.length)}
        confirm={toAll ? `to all ${names.length} agents?` : ""}
      />
    </div>
  );
}

function describePlaceholder(recipient: string, agents: number): string {
  if (recipient === "") return "nobody to write to yet";
  return recipient === EVERYONE ? `write to all ${agents} agents` : `write to ${recipient}`;
}
