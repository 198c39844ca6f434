import { useApp } from "../context.ts";
import { renderSize } from "../text.ts";
import { Act } from "./act.tsx";
import { Section } from "./section.tsx";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

/** What is left of destroyed agents. Not shown while there is nothing. */
export function Kept() {
  const { store } = useApp();
  const names = store.kept.keys.value;
  if (names.length === 0) return null;
  return (
    <Section title="kept state" leet="K3PT ST4T3" testId="kept" count={names.length}>
      <ul class="rows">
        {names.map((name) => (
          <KeptRow key={name} name={name} />
        ))}
      </ul>
    </Section>
  );
}

function KeptRow({ name }: { name: string }) {
  const { store } = useApp();
  const row = store.kept.cell(name)?.value;
  if (row === undefined) return null;
  return (
    <li class="row row-line" data-testid={`kept-${name}`}>
      <span class="name">
        <Inline text={name} />
      </span>
      <span class="dim">
        destroyed <Age at={row.destroyed_at} /> ago · {renderSize(row.size_bytes)}
      </span>
      <div class="acts">
        <Act
          label={`purge ${name}`}
          testId="purge"
          kind="danger"
          until={name}
          confirm={`purge ${name}? its notes, login and history are gone for good`}
          run={async () => {
            await store.api.purgeKept(name);
            return `${name} is purged`;
          }}
        >
          purge
        </Act>
      </div>
    </li>
  );
}
