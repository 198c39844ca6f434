import { type Signal, useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { StateEntry, StateEntryKind } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { renderSize, renderVisible } from "../text.ts";
import { renderDay } from "../time.ts";
import { FetchNote } from "./fetch_note.tsx";
import { Block, Inline } from "./text.tsx";

/** Rows shown at once; the others on request. */
const SHOWN = 200;

/** What is looked at: a path below /state, as the hive spells it. */
interface Place {
  path: string;
  isFile: boolean;
}

const KINDS: Record<StateEntryKind, string> = {
  file: "",
  folder: "folder",
  link: "a link, not followed",
  other: "no plain file",
};

/** The files in an agent's /state. Asked for when one looks, and then only by hand: nothing moves by itself. */
export function StateFiles({ agent }: { agent: string }) {
  const place = useSignal<Place>({ path: "", isFile: false });
  const reloads = useSignal(0);
  const box = useRef<HTMLElement>(null);
  const shown = useRef(place.value);
  const { path, isFile } = place.value;
  useLayoutEffect(() => {
    // Whoever came here by a button has it no more: the keyboard goes on with what is there now.
    if (shown.current !== place.value) box.current?.focus();
    shown.current = place.value;
  });
  return (
    <section class="panel state-files" aria-label={`files of ${agent}`} data-testid="files">
      <div class="panel-head">
        <h3>files</h3>
        <button
          type="button"
          class="act act-quiet"
          aria-label={`reload the files of ${agent}`}
          data-testid="files-reload"
          onClick={() => (reloads.value += 1)}
        >
          reload
        </button>
      </div>
      <Trail place={place} />
      <section
        ref={box}
        class="state-place"
        tabIndex={-1}
        aria-label={renderVisible(path || "/state")}
        data-testid="files-place"
      >
        {isFile ? (
          <File key={path} agent={agent} path={path} reloads={reloads} />
        ) : (
          <Folder key={path} agent={agent} place={place} reloads={reloads} />
        )}
      </section>
    </section>
  );
}

/** The folders above what is looked at, each a way back. */
function Trail({ place }: { place: Signal<Place> }) {
  const names = place.value.path === "" ? [] : place.value.path.split("/");
  const steps = names.map((name, index) => ({ name, path: names.slice(0, index + 1).join("/") }));
  return (
    <nav class="trail" aria-label="the folders above" data-testid="files-trail">
      <ol>
        {[{ name: "/state", path: "" }, ...steps].map(({ name, path }, index) => (
          <li key={path}>
            {index === names.length ? (
              <span aria-current="page">
                <Inline text={name} />
              </span>
            ) : (
              <button type="button" class="link" onClick={() => (place.value = { path, isFile: false })}>
                <Inline text={name} />
              </button>
            )}
          </li>
        ))}
      </ol>
    </nav>
  );
}

function Folder({ agent, place, reloads }: { agent: string; place: Signal<Place>; reloads: Signal<number> }) {
  const { api } = useApp().store;
  const { path } = place.value;
  const fetched = useFetched(`folder-${agent}/${path}`, () => api.stateFolder(agent, path), reloads);
  const whole = useSignal(false);
  const folder = fetched.value.value;
  const entries = folder?.entries ?? [];
  const shown = whole.value ? entries : entries.slice(0, SHOWN);
  return (
    <>
      <FetchNote fetched={fetched} what="the folder" />
      {folder?.entries.length === 0 && <p class="empty">nothing is here</p>}
      <ul class="state-entries">
        {shown.map((entry) => (
          <Entry
            key={entry.name}
            entry={entry}
            onOpen={() => {
              const below = path === "" ? entry.name : `${path}/${entry.name}`;
              place.value = { path: below, isFile: entry.kind === "file" };
            }}
          />
        ))}
      </ul>
      {shown.length < entries.length && (
        <button type="button" class="link" data-testid="files-rest" onClick={() => (whole.value = true)}>
          show {entries.length - shown.length} others
        </button>
      )}
      {folder?.more && (
        <p class="empty" data-testid="files-more">
          there are others: these are the first {entries.length} by name
        </p>
      )}
    </>
  );
}

function Entry({ entry, onOpen }: { entry: StateEntry; onOpen: () => void }) {
  const { name, kind } = entry;
  const opens = kind === "file" || kind === "folder";
  return (
    <li class="state-entry" data-testid={`entry-${name}`} data-kind={kind}>
      {opens ? (
        <button type="button" class="link state-name" onClick={onOpen}>
          <Inline text={kind === "folder" ? `${name}/` : name} />
        </button>
      ) : (
        <span class="state-name dim">
          <Inline text={name} />
        </span>
      )}
      <span class="dim">{kind === "file" ? renderSize(entry.size_bytes) : KINDS[kind]}</span>
      {entry.changed_at === null ? (
        <span class="dim">?</span>
      ) : (
        <time class="dim" dateTime={entry.changed_at}>
          {renderDay(entry.changed_at)}
        </time>
      )}
    </li>
  );
}

function File({ agent, path, reloads }: { agent: string; path: string; reloads: Signal<number> }) {
  const { api } = useApp().store;
  const fetched = useFetched(`file-${agent}/${path}`, () => api.stateFile(agent, path), reloads);
  const file = fetched.value.value;
  return (
    <>
      <FetchNote fetched={fetched} what="the file" />
      {file && (
        <p class="state-about">
          <span class="dim">{renderSize(file.size_bytes)}</span>
          {file.cut && <span class="chip chip-warn">{file.binary ? "large" : "only its beginning"}</span>}
          <a
            class="link"
            href={api.stateDownload(agent, path)}
            download=""
            aria-label={`save ${renderVisible(path)}`}
            data-testid="files-save"
          >
            save
          </a>
        </p>
      )}
      {file?.binary && <p class="empty">no text: it can only be saved</p>}
      {file && !file.binary && (
        <section
          class="state-text"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          tabIndex={0}
          aria-label={`the text of ${renderVisible(path)}`}
          data-testid="files-text"
        >
          {file.text ? <Block text={file.text} mono /> : <p class="empty">empty</p>}
        </section>
      )}
    </>
  );
}
