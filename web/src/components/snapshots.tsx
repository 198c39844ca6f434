import { useSignal } from "@preact/signals";
import { useId, useLayoutEffect, useRef } from "preact/hooks";
import type { RestoreResult, Snapshot } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useFetched } from "../fetched.ts";
import { renderSize } from "../text.ts";
import { Act, actOnEnter } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { isWrongName, NAME_RULE } from "./spawn_form.tsx";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

const NOTE_LIMIT_CHARS = 200;
/** How long the end of a turn is waited for: less than the page waits for an answer. */
const WAIT_S = 45;

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
    <form class="inline-form" onSubmit={actOnEnter}>
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
          const taken = await api.takeSnapshot({ agent, note: note.peek(), wait_s: WAIT_S });
          await onDone();
          return `snapshot ${taken.id} of ${agent} is taken`;
        }}
      >
        take one
      </Act>
    </form>
  );
}

function SnapshotRow({ row, onDone }: { row: Snapshot; onDone: () => Promise<void> }) {
  const { api } = useApp().store;
  const forking = useSignal(false);
  return (
    <li class="version" data-testid={`snapshot-${row.id}`}>
      <span class="version-what">
        <span class="dim">
          <Age at={row.at} /> ago · #{row.id} · {row.state === "ready" ? renderContent(row) : "being taken"}
        </span>
        {row.automatic && <span class="chip">made by the hive</span>}
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
              const restored = await api.restoreSnapshot(row.id, WAIT_S);
              await onDone();
              return renderRestored(row, restored);
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

function renderContent({ size_bytes, turns, left_out }: Snapshot): string {
  const said = `${renderSize(size_bytes)} · ${turns} turn${turns === 1 ? "" : "s"}`;
  return left_out === 0 ? said : `${said} · ${left_out} file${left_out === 1 ? "" : "s"} left out`;
}

function renderRestored({ id, agent }: Snapshot, { undo }: RestoreResult): string {
  const done = `${agent} is what it was in snapshot ${id}`;
  return undo === null ? done : `${done}; what was there is snapshot ${undo}`;
}

function Fork({ row, onDone }: { row: Snapshot; onDone: () => void }) {
  const { api } = useApp().store;
  const name = useDraft(`fork-${row.id}`);
  const field = useRef<HTMLInputElement>(null);
  const rule = useId();
  const wrong = isWrongName(name.value);
  // Before the next key is pressed: it may be a shortcut elsewhere.
  useLayoutEffect(() => field.current?.focus(), []);
  return (
    <form class="inline-form" onSubmit={actOnEnter}>
      <input
        ref={field}
        type="text"
        maxLength={63}
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        placeholder="name of the new agent"
        aria-label={`name of the new agent of snapshot ${row.id}`}
        aria-invalid={wrong}
        aria-describedby={wrong ? rule : undefined}
        data-testid="fork-name"
        value={name.value}
        onInput={(event) => (name.value = event.currentTarget.value)}
      />
      <Act
        label={`make a new agent of snapshot ${row.id}`}
        testId="fork-submit"
        kind="good"
        disabled={name.value === "" || wrong}
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
      {wrong && (
        <p id={rule} class="rule rule-broken">
          {NAME_RULE}
        </p>
      )}
    </form>
  );
}
