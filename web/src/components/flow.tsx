import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { MESSAGE_PAGE } from "../store.ts";
import { Compose } from "./compose.tsx";
import { FlowRow } from "./message.tsx";
import { Older } from "./older.tsx";
import { Empty, Section } from "./section.tsx";

/** Who says what to whom, live, and a word of one's own. */
export function Flow() {
  const { store } = useApp();
  const ids = store.flow.keys.value;
  return (
    <Section title="message flow" leet="MESS4GE FL0W" testId="flow">
      <FlowCompose />
      {ids.length === 0 && <Empty>nothing was said yet</Empty>}
      <ul class="flow">
        {ids.map((id) => (
          <Row key={id} id={id} />
        ))}
      </ul>
      <Older
        table={store.flow}
        testId="flow-older"
        fetchPage={(before) => store.api.messages({ before, limit: MESSAGE_PAGE })}
      />
    </Section>
  );
}

function Row({ id }: { id: number }) {
  const message = useApp().store.flow.cell(id)?.value;
  return message === undefined ? null : <FlowRow message={message} />;
}

function FlowCompose() {
  const { store } = useApp();
  const draft = useDraft("flow");
  const to = useDraft("flow-to");
  const names = store.agents.keys.value;
  // The manager is first, and whom one writes to who does not know whom.
  const recipient = names.includes(to.value) ? to.value : (names[0] ?? "");
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
        </select>
      </label>
      <Compose
        to={recipient}
        draft={draft}
        testId="flow"
        placeholder={recipient ? `write to ${recipient}` : "nobody to write to yet"}
      />
    </div>
  );
}
