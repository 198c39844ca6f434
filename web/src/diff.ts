import type { DiffLine, FileDiff } from "./api_types.ts";

/** One line of a side-by-side view: what was and what is; null where one side has nothing. */
export interface Pair {
  left: DiffLine | null;
  right: DiffLine | null;
}

/** Puts removed lines beside the added ones that follow them, in order; a context line stands on both sides. */
export function pairLines(lines: DiffLine[]): Pair[] {
  const pairs: Pair[] = [];
  let removed: DiffLine[] = [];
  let added: DiffLine[] = [];

  function flush(): void {
    for (let i = 0; i < Math.max(removed.length, added.length); i += 1)
      pairs.push({ left: removed[i] ?? null, right: added[i] ?? null });
    removed = [];
    added = [];
  }

  for (const line of lines) {
    // What is removed after something was added belongs to another change.
    if (line.kind !== "added" && added.length > 0) flush();
    if (line.kind === "removed") removed.push(line);
    else if (line.kind === "added") added.push(line);
    else {
      flush();
      pairs.push({ left: line, right: line });
    }
  }
  flush();
  return pairs;
}

export const countLines = (file: FileDiff) =>
  file.hunks.reduce((count, hunk) => count + hunk.lines.length, 0);

/** The hunks of `file` up to `limit` lines in all, and how many lines that leaves out. */
export function clipHunks(file: FileDiff, limit: number): { hunks: FileDiff["hunks"]; left: number } {
  let room = limit;
  const hunks: FileDiff["hunks"] = [];
  for (const hunk of file.hunks) {
    if (room <= 0) break;
    hunks.push(hunk.lines.length <= room ? hunk : { ...hunk, lines: hunk.lines.slice(0, room) });
    room -= hunk.lines.length;
  }
  return { hunks, left: Math.max(0, countLines(file) - limit) };
}
