import { computed, signal } from "@preact/signals";

export type Route =
  | { page: "dashboard" }
  | { page: "programs" }
  | { page: "audit" }
  | { page: "agent"; name: string }
  | { page: "stats"; agent: string }
  | { page: "approval" | "question" | "thread"; id: number }
  | { page: "unknown" };

/** What has a page by its number: the first part of its address, and what it is. */
const NUMBERED = { approvals: "approval", questions: "question", threads: "thread" } as const;

export function parseRoute(path: string): Route {
  if (path === "/" || path === "/index.html") return { page: "dashboard" };
  const agent = /^\/agent\/([a-z][a-z0-9-]{0,62})\/?$/.exec(path);
  if (agent?.[1]) return { page: "agent", name: agent[1] };
  const stats = /^\/stats(?:\/([a-z][a-z0-9-]{0,62})?)?\/?$/.exec(path);
  if (stats) return { page: "stats", agent: stats[1] ?? WHOLE_HIVE };
  if (/^\/programs\/?$/.test(path)) return { page: "programs" };
  if (/^\/audit\/?$/.test(path)) return { page: "audit" };
  const [, kind, digits] = /^\/(approvals|questions|threads)\/(\d{1,15})\/?$/.exec(path) ?? [];
  if (digits !== undefined) return { page: NUMBERED[kind as keyof typeof NUMBERED], id: Number(digits) };
  return { page: "unknown" };
}

/** Whose stats are those of all agents together. */
const WHOLE_HIVE = "*";

const AGENT_NAME = /^[a-z][a-z0-9-]{0,62}$/;

/** Whether an agent may be called so: only then there is a page of it. */
export const isAgentName = (name: string) => AGENT_NAME.test(name);

export const agentPath = (name: string) => `/agent/${encodeURIComponent(name)}/`;

/** The stats of an agent, or with `*` of the hive. */
export const statsPath = (agent: string) =>
  agent === WHOLE_HIVE ? "/stats/" : `/stats/${encodeURIComponent(agent)}/`;

export const approvalPath = (id: number) => `/approvals/${id}`;
export const questionPath = (id: number) => `/questions/${id}`;
/** The page of a conversation, by any of its messages. */
export const threadPath = (message: number) => `/threads/${message}`;

const path = signal(location.pathname);

/** Which part of the page was asked for. A new object each time: whoever asks again wants to be there again. */
export const fragment = signal({ id: location.hash.slice(1) });

export const route = computed(() => parseRoute(path.value));

export function navigate(to: string): void {
  history.pushState(null, "", to);
  const stays = path.peek() === location.pathname && location.hash !== "";
  path.value = location.pathname;
  fragment.value = { id: location.hash.slice(1) };
  if (!stays) window.scrollTo(0, 0);
}

/** Follows the browser's back and forward buttons, and fragments. */
export function startRouting(): () => void {
  const follow = () => {
    path.value = location.pathname;
    fragment.value = { id: location.hash.slice(1) };
  };
  // An address typed by hand and a link that somebody else opens in this tab change the fragment alone, too.
  window.addEventListener("popstate", follow);
  return () => window.removeEventListener("popstate", follow);
}
