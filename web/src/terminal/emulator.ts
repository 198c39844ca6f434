/** xterm.js, as the pages use it. Loaded only once somebody opens a terminal. */

import "@xterm/xterm/css/xterm.css";
import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { type IDisposable, Terminal } from "@xterm/xterm";
import { defineAdoptedStyle } from "./adopted_style.ts";
import { type BarKey, isAnswer, renderControl, renderKey } from "./keys.ts";
import { isWebLink } from "./share.ts";
import type { Screen } from "./socket.ts";
import { readTheme } from "./theme.ts";

const SCROLLBACK_ROWS = 10_000;
const FONT_SIZE_PX = 13;
const SMALLEST_FONT_PX = 7;
/** As the pages promise for text. */
const CONTRAST = 4.5;
/** Text behind an address, whatever it claims: only addresses that can be read are links. */
const OSC_HYPERLINK = 8;

export interface EmulatorOptions {
  host: HTMLElement;
  columns: number;
  rows: number;
  light: boolean;
  screenReader: boolean;
  /** What was typed. Never called while reading. */
  onInput: (data: Uint8Array) => void;
  /** What the terminal answers to what a program asks now. Never called while reading. */
  onAnswer: (text: string) => void;
  /** Keys that are the page's and not the shell's. */
  onCommand: (command: Command) => void;
}

export type Command = "leave" | "search" | "copy";

const COMMANDS: Record<string, Command> = { Escape: "leave", F: "search", C: "copy" };

export interface Emulator {
  screen: Screen;
  /** Attaches the keyboard, or takes it away: then nothing at all is sent. */
  setReading: (reading: boolean) => void;
  setScreenReader: (on: boolean) => void;
  setLight: (light: boolean) => void;
  /** The next key counts as if ctrl were held with it. */
  holdControl: (onUsed: () => void) => void;
  releaseControl: () => void;
  press: (key: BarKey) => void;
  /** Draws as small as all of it has to be for the host, if that can still be read. */
  shrink: () => void;
  /** Takes the size of the host. Null if it cannot be seen or nothing changed. */
  fit: () => { columns: number; rows: number } | null;
  find: (text: string, backwards: boolean, incremental: boolean) => boolean;
  selection: () => string;
  focus: () => void;
  close: () => void;
}

export function openEmulator(options: EmulatorOptions): Emulator {
  defineAdoptedStyle();
  const { host } = options;
  const terminal = new Terminal({
    cols: options.columns,
    rows: options.rows,
    scrollback: SCROLLBACK_ROWS,
    fontFamily: getComputedStyle(host).fontFamily,
    fontSize: FONT_SIZE_PX,
    minimumContrastRatio: CONTRAST,
    screenReaderMode: options.screenReader,
    disableStdin: true,
    theme: readTheme(host, options.light),
  });
  const fitting = new FitAddon();
  const search = new SearchAddon();
  terminal.loadAddon(fitting);
  terminal.loadAddon(search);
  addLinks(terminal, host);
  terminal.parser.registerOscHandler(OSC_HYPERLINK, () => true);
  terminal.attachCustomKeyEventHandler((event) => handleKey(event, options.onCommand));
  terminal.open(host);
  const input = createInput(terminal, options);
  const stopTouch = scrollByTouch(terminal, host);

  return {
    screen: {
      write: (data, replay, done) => {
        // In the order of the output: what is typed before or after it is parsed has nothing to do with it.
        if (replay) terminal.write("", input.hold);
        terminal.write(data, () => {
          if (replay) input.release();
          done();
        });
      },
      resize: (columns, rows) => terminal.resize(columns, rows),
    },
    setReading: input.setReading,
    setScreenReader(on) {
      terminal.options.screenReaderMode = on;
    },
    setLight(light) {
      terminal.options.theme = readTheme(host, light);
    },
    holdControl: input.holdControl,
    releaseControl: input.releaseControl,
    press(key) {
      terminal.input(renderKey(key, terminal.modes.applicationCursorKeysMode), true);
      terminal.focus();
    },
    shrink() {
      const size = fitting.proposeDimensions();
      const drawn = terminal.options.fontSize ?? FONT_SIZE_PX;
      if (size === undefined || !(size.cols > 1 && size.rows > 1)) return;
      const wanted = drawn * Math.min(size.cols / terminal.cols, size.rows / terminal.rows);
      terminal.options.fontSize = Math.min(FONT_SIZE_PX, Math.max(SMALLEST_FONT_PX, Math.floor(wanted)));
    },
    fit() {
      terminal.options.fontSize = FONT_SIZE_PX;
      const size = fitting.proposeDimensions();
      if (size === undefined || !(size.cols > 1 && size.rows > 1)) return null;
      if (size.cols === terminal.cols && size.rows === terminal.rows) return null;
      terminal.resize(size.cols, size.rows);
      return { columns: size.cols, rows: size.rows };
    },
    find: (text, backwards, incremental) =>
      backwards ? search.findPrevious(text) : search.findNext(text, { incremental }),
    selection: () => terminal.getSelection(),
    focus: () => terminal.focus(),
    close() {
      stopTouch();
      terminal.dispose();
    },
  };
}

