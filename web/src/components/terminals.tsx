import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Terminal } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { fragment } from "../route.ts";
import { parseTerminalLink, renderTerminalLink, type TerminalLink } from "../terminal/share.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Section } from "./section.tsx";
import { TerminalView } from "./terminal_view.tsx";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

/** The classic size, until the page has measured the room there is. */
const FIRST_SIZE = { columns: 80, rows: 24 };

/** A terminal that is shown in this page. */
interface Attached {
  terminal: Terminal;
  reading: boolean;
  fresh: boolean;
}

/** Whether the terminals are shown, kept in the address: it outlives a reload, and can be handed on. */
export function useTerminalPanel() {
  const wanted = fragment.value;
  const open = useSignal(isTerminalFragment(wanted.id));
  useEffect(() => {
    if (isTerminalFragment(wanted.id)) open.value = true;
  }, [wanted, open]);
  return {
    open: open.value,
    toggle() {
      open.value = !open.peek();
      markAddress(open.peek() ? "#terminal" : "");
    },
  };
}

/** The shells in an agent's container: those that are open as tabs, and the screens of those attached to. */
export function Terminals({ agent }: { agent: string }) {
  const { api, terminalEpochs } = useApp().store;
  const fetched = useFetched(`terminals-${agent}`, () => api.terminals(agent), terminalEpochs.of(agent));
  const rows = fetched.value.value;
  const attached = useSignal<Attached[]>([]);
  const current = useSignal("");
  const tabs = useRef<HTMLDivElement>(null);
  const missing = useLinked(rows, attached, current);

  function show(terminal: Terminal, fresh = false): void {
    if (!attached.peek().some((one) => one.terminal.id === terminal.id))
      attached.value = [...attached.peek(), { terminal, reading: false, fresh }];
    current.value = terminal.id;
    markCurrent(attached.peek(), terminal.id);
  }

  function hide(id: string): void {
    attached.value = attached.peek().filter((one) => one.terminal.id !== id);
    if (current.peek() === id) current.value = attached.peek().at(-1)?.terminal.id ?? "";
    markCurrent(attached.peek(), current.peek());
    focusTabs();
  }

  function setReading(id: string, reading: boolean): void {
    attached.value = attached
      .peek()
      .map((one) => (one.terminal.id === id ? { ...one, reading, fresh: false } : one));
    markCurrent(attached.peek(), current.peek());
  }

  const focusTabs = () =>
    (
      tabs.current?.querySelector<HTMLElement>("[aria-current]") ??
      tabs.current?.querySelector<HTMLElement>("button")
    )?.focus();

  return (
    <div class="terminals" id="terminal" tabIndex={-1}>
      <Section title="terminal" leet="T3RM1N4L" testId="terminals" count={countOpen(rows)}>
        <div class="terminal-tabs" ref={tabs}>
          {listTabs(rows ?? [], attached.value).map((row) => (
            <Tab key={row.id} row={row} current={row.id === current.value} onShow={() => show(row)} />
          ))}
          <Act
            label={`open a terminal in ${agent}`}
            testId="terminal-new"
            kind="good"
            run={async () => {
              show(await api.openTerminal(agent, FIRST_SIZE), true);
              void fetched.fetchNow();
              return "";
            }}
          >
            open a terminal
          </Act>
        </div>
        <FetchNote fetched={fetched} what="the terminals" />
        {missing.value && (
          <p class="rule rule-broken" role="alert" data-testid="terminal-missing">
            the terminal of this link is not open any more
          </p>
        )}
        {attached.value.map((one) => (
          <TerminalView
            key={one.terminal.id}
            {...one}
            shown={one.terminal.id === current.value}
            onReading={(reading) => setReading(one.terminal.id, reading)}
            onLeave={focusTabs}
            onHide={() => hide(one.terminal.id)}
          />
        ))}
        {attached.value.length === 0 && <Last rows={rows ?? []} />}
      </Section>
    </div>
  );
}

