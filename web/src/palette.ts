import type { AgentRow } from "./api_types.ts";
import { agentPath, approvalPath, questionPath, statsPath, threadPath } from "./route.ts";
import { SECTIONS } from "./sections.ts";
import { EVERYONE, type Store } from "./store.ts";

/** What choosing an item does. `run` resolves to what the toast says; `confirm` is asked once before. */
export type PaletteAct =
  | { kind: "go"; to: string }
  | { kind: "section"; id: string }
  | { kind: "write"; to: string }
  | { kind: "call"; call: () => void }
  | { kind: "run"; run: () => Promise<string>; confirm?: string };

export interface PaletteItem {
  key: string;
  words: string;
  /** What is said beside it, and found as well. */
  note: string;
  act: PaletteAct;
}

const SHOWN_LIMIT = 60;

/**
 * The items that have all words of the query in them, each as a sequence of letters, the best first. Equally good ones
 * keep their order. Returns what is shown of them, and how many they are.
 */
export function findItems(
  query: string,
  items: readonly PaletteItem[],
): { shown: PaletteItem[]; count: number } {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const ranked = items
    .map((item) => ({ item, score: scoreAll(words, item) }))
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score);
  return { shown: ranked.slice(0, SHOWN_LIMIT).map(({ item }) => item), count: ranked.length };
}

/** 0 when one of the words is not in it. */
function scoreAll(words: readonly string[], item: PaletteItem): number {
  if (words.length === 0) return 1;
  const text = item.words.toLowerCase();
  let sum = 1;
  for (const word of words) {
    const score = Math.max(scoreWord(word, text), scoreWord(word, item.note.toLowerCase()) / 2);
    if (score === 0) return 0;
    sum += score;
  }
  // Of two that have all of it, the one with less beside it is meant.
  return sum + 1 / (2 + text.length);
}

function scoreWord(word: string, text: string): number {
  const at = text.indexOf(word);
  if (at >= 0) {
    const begins = at === 0 || !/[a-z0-9]/.test(text[at - 1] ?? "");
    const ends = !/[a-z0-9]/.test(text[at + word.length] ?? "");
    return 4 + (begins ? 4 : 0) + (begins && ends ? 2 : 0);
  }
  return isSequence(word, text) ? 1 : 0;
}

/** Whether the letters come in that order, with others between them. */
function isSequence(word: string, text: string): boolean {
  let at = -1;
  for (const letter of word) {
    at = text.indexOf(letter, at + 1);
    if (at < 0) return false;
  }
  return true;
}

const item = (key: string, words: string, note: string, act: PaletteAct): PaletteItem => ({
  key,
  words,
  note,
  act,
});

/** Where one can go and what one can do, as the store has it now; `query` may name what is not in a list. */
export function listItems(store: Store, query: string): PaletteItem[] {
  const agents = store.agents.rows();
  return [
    ...listNumbered(query),
    ...agents.map((row) =>
      item(`agent-${row.name}`, row.name, "agent page", { kind: "go", to: agentPath(row.name) }),
    ),
    item("home", "the hive", "dashboard", { kind: "go", to: "/" }),
    item("stats", "stats", "of the hive", { kind: "go", to: statsPath(EVERYONE) }),
    item("programs", "programs: webhooks and API tokens", "page", { kind: "go", to: "/programs/" }),
    item("audit", "audit: who did what", "page", { kind: "go", to: "/audit/" }),
    ...SECTIONS.map(({ id, title, key }) =>
      item(`section-${id}`, title, `g ${key}`, { kind: "section", id }),
    ),
    ...listWaiting(store),
    ...agents.flatMap((row) => listAgentPlaces(row.name)),
    ...agents.flatMap((row) => listAgentActs(store, row)),
    ...listHiveActs(store),
  ];
}

