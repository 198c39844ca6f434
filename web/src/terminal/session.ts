import { effect, signal } from "@preact/signals";
import type { Api } from "../api.ts";
import type { Terminal } from "../api_types.ts";
import { isLight } from "../settings.ts";
import { readItem, writeItem } from "../storage.ts";
import type { Command, Emulator, EmulatorOptions } from "./emulator.ts";
import type { BarKey } from "./keys.ts";
import { openTerminalSocket, type SocketState, type TerminalSocket } from "./socket.ts";

export type SessionState = SocketState | "loading" | "failed";

const SCREEN_READER = "hyperhive.terminal-screen-reader";

/** Whether terminals are told to screen readers line by line; remembered by this browser. */
export const screenReader = signal(readItem("localStorage", SCREEN_READER) === "1");
effect(() => writeItem("localStorage", SCREEN_READER, screenReader.value ? "1" : ""));

export interface SessionOptions {
  api: Api;
  terminal: Terminal;
  reading: boolean;
  /** It was opened just now, by this page. */
  fresh: boolean;
  onCommand: (command: Command) => void;
  load?: () => Promise<{ openEmulator: (options: EmulatorOptions) => Emulator }>;
  connect?: (url: string) => WebSocket;
}

export type Session = ReturnType<typeof createSession>;

/** One terminal in the page: its screen, and the connection that fills it. `open` it once its host is in the page. */
export function createSession(options: SessionOptions) {
  const { api, terminal } = options;
  const load = options.load ?? (() => import("./emulator.ts"));
  const state = signal<SessionState>("loading");
  const status = signal<number | null>(terminal.status);
  const reading = signal(options.reading);
  const controlHeld = signal(false);
  let emulator: Emulator | null = null;
  let socket: TerminalSocket | null = null;
  let fresh = options.fresh;
  let isClosed = false;
  let stops: (() => void)[] = [];

  async function open(host: HTMLElement): Promise<void> {
    try {
      // Somebody else may have given it another size since the list was made.
      const [{ openEmulator }, row] = await Promise.all([load(), fresh ? terminal : findRow(api, terminal)]);
      if (isClosed) return;
      const { columns, rows } = row ?? terminal;
      emulator = openEmulator({
        host,
        columns,
        rows,
        light: isLight.peek(),
        screenReader: screenReader.peek(),
        onInput: (data) => void socket?.type(data),
        onAnswer: (text) => socket?.answer(text),
        onCommand: options.onCommand,
      });
    } catch {
      // The hive was updated under the page, or is not there.
      state.value = "failed";
      return;
    }
    const shown = emulator;
    stops = [
      effect(() => shown.setLight(isLight.value)),
      effect(() => shown.setScreenReader(screenReader.value)),
      watchSize(host, takeRoom),
    ];
    connect();
  }

  function connect(): void {
    const shown = emulator;
    if (shown === null) return;
    socket?.close();
    // Without a connection nothing may be typed, nor answered.
    shown.setReading(true);
    const mode = reading.peek() ? "read" : "write";
    socket = openTerminalSocket({
      url: renderSocketPath(terminal, mode),
      screen: { write: shown.screen.write, resize: takeSize },
      fresh,
      ...(options.connect && { connect: options.connect }),
      onState(next) {
        state.value = next;
        shown.setReading(mode === "read" || next !== "up");
      },
      onEnded(exit) {
        status.value = exit;
      },
      findEnd,
    });
    fresh = false;
    takeRoom();
  }

  /** Whoever types decides how large it is; whoever only looks takes it as it is. */
  function takeRoom(): void {
    if (state.peek() === "ended") return;
    if (reading.peek()) {
      emulator?.shrink();
      return;
    }
    const size = emulator?.fit();
    if (size) socket?.resize(size.columns, size.rows);
  }

  function takeSize(columns: number, rows: number): void {
    emulator?.screen.resize(columns, rows);
    if (reading.peek()) emulator?.shrink();
  }

  /** A WebSocket does not say why it was refused. */
  async function findEnd(): Promise<{ status: number | null } | null> {
    const row = await findRow(api, terminal);
    if (row === null) return null;
    if (row.ended_at !== null) return { status: row.status };
    if (reading.peek()) takeSize(row.columns, row.rows);
    return null;
  }

  function holdControl(held: boolean): void {
    controlHeld.value = held;
    if (held)
      emulator?.holdControl(() => {
        controlHeld.value = false;
      });
    else emulator?.releaseControl();
    emulator?.focus();
  }

  return {
    terminal,
    state,
    status,
    reading,
    controlHeld,
    open,
    holdControl,
    setReading(next: boolean): void {
      if (reading.peek() === next || state.peek() === "ended") return;
      reading.value = next;
      connect();
    },
    press: (key: BarKey) => emulator?.press(key),
    find: (text: string, backwards = false, incremental = false) =>
      emulator?.find(text, backwards, incremental) ?? false,
    selection: () => emulator?.selection() ?? "",
    focus: () => emulator?.focus(),
    retry: () => socket?.retry(),
    close(): void {
      isClosed = true;
      for (const stop of stops.splice(0)) stop();
      socket?.close();
      emulator?.close();
      emulator = null;
    },
  };
}

const renderSocketPath = ({ agent, id }: Terminal, mode: "read" | "write") =>
  `/api/agents/${encodeURIComponent(agent)}/terminals/${encodeURIComponent(id)}/socket?mode=${mode}`;

/** `terminal` as the hive has it now; null if that is not known. */
async function findRow(api: Api, { agent, id }: Terminal): Promise<Terminal | null> {
  try {
    return (await api.terminals(agent)).find((one) => one.id === id) ?? null;
  } catch {
    return null;
  }
}

function watchSize(host: HTMLElement, onChange: () => void): () => void {
  const observer = new ResizeObserver(onChange);
  observer.observe(host);
  // Whoever comes back to it has another room for it than who had it meanwhile.
  host.addEventListener("focusin", onChange);
  return () => {
    observer.disconnect();
    host.removeEventListener("focusin", onChange);
  };
}
