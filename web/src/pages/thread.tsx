import { Frame } from "../components/frame.tsx";
import { Link } from "../components/link.tsx";
import { messageElementId } from "../components/message_link.tsx";
import { Empty, Section } from "../components/section.tsx";
import { WholeThread } from "../components/thread.tsx";
import { useMessages } from "../followed.ts";
import { threadOf } from "../messages.ts";
import { isUnread, mergeMessages, type Thread } from "../threads.ts";
import { useTitle } from "../title.ts";

/** A conversation on a page of its own, by any of its messages: all of it, by whomever to whomever, and a reply. */
export function ThreadPage({ id }: { id: number }) {
  const asked = useMessages({ thread: id });
  const found = asked?.rows()[0];
  const root = found ? threadOf(found) : id;
  // Only by the message that began it a page can tell what belongs to it.
  const whole = useMessages(root === id ? null : { thread: root });
  const name = `thread of message #${root}`;
  useTitle(`${name} · hyperhive`);
  const list = whole ?? asked;
  if (list === null) return null;
  const messages = mergeMessages(list.rows(), []);
  const thread: Thread = { key: root, messages, unread: messages.filter(isUnread).length };
  return (
    <Frame heading={name}>
      <Section title={name} leet={name} testId="thread" count={thread.unread}>
        {list.loaded.value && messages.length === 0 && <Empty>there is no message #{id}</Empty>}
        <WholeThread key={root} thread={thread} list={list} />
        {messages.length > 0 && (
          <p class="page-back">
            <Link to={`/#${messageElementId(id)}`}>where it stands in the hive</Link>
          </p>
        )}
      </Section>
    </Frame>
  );
}
