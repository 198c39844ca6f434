import { SECTIONS } from "./sections.ts";

/** What a key asks for outside of fields. */
export type KeyAct =
  | { kind: "palette" }
  | { kind: "help" }
  | { kind: "home" }
  | { kind: "stats" }
  | { kind: "prompt" }
  | { kind: "section"; id: string }
  | { kind: "move"; by: 1 | -1; onlyFromRow: boolean };

export type Pressed = Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">;

/** How long a `g` waits for the letter after it. */
const FOLLOW_LIMIT_MS = 2_000;

const MOVES: Record<string, KeyAct> = {
  j: { kind: "move", by: 1, onlyFromRow: false },
  k: { kind: "move", by: -1, onlyFromRow: false },
  // Elsewhere they scroll.
  ArrowDown: { kind: "move", by: 1, onlyFromRow: true },
  ArrowUp: { kind: "move", by: -1, onlyFromRow: true },
};

/**
 * Tells what the keys ask for, one after the other. `typing`: the key is for a field, so that only ctrl or cmd with k
 * counts. `singles`: whether single keys are wanted at all.
 */
export function createKeys(nowMs: () => number) {
  let goneAt = Number.NEGATIVE_INFINITY;

  return (pressed: Pressed, typing: boolean, singles: boolean): KeyAct | null => {
    const { key, ctrlKey, metaKey, altKey } = pressed;
    const follows = nowMs() - goneAt < FOLLOW_LIMIT_MS;
    goneAt = Number.NEGATIVE_INFINITY;
    if (ctrlKey !== metaKey && !altKey && key.toLowerCase() === "k") return { kind: "palette" };
    if (typing || !singles || ctrlKey || metaKey || altKey) return null;
    if (follows) return findPlace(key);
    if (key === "?") return { kind: "help" };
    if (key === "g") goneAt = nowMs();
    return Object.hasOwn(MOVES, key) ? (MOVES[key] ?? null) : null;
  };
}

function findPlace(key: string): KeyAct | null {
  if (key === "h") return { kind: "home" };
  if (key === "s") return { kind: "stats" };
  if (key === "p") return { kind: "prompt" };
  const section = SECTIONS.find((one) => one.key === key);
  return section ? { kind: "section", id: section.id } : null;
}

const ROWS = "li.row, li.flow-row, li.said";

/** Whether a key that is pressed there is for what has the focus, as letters are for a field. */
export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.closest(".xterm") !== null) return true;
  return target.matches("textarea, select, input:not([type=checkbox], [type=radio])");
}

/** Whether all keys belong to what has the focus: a terminal's ctrl+k is the shell's. */
export const isTerminal = (target: EventTarget | null) =>
  target instanceof Element && target.closest(".xterm") !== null;

/**
 * Moves the focus to the next or previous row of the section that has it, else of the first one with rows. Rows are
 * long, so that this is the way past them. Tells whether it moved.
 */
export function moveToRow(by: 1 | -1, onlyFromRow: boolean): boolean {
  const at = document.activeElement;
  if (onlyFromRow && !at?.matches(`${ROWS}, section.section`)) return false;
  const sections = [...document.querySelectorAll<HTMLElement>("main section.section")];
  const section =
    at?.closest<HTMLElement>("section.section") ?? sections.find((one) => one.querySelector(ROWS));
  const rows = [...(section ?? document.body).querySelectorAll<HTMLElement>(ROWS)].filter(
    (row) => !row.inert,
  );
  const row = at?.closest<HTMLElement>(ROWS) ?? null;
  const index = row === null ? (by === 1 ? 0 : -1) : rows.indexOf(row) + by;
  const next = rows[index];
  if (next === undefined) return false;
  if (!next.hasAttribute("tabindex")) next.tabIndex = -1;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
  return true;
}