/** Attaches to the terminal that the address names, once it is known. True when there is none of that name. */
function useLinked(rows: Terminal[] | null, attached: Signal<Attached[]>, current: Signal<string>) {
  const wanted = fragment.value;
  const missing = useSignal(false);
  const done = useRef<object | null>(null);
  useEffect(() => {
    if (rows === null || done.current === wanted) return;
    done.current = wanted;
    // What is shown was noted in the address without going there.
    const link = parseTerminalLink(location.hash.slice(1));
    const terminal = rows.find((row) => row.id === link?.id && row.ended_at === null);
    missing.value = link !== null && terminal === undefined;
    if (link === null || terminal === undefined) return;
    const others = attached.peek().filter((one) => one.terminal.id !== terminal.id);
    attached.value = [...others, { terminal, reading: link.reading, fresh: false }];
    current.value = terminal.id;
  }, [rows, wanted, attached, current, missing]);
  return missing;
}

function Tab({ row, current, onShow }: { row: Terminal; current: boolean; onShow: () => void }) {
  return (
    <button
      type="button"
      class="act act-quiet terminal-tab"
      aria-current={current ? true : undefined}
      data-testid={`terminal-tab-${row.id}`}
      onClick={onShow}
    >
      <span class="visually-hidden">terminal </span>
      <Inline text={row.id.slice(0, 6)} />
      <span class="dim">{row.ended_at === null ? <Age at={row.opened_at} /> : "ended"}</span>
    </button>
  );
}

/** How the last ones ended, while none is shown. */
function Last({ rows }: { rows: Terminal[] }) {
  const ended = rows.filter((row) => row.ended_at !== null).slice(0, 3);
  if (ended.length === 0) return <p class="empty">a shell in the container, as the agent has it</p>;
  return (
    <ul class="terminal-last" data-testid="terminal-last">
      {ended.map((row) => (
        <li key={row.id} class="dim">
          <Inline text={row.id.slice(0, 6)} /> of <Inline text={row.opened_by} /> ended{" "}
          <Age at={row.ended_at ?? row.opened_at} /> ago: {describeEnd(row)}
        </li>
      ))}
    </ul>
  );
}

const ENDINGS: Record<NonNullable<Terminal["ending"]>, string> = {
  exited: "the shell ended",
  closed: "closed by hand",
  idle: "unused for too long",
  stopped: "the agent was stopped",
  lost: "lost with its container",
  failed: "it could not be opened",
};

export function describeEnd(row: Terminal): string {
  const why = row.ending === null ? "ended" : ENDINGS[row.ending];
  return row.status === null ? why : `${why}, status ${row.status}`;
}

/** Those that are open, and those that ended while they were looked at. */
function listTabs(rows: Terminal[], attached: Attached[]): Terminal[] {
  const open = rows.filter((row) => row.ended_at === null);
  const known = new Map(rows.map((row) => [row.id, row]));
  const others = attached
    .map((one) => known.get(one.terminal.id) ?? one.terminal)
    .filter((row) => !open.some((one) => one.id === row.id));
  return [...open, ...others].sort((a, b) => Date.parse(a.opened_at) - Date.parse(b.opened_at));
}

const isTerminalFragment = (id: string) => id === "terminal" || parseTerminalLink(id) !== null;

const countOpen = (rows: Terminal[] | null) => rows?.filter((row) => row.ended_at === null).length ?? 0;

function markCurrent(attached: Attached[], id: string): void {
  const one = attached.find(({ terminal }) => terminal.id === id);
  const link: TerminalLink | null = one ? { id, reading: one.reading } : null;
  markAddress(link ? renderTerminalLink(link) : "#terminal");
}

/** Without a step in the history, and without going anywhere. */
function markAddress(hash: string): void {
  history.replaceState(history.state, "", location.pathname + location.search + hash);
}
