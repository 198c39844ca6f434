import { useSignal } from "@preact/signals";
import type { Snapshot } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useFetched } from "../fetched.ts";
import { renderSize } from "../text.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

const NOTE_LIMIT_CHARS = 200;

/** The snapshots of an agent: taking one, bringing one back, and making a new agent of one. */
export function Snapshots({ agent }: { agent: string }) {
  const { api, snapshotEpochs } = useApp().store;
  const fetched = useFetched(`snapshots-${agent}`, () => api.snapshots(agent), snapshotEpochs.of(agent));
  const rows = fetched.value.value;
  return (
    <section class="panel" aria-label={`snapshots of ${agent}`} data-testid="snapshots">
      <h3>snapshots</h3>
      <FetchNote fetched={fetched} what="the snapshots" />
      <Take agent={agent} onDone={fetched.fetchNow} />
      {rows?.length === 0 && <p class="empty">none yet. one holds state, conversation and config</p>}
      <ul class="versions">
        {rows?.map((row) => (
          <SnapshotRow key={row.id} row={row} onDone={fetched.fetchNow} />
        ))}
      </ul>
    </section>
  );
}

function Take({ agent, onDone }: { agent: string; onDone: () => Promise<void> }) {
  const { api } = useApp().store;
  const note = useDraft(`snapshot-${agent}`);
  return (
    <div class="inline-form">
      <input
        type="text"
        maxLength={NOTE_LIMIT_CHARS}
        placeholder="what it is for"
        aria-label={`what the snapshot of ${agent} is for`}
        data-testid="snapshot-note"
        value={note.value}
        onInput={(event) => (note.value = event.currentTarget.value)}
      />
      <Act
        label={`take one: a snapshot of ${agent} once its turn is over`}
        testId="snapshot-take"
        kind="good"
        onDone={() => (note.value = "")}
        run={async () => {
          const taken = await api.takeSnapshot({ agent, note: note.peek() });
          await onDone();
          return `snapshot ${taken.id} of ${agent} is taken`;
        }}
      >
        take one
      </Act>
    </div>
  );
}

function SnapshotRow({ row, onDone }: { row: Snapshot; onDone: () => Promise<void> }) {
  const { api } = useApp().store;
  const forking = useSignal(false);
  return (
    <li class="version" data-testid={`snapshot-${row.id}`}>
      <span class="version-what">
        <span>
          <Age at={row.at} /> ago
        </span>
        <span class="dim">
          {row.id} ·{" "}
          {row.state === "ready" ? `${renderSize(row.size_bytes)} · ${row.turns} turns` : "being taken"}
        </span>
        {row.imported && <span class="chip chip-warn">imported</span>}
        {row.with_credentials && <span class="chip chip-warn">holds a login</span>}
      </span>
      {row.state === "ready" && (
        <span class="acts">
          <Act
            label={`restore snapshot ${row.id} of ${row.agent}`}
            testId="snapshot-restore"
            confirm={`make ${row.agent} what it was then? what is there now is kept as a snapshot`}
            run={async () => {
              await api.restoreSnapshot(row.id);
              await onDone();
              return `${row.agent} is what it was in snapshot ${row.id}`;
            }}
          >
            restore
          </Act>
          <button
            type="button"
            class="act act-quiet"
            aria-expanded={forking.value}
            aria-label={`fork snapshot ${row.id} of ${row.agent}`}
            data-testid="snapshot-fork"
            onClick={() => (forking.value = !forking.value)}
          >
            fork
          </button>
          <Act
            label={`remove snapshot ${row.id} of ${row.agent}`}
            testId="snapshot-remove"
            kind="danger"
            confirm={`remove snapshot ${row.id}?`}
            run={async () => {
              await api.removeSnapshot(row.id);
              await onDone();
              return `snapshot ${row.id} is removed`;
            }}
          >
            remove
          </Act>
        </span>
      )}
      {forking.value && <Fork row={row} onDone={() => (forking.value = false)} />}
      {row.note !== "" && (
        <div class="version-text">
          <Inline text={row.note} />
        </div>
      )}
    </li>
  );
}

function Fork({ row, onDone }: { row: Snapshot; onDone: () => void }) {
  const { api } = useApp().store;
  const name = useDraft(`fork-${row.id}`);
  return (
    <div class="inline-form">
      <input
        type="text"
        maxLength={63}
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        placeholder="name"
        aria-label={`name of the new agent of snapshot ${row.id}`}
        data-testid="fork-name"
        value={name.value}
        onInput={(event) => (name.value = event.currentTarget.value)}
      />
      <Act
        label={`make a new agent of snapshot ${row.id}`}
        testId="fork-submit"
        kind="good"
        disabled={name.value === ""}
        onDone={() => {
          name.value = "";
          onDone();
        }}
        run={async () => {
          const made = await api.forkSnapshot(row.id, name.peek());
          return `${made.agent} is made of snapshot ${row.id}`;
        }}
      >
        make it
      </Act>
    </div>
  );
}
