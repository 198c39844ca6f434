import { useSignal } from "@preact/signals";
import type { NotesKind, NotesVersion } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { renderSize } from "../text.ts";
import { Act } from "./act.tsx";
import { Commit } from "./commit.tsx";
import { DiffFiles, DiffMode } from "./diff.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Clock } from "./when.tsx";

/** Versions shown at once, the newest first; the others on request. */
const SHOWN = 8;

const KINDS: Record<NotesKind, string> = {
  compacted: "made shorter",
  asked: "waits for your answer",
  restored: "brought back",
  kept: "kept as they were",
};

/** How the notes of an agent were rewritten, each time with what was lost, and the way back. */
export function Notes({ agent }: { agent: string }) {
  const { api, notesEpochs } = useApp().store;
  const fetched = useFetched(`notes-${agent}`, () => api.notes(agent), notesEpochs.of(agent));
  const whole = useSignal(false);
  const versions = fetched.value.value;
  const shown = whole.value ? versions : versions?.slice(0, SHOWN);
  return (
    <section class="panel" aria-label={`notes of ${agent}`} data-testid="notes">
      <div class="panel-head">
        <h3>notes</h3>
        <DiffMode />
      </div>
      <FetchNote fetched={fetched} what="the versions" />
      {versions?.length === 0 && (
        <p class="empty">never rewritten by the hive yet: that happens when they get too long</p>
      )}
      <ul class="versions">
        {shown?.map((version) => (
          <VersionRow key={version.commit} agent={agent} version={version} />
        ))}
      </ul>
      {versions !== null && shown !== undefined && shown !== null && shown.length < versions.length && (
        <button type="button" class="link" onClick={() => (whole.value = true)}>
          show {versions.length - shown.length} older
        </button>
      )}
    </section>
  );
}

function VersionRow({ agent, version }: { agent: string; version: NotesVersion }) {
  const open = useSignal(version.kind === "asked");
  const { store } = useApp();
  const { commit } = version;
  return (
    <li class="version" data-testid={`notes-${commit}`} data-kind={version.kind}>
      <span class="version-what">
        <Clock at={version.at} />
        <span class={version.kind === "asked" ? "chip chip-warn" : "chip"}>{KINDS[version.kind]}</span>
        <span>
          {renderSize(version.size_before)} → {renderSize(version.size_after)}
        </span>
        <Commit commit={commit} />
      </span>
      <span class="acts">
        <button
          type="button"
          class="act act-quiet"
          aria-expanded={open.value}
          aria-label={`what changed in the notes of ${agent}, version ${commit.slice(0, 10)}`}
          data-testid="notes-change"
          onClick={() => (open.value = !open.value)}
        >
          change
        </button>
        <Act
          label={`restore the notes of ${agent} of version ${commit.slice(0, 10)}`}
          testId="notes-restore"
          confirm={`make this version the notes of ${agent}? what stands there now is kept as one`}
          run={async () => {
            await store.api.restoreNotes(agent, commit);
            store.notesEpochs.move(agent);
            return `the notes of ${agent} are brought back`;
          }}
        >
          restore
        </Act>
      </span>
      {open.value && (
        <div class="version-text">
          <NotesChange agent={agent} commit={commit} />
        </div>
      )}
    </li>
  );
}

/** What one rewriting changed. */
export function NotesChange({ agent, commit }: { agent: string; commit: string }) {
  const { api, notesEpochs } = useApp().store;
  const fetched = useFetched(
    `notes-${agent}-${commit}`,
    () => api.notesDiff(agent, commit),
    notesEpochs.of(agent),
  );
  return (
    <>
      <FetchNote fetched={fetched} what="the change" />
      {fetched.value.value && <DiffFiles files={fetched.value.value.files} large />}
    </>
  );
}

/** The rewriting that an agent's operator is asked about: the newest one that waits for an answer. */
export function AskedNotes({ agent }: { agent: string }) {
  const { api, notesEpochs } = useApp().store;
  const fetched = useFetched(`asked-notes-${agent}`, () => api.notes(agent), notesEpochs.of(agent));
  const versions = fetched.value.value;
  const asked = versions?.find(({ kind }) => kind === "asked");
  return (
    <div class="version-text" data-testid="asked-notes">
      <FetchNote fetched={fetched} what="the change" />
      {versions !== null && asked === undefined && <p class="empty">there is no change that waits</p>}
      {asked && <NotesChange agent={agent} commit={asked.commit} />}
    </div>
  );
}
