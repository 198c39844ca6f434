import { useApp } from "../context.ts";
import { renderSize } from "../text.ts";
import { Act } from "./act.tsx";
import { Name } from "./link.tsx";
import { Section } from "./section.tsx";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

/** The agents that the manager is drafting. Not shown while there is none. */
export function Drafts() {
  const { store } = useApp();
  const names = store.drafts.keys.value;
  if (names.length === 0) return null;
  return (
    <Section title="drafts" leet="DR4FTS" testId="drafts" count={names.length}>
      <ul class="rows">
        {names.map((name) => (
          <DraftRow key={name} name={name} />
        ))}
      </ul>
    </Section>
  );
}

function DraftRow({ name }: { name: string }) {
  const { store } = useApp();
  const row = store.drafts.cell(name)?.value;
  if (row === undefined) return null;
  return (
    <li class="row row-line" data-testid={`draft-${name}`}>
      <span class="name">
        <Inline text={name} />
      </span>
      <span class="dim">
        begun by <Name name={row.requested_by} /> <Age at={row.created_at} /> ago
        {row.size_bytes > 0 && ` · ${renderSize(row.size_bytes)}`}
      </span>
      <div class="acts">
        <Act
          label={`discard the draft of ${name}`}
          testId="discard"
          kind="danger"
          until={name}
          confirm={`discard the draft of ${name}? its config and staged notes are gone for good`}
          run={async () => {
            await store.api.discardDraft(name);
            return `the draft of ${name} is discarded`;
          }}
        >
          discard
        </Act>
      </div>
    </li>
  );
}