/** What goes from the terminal to the shell, and when nothing does. */
function createInput(terminal: Terminal, { onInput, onAnswer }: EmulatorOptions) {
  const encoder = new TextEncoder();
  let attached: IDisposable[] = [];
  /** Pieces of the past that are still being shown: what is asked in them was answered when it was asked. */
  let replays = 0;
  let onControlUsed: (() => void) | null = null;

  function type(data: string): void {
    if (isAnswer(data)) {
      if (replays === 0) onAnswer(data);
      return;
    }
    if (onControlUsed !== null) {
      data = renderControl(data);
      onControlUsed();
      onControlUsed = null;
    }
    onInput(encoder.encode(data));
  }

  return {
    setReading(reading: boolean): void {
      for (const one of attached.splice(0)) one.dispose();
      terminal.options.disableStdin = reading;
      terminal.options.cursorInactiveStyle = reading ? "none" : "outline";
      if (reading) return;
      attached = [
        terminal.onData(type),
        // Positions of the mouse in an old encoding: bytes, and no text.
        terminal.onBinary((data) => onInput(Uint8Array.from(data, (c) => c.charCodeAt(0)))),
      ];
    },
    hold: () => {
      replays += 1;
    },
    release: () => {
      replays -= 1;
    },
    holdControl: (onUsed: () => void) => {
      onControlUsed = onUsed;
    },
    releaseControl: () => {
      onControlUsed = null;
    },
  };
}

/** False for what the page takes: ctrl+shift with a letter that a shell has no use for. */
function handleKey(event: KeyboardEvent, onCommand: (command: Command) => void): boolean {
  if (!event.ctrlKey || !event.shiftKey || event.altKey) return true;
  // Windows keeps ctrl+shift+esc for itself.
  const command = event.key === "F6" ? "leave" : COMMANDS[event.key];
  if (command === undefined) return true;
  event.preventDefault();
  event.stopPropagation();
  if (event.type === "keydown") onCommand(command);
  return false;
}

/** Addresses in the output. They open on ctrl+click or a tap, and never know where they were opened from. */
function addLinks(terminal: Terminal, host: HTMLElement): void {
  let pointer = "mouse";
  host.addEventListener("pointerdown", (event) => {
    pointer = event.pointerType;
  });
  terminal.loadAddon(
    new WebLinksAddon(
      (event, address) => {
        const meant = event.ctrlKey || event.metaKey || pointer === "touch";
        if (meant && isWebLink(address)) window.open(address, "_blank", "noopener,noreferrer");
      },
      {
        hover: (_, address) => {
          host.title = `ctrl+click opens ${address}`;
        },
        leave: () => {
          host.title = "";
        },
      },
    ),
  );
}

/** xterm.js knows no fingers: dragging scrolls what was, and sends cursor keys to a program that fills the screen. */
function scrollByTouch(terminal: Terminal, host: HTMLElement): () => void {
  let lastY: number | null = null;
  const onStart = (event: TouchEvent) => {
    lastY = event.touches.length === 1 ? (event.touches[0]?.clientY ?? null) : null;
  };
  const onMove = (event: TouchEvent) => {
    const y = event.touches[0]?.clientY;
    if (lastY === null || y === undefined) return;
    const rows = Math.trunc((lastY - y) / (host.clientHeight / terminal.rows));
    if (rows === 0) return;
    if (event.cancelable) event.preventDefault();
    lastY = y;
    if (terminal.buffer.active.type === "normal") terminal.scrollLines(rows);
    else {
      const cursor = rows > 0 ? "B" : "A";
      const key = renderKey(
        { label: "", name: "", text: "", cursor },
        terminal.modes.applicationCursorKeysMode,
      );
      terminal.input(key.repeat(Math.abs(rows)), true);
    }
  };
  host.addEventListener("touchstart", onStart, { passive: true });
  host.addEventListener("touchmove", onMove, { passive: false });
  return () => {
    host.removeEventListener("touchstart", onStart);
    host.removeEventListener("touchmove", onMove);
  };
}
