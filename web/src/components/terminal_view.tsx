import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type { Terminal } from "../api_types.ts";
import { useApp } from "../context.ts";
import { agentPath } from "../route.ts";
import type { Command } from "../terminal/emulator.ts";
import { createSession, type Session, type SessionState, screenReader } from "../terminal/session.ts";
import { renderTerminalLink } from "../terminal/share.ts";
import { Act } from "./act.tsx";
import { TerminalKeys } from "./terminal_keys.tsx";
import { TerminalSearch } from "./terminal_search.tsx";

const STATES: Record<SessionState, string> = {
  loading: "loading…",
  failed: "it could not be loaded: reload the page",
  connecting: "connecting…",
  up: "live",
  lost: "connection lost, trying again. the shell goes on",
  ended: "ended",
};

export interface ViewProps {
  terminal: Terminal;
  shown: boolean;
  reading: boolean;
  fresh: boolean;
  onReading: (reading: boolean) => void;
  /** Gives the focus back to the page. */
  onLeave: () => void;
  /** Takes it off the page; the shell goes on. */
  onHide: () => void;
}

/** One terminal: what can be done with it, its screen, and on a phone its keys. */
export function TerminalView(props: ViewProps) {
  const { store, toasts } = useApp();
  const { terminal, shown } = props;
  const host = useRef<HTMLElement>(null);
  const searching = useSignal(false);
  const large = useSignal(false);
  const command = useRef<(command: Command) => void>(() => {});
  const session = useMemo(
    () =>
      createSession({
        api: store.api,
        terminal,
        reading: props.reading,
        fresh: props.fresh,
        onCommand: (name) => command.current(name),
      }),
    // What is known of a terminal changes while it is looked at; the session is of its id.
    [terminal.id, store.api],
  );
  command.current = (name) => {
    if (name === "search") searching.value = true;
    else if (name === "copy") void copySelection(session, toasts);
    else {
      large.value = false;
      props.onLeave();
    }
  };

  useEffect(() => {
    if (host.current) void session.open(host.current);
    const stop = retryOnReturn(session);
    return () => {
      stop();
      session.close();
    };
  }, [session]);
  useEffect(() => session.setReading(props.reading), [session, props.reading]);
  useEffect(() => {
    if (shown && props.fresh && session.state.value === "up") session.focus();
  }, [shown, session, session.state.value, props.fresh]);

  const state = session.state.value;
  return (
    <div
      class={large.value ? "terminal-view terminal-large" : "terminal-view"}
      hidden={!shown}
      data-testid={`terminal-${terminal.id}`}
      data-state={state}
    >
      <Tools {...props} session={session} searching={searching} large={large} />
      {searching.value && (
        <TerminalSearch
          session={session}
          onClose={() => {
            searching.value = false;
            session.focus();
          }}
        />
      )}
      <section
        ref={host}
        class="terminal-host"
        aria-label={`terminal ${terminal.id} of ${terminal.agent}. ctrl+shift+escape or ctrl+shift+F6 leaves it`}
        data-testid="terminal-host"
      />
      {!session.reading.value && state !== "ended" && <TerminalKeys session={session} />}
    </div>
  );
}

interface ToolsProps extends ViewProps {
  session: Session;
  searching: { value: boolean };
  large: { value: boolean };
}

function Tools({ session, terminal, searching, large, onReading, onHide, reading }: ToolsProps) {
  const { store, toasts } = useApp();
  const note = useComputed(() => describeState(session.state.value, session.status.value, reading));
  const ended = session.state.value === "ended";
  return (
    <div class="terminal-tools">
      <span
        role="status"
        class={session.state.value === "lost" ? "tone-warn" : "dim"}
        data-testid="terminal-state"
      >
        {note}
      </span>
      <span class="acts">
        {!ended && (
          <Toggle
            on={reading}
            testId="terminal-reading"
            title="nothing is typed into it from here"
            onToggle={() => onReading(!reading)}
          >
            read only
          </Toggle>
        )}
        <Toggle
          on={searching.value}
          testId="terminal-search-toggle"
          title="ctrl+shift+F"
          onToggle={() => (searching.value = !searching.value)}
        >
          search
        </Toggle>
        <button
          type="button"
          class="act act-quiet"
          title="copies what is selected: ctrl+shift+C"
          data-testid="terminal-copy"
          // The selection goes with the focus on some phones.
          onPointerDown={(event) => event.preventDefault()}
          onClick={() => void copySelection(session, toasts)}
        >
          copy
        </button>
        {!ended && (
          <button
            type="button"
            class="act act-quiet"
            title="copies a link for looking on"
            data-testid="terminal-share"
            onClick={() => void copyText(renderShared(terminal), "the link for looking on is copied", toasts)}
          >
            share
          </button>
        )}
        <Toggle
          on={screenReader.value}
          testId="terminal-screen-reader"
          title="tells the lines to a screen reader"
          onToggle={() => (screenReader.value = !screenReader.value)}
        >
          screen reader
        </Toggle>
        <Toggle
          on={large.value}
          testId="terminal-large"
          title="fills the page"
          onToggle={() => {
            large.value = !large.value;
            session.focus();
          }}
        >
          large
        </Toggle>
        <button
          type="button"
          class="act act-quiet"
          title={ended ? "takes it off the page" : "takes it off the page; the shell goes on"}
          data-testid="terminal-hide"
          onClick={onHide}
        >
          hide
        </button>
        {!ended && (
          <Act
            label={`end terminal ${terminal.id} of ${terminal.agent}`}
            testId="terminal-close"
            kind="danger"
            confirm="end the shell and what runs in it?"
            run={async () => {
              await store.api.closeTerminal(terminal.agent, terminal.id);
              return "the terminal is ended";
            }}
          >
            end
          </Act>
        )}
      </span>
    </div>
  );
}

interface ToggleProps {
  on: boolean;
  testId: string;
  title: string;
  onToggle: () => void;
  children: string;
}

function Toggle({ on, testId, title, onToggle, children }: ToggleProps) {
  return (
    <button
      type="button"
      class="act act-quiet"
      aria-pressed={on}
      title={title}
      data-testid={testId}
      onClick={onToggle}
    >
      {children}
    </button>
  );
}

export function describeState(state: SessionState, status: number | null, reading: boolean): string {
  if (state === "ended") return status === null ? "the shell ended" : `the shell ended with status ${status}`;
  return state === "up" && reading ? "live, looking on" : STATES[state];
}

const renderShared = ({ agent, id }: Terminal) =>
  new URL(agentPath(agent) + renderTerminalLink({ id, reading: true }), location.href).href;

type Toasts = ReturnType<typeof useApp>["toasts"];

async function copySelection(session: Session, toasts: Toasts): Promise<void> {
  const text = session.selection();
  if (text === "") toasts.failed(new Error("nothing is selected in the terminal"));
  else await copyText(text, "copied", toasts);
}

async function copyText(text: string, report: string, toasts: Toasts): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toasts.done(report);
  } catch {
    toasts.failed(new Error("the browser does not let the page copy"));
  }
}

/** A network or a tab that comes back is a reason not to wait. */
function retryOnReturn(session: Session): () => void {
  const retry = () => session.retry();
  window.addEventListener("online", retry);
  document.addEventListener("visibilitychange", retry);
  return () => {
    window.removeEventListener("online", retry);
    document.removeEventListener("visibilitychange", retry);
  };
}
