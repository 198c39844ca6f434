/** Text written by agents is hostile. It only ever becomes a text node, and what cannot be seen is made visible. */

/** Colours and styles of a terminal (SGR): harmless and common in logs, so they are dropped rather than shown. */
const TERMINAL_STYLE = new RegExp(`${String.fromCharCode(0x1b)}\\[[0-9;:]*m`, "g");

/**
 * What changes how its surroundings read, or cannot be seen at all: controls, format characters (bidirectional
 * overrides, zero-width ones, the tag block), lone surrogates, line separators, letters that are blank. Tab, newline and
 * the two joiners stay: scripts and emoji need those.
 */
const INVISIBLE = /(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0]/gu;

/** `text` with every character that could deceive a reader written out, such as ⟨U+202E⟩. */
export function renderVisible(text: string): string {
  return text.replace(/\r\n/g, "\n").replace(TERMINAL_STYLE, "").replace(INVISIBLE, renderCharacter);
}

function renderCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
}

/** The first line that is not empty, cut to `limit` characters. */
export function renderFirstLine(text: string, limit = 160): string {
  const line = text.trimStart().split("\n", 1)[0] ?? "";
  return line.length > limit ? `${line.slice(0, limit - 1)}…` : line;
}

/** How much of `text` its first line leaves out, as words; empty when nothing is. */
export function renderRest(text: string): string {
  const lines = text.trim().split("\n").length - 1;
  return lines > 0 ? `+${lines} line${lines === 1 ? "" : "s"}` : "";
}

export function renderSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** A token count: 950, 12.4k, 3.1M. */
export function renderCount(count: number): string {
  if (count < 1000) return String(count);
  if (count < 1_000_000) return `${(count / 1000).toFixed(count < 10_000 ? 1 : 0)}k`;
  return `${(count / 1_000_000).toFixed(1)}M`;
}
