import { useApp } from "../context.ts";
import { renderSize } from "../text.ts";
import { renderDuration } from "../time.ts";
import { Act } from "./act.tsx";
import { Leet, Section } from "./section.tsx";
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
        destroyed <Age at={row.destroyed_at} /> ago, lived{" "}
        {renderDuration(Date.parse(row.destroyed_at) - Date.parse(row.spawned_at))} ·{" "}
        {renderSize(row.size_bytes)}
      </span>
      <span class={row.credentials ? "chip chip-warn" : "chip"} data-testid="credentials">
        {row.credentials ? "holds a login" : "no login"}
      </span>
      <div class="acts">
        <Act
          label={`revive ${name} with its kept state`}
          testId="revive"
          kind="good"
          until={name}
          run={async () => {
            await store.api.revive(name);
            return `${name} is revived with its old state`;
          }}
        >
          <Leet plain="revive" leet="R3V1V3" />
        </Act>
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
          <Leet plain="purge" leet="PURG3" />
        </Act>
      </div>
    </li>
  );
}
