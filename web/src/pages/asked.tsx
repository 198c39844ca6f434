import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { ApprovalCard } from "../components/approvals.tsx";
import { FetchNote } from "../components/fetch_note.tsx";
import { Frame } from "../components/frame.tsx";
import { Link } from "../components/link.tsx";
import { QuestionCard } from "../components/questions.tsx";
import { Section } from "../components/section.tsx";
import { useApp } from "../context.ts";
import { type Fetched, useFetched } from "../fetched.ts";
import { EVERYONE } from "../store.ts";
import type { Table } from "../table.ts";
import { useTitle } from "../title.ts";

/** One approval on a page of its own, also long after it was decided. */
export function ApprovalPage({ id }: { id: number }) {
  const { api, approvals } = useApp().store;
  const at = useSignal(false);
  const { row, fetched } = useRow(approvals, id, `approval-${id}`, () => api.approval(id));
  return (
    <AskedPage name={`approval #${id}`} section="/#section-approvals" fetched={fetched} there={row !== null}>
      {row && <ApprovalCard row={row} open at={at} />}
    </AskedPage>
  );
}

/** One question on a page of its own, also long after it was answered. */
export function QuestionPage({ id }: { id: number }) {
  const { api, questions } = useApp().store;
  const at = useSignal(false);
  const { row, fetched } = useRow(questions, id, `question-${id}`, () => api.question(id));
  return (
    <AskedPage name={`question #${id}`} section="/#section-questions" fetched={fetched} there={row !== null}>
      {row && <QuestionCard row={row} at={at} />}
    </AskedPage>
  );
}

/** A row as the events keep it, or as it was fetched when it ended before the page was opened. */
function useRow<T>(table: Table<number, T>, id: number, key: string, fetchIt: () => Promise<T>) {
  const { epochs } = useApp().store;
  // Nobody is called so: it moves when everything is fetched anew, and only then.
  const fetched = useFetched(key, fetchIt, epochs.of(EVERYONE));
  // Subscribed to before it is looked up: the row may come later than the page.
  const live = table.keys.value.includes(id) ? table.cell(id)?.value : undefined;
  return { row: live ?? fetched.value.value, fetched };
}

interface AskedPageProps {
  name: string;
  section: string;
  fetched: Fetched<unknown>;
  there: boolean;
  children: ComponentChildren;
}

function AskedPage({ name, section, fetched, there, children }: AskedPageProps) {
  useTitle(`${name} · hyperhive`);
  return (
    <Frame heading={name}>
      <Section title={name} leet={name} testId="asked">
        {!there && <FetchNote fetched={fetched} what={`the ${name}`} />}
        <ul class="rows">{children}</ul>
        <p class="page-back">
          <Link to={section}>all of them, in the hive</Link>
        </p>
      </Section>
    </Frame>
  );
}