/** A number alone may be that of anything that has a page. */
function listNumbered(query: string): PaletteItem[] {
  const digits = /^#?(\d{1,15})$/.exec(query.trim())?.[1];
  if (digits === undefined) return [];
  const id = Number(digits);
  return [
    item("by-thread", `thread of message #${digits}`, "page", { kind: "go", to: threadPath(id) }),
    item("by-approval", `approval #${digits}`, "page", { kind: "go", to: approvalPath(id) }),
    item("by-question", `question #${digits}`, "page", { kind: "go", to: questionPath(id) }),
  ];
}

/** What waits for the operator and has a page. */
function listWaiting(store: Store): PaletteItem[] {
  const approvals = store.approvals.rows().filter((row) => row.status === "pending");
  const questions = store.questions.rows().filter((row) => row.status === "open");
  return [
    ...approvals.map((row) =>
      item(`approval-${row.id}`, `approval #${row.id}: ${row.kind} of ${row.agent}`, "waits for you", {
        kind: "go",
        to: approvalPath(row.id),
      }),
    ),
    ...questions.map((row) =>
      item(`question-${row.id}`, `question #${row.id} of ${row.agent}`, "waits for you", {
        kind: "go",
        to: questionPath(row.id),
      }),
    ),
  ];
}

const AGENT_PANELS = [
  "inbox",
  "notes",
  "files",
  "reminders",
  "quotas",
  "snapshots",
  "config",
  "journal",
  "terminal",
];

/** What an agent has beside its page; the fragment opens it there. */
function listAgentPlaces(name: string): PaletteItem[] {
  const go = (what: string, to: string) =>
    item(`${what}-of-${name}`, `${what} of ${name}`, "page", { kind: "go", to });
  return [
    go("stats", statsPath(name)),
    ...AGENT_PANELS.map((panel) => go(panel, `${agentPath(name)}#${panel}`)),
  ];
}

const DOWN = new Set(["stopped", "failed", "crashed"]);
const WORKING = new Set(["thinking", "compacting"]);

/** What can be done to an agent as it is now. */
function listAgentActs({ api }: Store, row: AgentRow): PaletteItem[] {
  const { name, park } = row;
  const down = DOWN.has(row.state);
  const run = (verb: string, done: string, call: () => Promise<unknown>, confirm?: string) =>
    item(`${verb}-${name}`, `${verb} ${name}`, row.state.replaceAll("_", " "), {
      kind: "run",
      run: async () => {
        await call();
        return done;
      },
      ...(confirm !== undefined && { confirm }),
    });
  const items = [item(`send-${name}`, `send ${name} a message`, "write", { kind: "write", to: name })];
  if (down) items.push(run("start", `${name} is starting`, () => api.start(name)));
  if (park === null && !down)
    items.push(run("pause", `${name} is paused: its messages wait`, () => api.pause(name)));
  if (park !== null && !park.hive && park.kind !== "budget")
    items.push(run("resume", `${name} goes on`, () => api.resume(name)));
  if (WORKING.has(row.state))
    items.push(
      run(
        "cancel turn of",
        `the turn of ${name} is cancelled`,
        () => api.cancelTurn(name),
        `cancel the turn of ${name}?`,
      ),
    );
  if (!down) {
    items.push(
      run(
        "restart",
        `${name} is restarting`,
        () => api.restart(name),
        `restart ${name}? a running turn is given up`,
      ),
      run("stop", `${name} is stopping`, () => api.stop(name), `stop ${name}? its messages wait`),
    );
  }
  return items;
}

function listHiveActs({ api, hive }: Store): PaletteItem[] {
  const paused = hive.value?.park?.kind === "paused";
  const all = paused
    ? item("resume-all", "resume all agents", "the hive", {
        kind: "run",
        run: async () => {
          await api.resumeAll();
          return "the hive goes on";
        },
      })
    : item("pause-all", "pause all agents", "the hive", {
        kind: "run",
        confirm: "pause the whole hive? running turns end, messages wait",
        run: async () => {
          await api.pauseAll();
          return "the whole hive is paused: running turns end, messages wait";
        },
      });
  return hive.value === null ? [] : [all];
}
