/**
 * What the worker shows and does. Only the worker imports this: it has to be one script, without pieces that the pages
 * share.
 */

/** Something newly needs the operator, needs them no more, or is shown to see that it works. */
export type Notice =
  | { kind: "need"; key: string; need: string; title: string; acts: string[] }
  | { kind: "gone"; key: string }
  | { kind: "test"; key: string; title: string };

/** What a page asks of the worker. `keep` closes all that is about something else. */
export type PageMessage = { type: "notice"; notice: unknown } | { type: "keep"; keys: string[] };

/** What the worker asks of a page. */
export interface OpenMessage {
  type: "open";
  link: string;
}

export type Board = Pick<ServiceWorkerRegistration, "showNotification" | "getNotifications">;

/** As the DOM's types do not have it yet. */
interface ShowOptions extends NotificationOptions {
  actions: { action: string; title: string }[];
}

/** What can be decided from a notification, by the kind of the need. Everything else is done in the page. */
const DECISIONS: Record<string, readonly string[]> = { approval: ["approve", "deny"] };

const TITLE_LIMIT = 200;
const TAG_PREFIX = "need-";

/** The notice that a push or a page brings; null for what is none, such as one of a later version. */
export function parseNotice(value: unknown): Notice | null {
  if (typeof value !== "object" || value === null) return null;
  const { kind, key, need, title, acts } = value as Record<string, unknown>;
  if (typeof key !== "string" || key === "") return null;
  if (kind === "gone") return { kind, key };
  if (typeof title !== "string") return null;
  const short = title.slice(0, TITLE_LIMIT);
  if (kind === "test") return { kind, key, title: short };
  if (kind !== "need" || typeof need !== "string" || !Array.isArray(acts)) return null;
  return { kind, key, need, title: short, acts: acts.filter((act) => typeof act === "string") };
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Where a need stands in the pages. */
export const renderLink = (key: string) => `/#need-${key}`;

/** Shows a notice, or closes what was shown of its need. The same need again replaces what is shown of it, silently. */
export async function applyNotice(board: Board, notice: Notice): Promise<void> {
  const tag = TAG_PREFIX + notice.key;
  if (notice.kind === "gone") {
    for (const shown of await board.getNotifications({ tag })) shown.close();
    return;
  }
  const options: ShowOptions = {
    tag,
    data: { key: notice.key, link: notice.kind === "need" ? renderLink(notice.key) : "/" },
    actions: notice.kind === "need" ? planActions(notice.need, notice.acts) : [],
  };
  await board.showNotification(notice.title, options);
}

/** Closes what is shown of needs that are not among `keys`: they were dealt with while nobody looked. */
export async function keepOnly(board: Board, keys: readonly string[]): Promise<void> {
  const kept = new Set(keys.map((key) => TAG_PREFIX + key));
  for (const shown of await board.getNotifications()) {
    if (shown.tag.startsWith(TAG_PREFIX) && !kept.has(shown.tag)) shown.close();
  }
}

function planActions(need: string, acts: readonly string[]): ShowOptions["actions"] {
  const known = Object.hasOwn(DECISIONS, need) ? (DECISIONS[need] ?? []) : [];
  return known.filter((act) => acts.includes(act)).map((act) => ({ action: act, title: act }));
}
