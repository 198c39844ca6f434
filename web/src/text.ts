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

/**
 * In a config every character counts: also spaces that are not the plain one, joiners, variation selectors, private and
 * unassigned characters. No style of a terminal is dropped and no carriage return.
 */
const UNSEEN = /(?![\t\n ])[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/u;

/** Forms of ASCII characters that only look like them. */
const FORMS =
  "\\uff01-\\uff5e\\u{1d400}-\\u{1d7ff}\\u02d7\\u037e\\u2010-\\u2012\\u2024\\u2043\\u2044\\u2212\\u2215\\u29f8";
/** Scripts with letters that look like Latin ones: suspicious within a word that has those as well. */
const SCRIPTS = ["Armenian", "Cherokee", "Coptic", "Cyrillic", "Greek", "Lisu"]
  .map((script) => `\\p{Script=${script}}`)
  .join("");
const FORM = new RegExp(`[${FORMS}]`, "u");
const FOREIGN_LETTER = new RegExp(`[${SCRIPTS}]`, "u");
const WORD = /[\p{L}\p{N}_]+/gu;
const SUSPECT = /[^\t\n\x20-\x7e]/u;

/** A piece of exact text. `title` says why it is marked; empty when it is as it looks. */
export interface Piece {
  text: string;
  title: string;
}

/**
 * `text` in pieces that show every character for what it is: what cannot be seen is written out, what looks like another
 * character is followed by its number. Line breaks are written out too unless `multiline`.
 */
export function splitExact(text: string, multiline = false): Piece[] {
  if (!SUSPECT.test(text) && (multiline || !text.includes("\n"))) return text ? [{ text, title: "" }] : [];
  const foreign = findForeignLetters(text);
  const pieces: Piece[] = [];
  let at = 0;
  for (const character of text) {
    const piece = describeCharacter(character, foreign.has(at), multiline);
    at += character.length;
    const last = pieces.at(-1);
    if (last !== undefined && last.title === piece.title) last.text += piece.text;
    else pieces.push(piece);
  }
  return pieces;
}

function describeCharacter(character: string, foreign: boolean, multiline: boolean): Piece {
  if (UNSEEN.test(character) || (character === "\n" && !multiline))
    return { text: renderCharacter(character), title: describeUnseen(character) };
  if (foreign || FORM.test(character))
    return { text: character + renderCharacter(character), title: "looks like another character" };
  return { text: character, title: "" };
}

/** Where in `text` a letter of another script stands in a word that has Latin ones. */
function findForeignLetters(text: string): Set<number> {
  const found = new Set<number>();
  for (const word of text.matchAll(WORD)) {
    if (!/[a-z]/i.test(word[0]) || !FOREIGN_LETTER.test(word[0])) continue;
    let at = word.index;
    for (const character of word[0]) {
      if (FOREIGN_LETTER.test(character)) found.add(at);
      at += character.length;
    }
  }
  return found;
}

function describeUnseen(character: string): string {
  if (/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/.test(character))
    return "changes the order of the text around it";
  if (/\p{Cc}/u.test(character)) return "a control character";
  if (/\p{Z}/u.test(character)) return "not the plain space";
  return "cannot be seen";
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

/** A commit as people name it. */
export const renderCommit = (commit: string) => commit.slice(0, 10);

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

/** A token count: 950, 12.4k, 3.1M, 2.0G. */
export function renderCount(count: number): string {
  if (count < 1000) return String(count);
  if (count < 1_000_000) return `${(count / 1000).toFixed(count < 10_000 ? 1 : 0)}k`;
  if (count < 1_000_000_000) return `${(count / 1_000_000).toFixed(1)}M`;
  return `${(count / 1_000_000_000).toFixed(1)}G`;
}

/** A piece of a text that was searched. */
export interface Hit {
  text: string;
  hit: boolean;
}

/** How much of a text that was searched stands before the first word that was found, and how much there is in all. */
const HIT_LEAD = 50;
const HIT_CHARS = 160;

/** Whole words, as the hive searches for them; with a star the beginning is enough. */
const SEARCHED = /([\p{L}\p{M}\p{N}]+)(\*?)/gu;
const IN_WORD = "[\\p{L}\\p{M}\\p{N}]";

/** One line of `text` around the first of the words of `search`, in pieces; its beginning when none is in it. */
export function splitHits(text: string, search: string): Hit[] {
  const words = [...search.matchAll(SEARCHED)].map(([, word, star]) =>
    star ? `${word}${IN_WORD}*` : `${word}(?!${IN_WORD})`,
  );
  const found = new RegExp(`(?<!${IN_WORD})(${words.join("|")})`, "giu");
  const first = words.length > 0 ? text.search(found) : -1;
  if (first < 0) return [{ text: renderFirstLine(text), hit: false }];
  const start = first > HIT_LEAD ? first - HIT_LEAD : 0;
  // Half a character at an end would be shown as something that hides.
  const line = text
    .slice(start, start + HIT_CHARS)
    .replace(/\s+/g, " ")
    .replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, "");
  const shown = (start > 0 ? "…" : "") + line + (start + HIT_CHARS < text.length ? "…" : "");
  return shown
    .split(found)
    .map((part, index) => ({ text: part, hit: index % 2 === 1 }))
    .filter((part) => part.text !== "");
}
