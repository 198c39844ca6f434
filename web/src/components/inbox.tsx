import { useRef } from "preact/hooks";
import { useApp } from "../context.ts";
import { groupThreads, holdOrder, isUnread, type Thread } from "../threads.ts";
import { ListError, Newest, Older } from "./older.tsx";
import { Empty, Section } from "./section.tsx";
import { ThreadCard } from "./thread.tsx";

/** What was sent to the operator by thread, with a reply in place. */
export function Inbox() {
  const { store } = useApp();
  const { inbox } = store;
  const rows = inbox.rows();
  const unread = rows.filter(isUnread).length;
  const element = useRef<HTMLUListElement>(null);
  const threads = useHeldThreads(groupThreads(rows), element);
  return (
    <Section title="operator inbox" leet="0PER4T0R 1NB0X" testId="inbox" count={unread} urgent={unread > 0}>
      <ListError list={inbox} />
      {inbox.loaded.value && rows.length === 0 && <Empty>no message for you</Empty>}
      <Newest list={inbox} testId="inbox-newest" />
      <ul class="rows" ref={element}>
        {threads.map((thread) => (
          <ThreadCard key={thread.key} thread={thread} />
        ))}
      </ul>
      <Older list={inbox} testId="inbox-older" />
    </Section>
  );
}

/** While the focus is among them, threads stay where they are and only new ones come in above. */
function useHeldThreads(threads: Thread[], element: { current: HTMLElement | null }): Thread[] {
  const before = useRef<number[]>([]);
  const held = element.current?.contains(document.activeElement) ?? false;
  const shown = held ? holdOrder(threads, before.current) : threads;
  before.current = shown.map((thread) => thread.key);
  return shown;
}
