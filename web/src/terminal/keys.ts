/** Keys that a phone's keyboard has not, and what a terminal sends for them. */

const ESC = "\x1b";

export interface BarKey {
  /** What is on the button. */
  label: string;
  /** What a screen reader says. */
  name: string;
  text: string;
  /** The last letter of a cursor key's sequence, which depends on the mode that the program chose. */
  cursor?: string;
}

export const BAR_KEYS: readonly BarKey[] = [
  { label: "esc", name: "escape", text: ESC },
  { label: "tab", name: "tab", text: "\t" },
  { label: "←", name: "left", text: "", cursor: "D" },
  { label: "↑", name: "up", text: "", cursor: "A" },
  { label: "↓", name: "down", text: "", cursor: "B" },
  { label: "→", name: "right", text: "", cursor: "C" },
  { label: "|", name: "pipe", text: "|" },
  { label: "~", name: "tilde", text: "~" },
  { label: "/", name: "slash", text: "/" },
];

export function renderKey(key: BarKey, applicationCursor: boolean): string {
  if (key.cursor === undefined) return key.text;
  return `${ESC}${applicationCursor ? "O" : "["}${key.cursor}`;
}

/** Sequences that only a terminal sends, asked by a program: what it is, where its cursor is, its modes and colours. */
const ANSWER = new RegExp(`^${ESC}(\\[[?>=]?[\\d;]*(\\$y|[cnRt])|[\\]P])`);

/** Whether `data` is an answer of the terminal, and nothing that was typed. */
export const isAnswer = (data: string) => ANSWER.test(data);

/** `data` as if ctrl had been held; what has no control character stays as it is. */
export function renderControl(data: string): string {
  if (data === " " || data === "@") return "\x00";
  if (data === "?") return "\x7f";
  if (!/^[a-zA-Z[\\\]^_]$/.test(data)) return data;
  return String.fromCharCode(data.toUpperCase().charCodeAt(0) & 0x1f);
}
