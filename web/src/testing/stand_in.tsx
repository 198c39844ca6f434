import type { ComponentChildren } from "preact";
import { render } from "preact";
import { act } from "preact/test-utils";
import { createApi } from "../api.ts";
import type {
  AgentConfigView,
  AgentRow,
  Approval,
  Budget,
  Comparison,
  ConfigVersion,
  Draft,
  FileDiff,
  KeptState,
  MeaningRow,
  Message,
  Need,
  NotesVersion,
  Park,
  ParkKind,
  Question,
  Reminder,
  Review,
  ScheduledMessage,
  SystemChange,
} from "../api_types.ts";
import { AppContext } from "../context.ts";
import { createConnection } from "../live.ts";
import { createStore } from "../store.ts";
import { createToasts } from "../toasts.ts";

const AT = "2026-11-20T12:00:00Z";
const LATER = "2099-01-01T00:00:00Z";

export const createAgent = (name: string, change: Partial<AgentRow> = {}): AgentRow => ({
  name,
  manager: name === "manager",
  state: "idle",
  reason: "",
  since: AT,
  driver: "bubblewrap",
  model: "",
  waiting: 0,
  turns: 0,
  last_outcome: "",
  spawned_at: AT,
  commit: "",
  config_error: "",
  needs_update: "",
  updating: false,
  park: null,
  chosen_model: "",
  context_tokens: 0,
  context_limit: 0,
  session_usd: null,
  day_tokens: 0,
  day_usd: 0,
  day_unpriced: false,
  budget_tokens: null,
  budget_usd: null,
  login: "own",
  login_account: "",
  login_expires_at: null,
  ...change,
});

export const createPark = (kind: ParkKind, change: Partial<Park> = {}): Park => ({
  kind,
  since: AT,
  until: null,
  reason: "",
  hive: false,
  ...change,
});

export const createBudget = (change: Partial<Budget> = {}): Budget => ({
  agent: "*",
  tokens_per_day: null,
  usd_per_day: null,
  granted_tokens: 0,
  granted_usd: 0,
  day_tokens: 0,
  day_usd: 0,
  day_unpriced: false,
  problem: "",
  ...change,
});

export const createReminder = (id: number, change: Partial<Reminder> = {}): Reminder => ({
  id,
  agent: "alice",
  note: `note ${id}`,
  due_at: LATER,
  created_at: AT,
  ...change,
});

export const createScheduled = (change: Partial<ScheduledMessage> = {}): ScheduledMessage => ({
  agent: "alice",
  cron: "0 9 * * 1",
  message: "look at the build",
  next_at: LATER,
  last_at: null,
  ...change,
});

export const createNotesVersion = (commit: string, change: Partial<NotesVersion> = {}): NotesVersion => ({
  commit,
  at: AT,
  kind: "compacted",
  size_before: 40_000,
  size_after: 9_000,
  ...change,
});

export const createKept = (name: string, change: Partial<KeptState> = {}): KeptState => ({
  name,
  spawned_at: AT,
  destroyed_at: AT,
  size_bytes: 1,
  credentials: false,
  ...change,
});

export const createDraft = (name: string, change: Partial<Draft> = {}): Draft => ({
  name,
  requested_by: "manager",
  created_at: AT,
  size_bytes: 1,
  ...change,
});

export const createMessage = (id: number, change: Partial<Message> = {}): Message => ({
  id,
  sender: "alice",
  kind: "peer",
  recipient: "manager",
  body: `message ${id}`,
  sent_at: AT,
  state: "queued",
  deliveries: 0,
  thread: null,
  in_reply_to: null,
  priority: "normal",
  expires_at: null,
  broadcast: null,
  settled_at: null,
  note: null,
  ...change,
});

export const createApproval = (id: number, change: Partial<Approval> = {}): Approval => ({
  id,
  kind: "spawn",
  agent: "researcher",
  status: "pending",
  requested_by: "manager",
  description: "",
  requested_at: AT,
  resolved_at: null,
  reason: null,
  commit: null,
  base: null,
  reverts_to: null,
  ...change,
});

export const createFileDiff = (path: string, change: Partial<FileDiff> = {}): FileDiff => ({
  path,
  change: "changed",
  binary: false,
  executable: null,
  old_size_bytes: 10,
  new_size_bytes: 20,
  added: 1,
  removed: 1,
  large: false,
  truncated: false,
  hunks: [
    {
      header: "@@ -1,2 +1,2 @@",
      lines: [
        { kind: "context", old: 1, new: 1, text: "first" },
        { kind: "removed", old: 2, new: null, text: `old ${path}` },
        { kind: "added", old: null, new: 2, text: `new ${path}` },
      ],
    },
  ],
  ...change,
});

export const createMeaning = (change: Partial<MeaningRow> = {}): MeaningRow => ({
  area: "packages",
  change: "added",
  subject: "jq",
  before: "",
  after: "jq",
  effect: "rebuild",
  ...change,
});

export const createComparison = (change: Partial<Comparison> = {}): Comparison => ({
  base: "b".repeat(40),
  commit: "c".repeat(40),
  files: [createFileDiff("agent.toml")],
  meaning: [createMeaning()],
  effect: "rebuild",
  ...change,
});

export const createReview = (approval: Approval, change: Partial<Review> = {}): Review => ({
  approval,
  comparison: createComparison(),
  earlier: null,
  since_earlier: null,
  notes: [],
  warnings: [],
  system: false,
  ...change,
});

export const createSystemChange = (change: Partial<SystemChange> = {}): SystemChange => ({
  base: "b".repeat(40),
  packages: [{ change: "added", name: "ripgrep", before: "", after: "14.1.0" }],
  left_out: 0,
  added_bytes: 0,
  removed_bytes: 0,
  download_bytes: 0,
  fetched: 0,
  built: [],
  problem: "",
  ...change,
});

export const createConfigView = (agent: string, change: Partial<AgentConfigView> = {}): AgentConfigView => ({
  agent,
  commit: "c".repeat(40),
  files: [{ path: "agent.toml", size_bytes: 12, executable: false, text: 'model = "x"\n' }],
  problem: "",
  config: {},
  permissions: [{ area: "run", subject: "git *", verdict: "allow", rule: "bash.allow: git *" }],
  ...change,
});

export const createVersion = (approval: number, change: Partial<ConfigVersion> = {}): ConfigVersion => ({
  approval,
  status: "deployed",
  commit: "c".repeat(40),
  at: AT,
  description: "",
  reason: "",
  current: false,
  tag: `deployed/${approval}`,
  ...change,
});

export const createQuestion = (id: number, change: Partial<Question> = {}): Question => ({
  id,
  kind: "question",
  agent: "alice",
  question: "which?",
  options: [],
  multi: false,
  status: "open",
  asked_at: AT,
  expires_at: LATER,
  answer: null,
  resolved_at: null,
  asked: "operator",
  ...change,
});

export const createNeed = (kind: Need["kind"], ref: string, change: Partial<Need> = {}): Need => ({
  key: `${kind}-${ref}`,
  kind,
  ref,
  agent: "alice",
  title: `${kind} of alice`,
  detail: "",
  since: AT,
  deadline: null,
  by_default: "nothing happens",
  acts: [],
  link: `/#need-${kind}-${ref}`,
  ...change,
});

export interface Call {
  method: string;
  path: string;
  body: unknown;
}

/** A hive that answers from a table, `METHOD /path` to the answer or what makes it, and remembers what was asked. */
export function createHive(answers: Record<string, unknown> = {}) {
  const calls: Call[] = [];
  const table: Record<string, unknown> = {
    "GET /api/hive": {
      version: "0",
      rehearsal: false,
      upstream: "",
      credential: "none",
      driver: "",
      started_at: AT,
      park: null,
      port_problems: [],
      unlimited: {},
    },
    "GET /api/agents": [],
    "GET /api/kept": [],
    "GET /api/drafts": [],
    "GET /api/approvals": [],
    "GET /api/questions": [],
    "GET /api/needs": [],
    "GET /api/messages": [],
    "GET /api/inbox": [],
    "GET /api/budget": [createBudget()],
    "GET /api/reminders": [],
    "GET /api/egress": [],
    "GET /api/egress/grants": [],
    "GET /api/schedules": [],
    ...answers,
  };
  const answer = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(String(input), "http://hive.test");
    const method = init.method ?? "GET";
    calls.push({
      method,
      path: url.pathname + url.search,
      body: init.body ? JSON.parse(String(init.body)) : null,
    });
    const entry = table[`${method} ${url.pathname}`];
    const found: unknown = typeof entry === "function" ? await entry(url, init) : entry;
    if (found instanceof Response) return found;
    if (found === undefined)
      return Response.json(
        { code: "not_found", message: "there is no such thing", hint: "" },
        { status: 404 },
      );
    return found === null ? new Response(null, { status: 204 }) : Response.json(found);
  };
  return { answers: table, calls, fetch: answer as typeof fetch };
}

/** A store on a stand-in hive, and what a component needs around it. */
export function createTestApp(answers: Record<string, unknown> = {}) {
  const hive = createHive(answers);
  const store = createStore(createApi({ fetch: hive.fetch }));
  return { hive, store, toasts: createToasts(), connection: createConnection() };
}

/** Puts components into the document; `find` gets by test id and fails when there is none. */
export function mount(app: ReturnType<typeof createTestApp>, children: ComponentChildren) {
  const root = document.createElement("div");
  document.body.replaceChildren(root);
  act(() => render(<AppContext.Provider value={app}>{children}</AppContext.Provider>, root));
  const query = <T extends HTMLElement>(testId: string) => root.querySelector<T>(`[data-testid="${testId}"]`);
  return {
    root,
    query,
    find<T extends HTMLElement = HTMLElement>(testId: string): T {
      const element = query<T>(testId);
      if (element === null) throw new Error(`nothing has the test id ${testId} in ${root.innerHTML}`);
      return element;
    },
  };
}

/** Does something to the page and lets all that follows from it happen, also what is fetched because of it. */
export async function settle(doIt: () => void = () => {}): Promise<void> {
  await act(async () => {
    doIt();
    await takeTurns();
  });
  // What came to be shown only now has asked the stand-in only now.
  await act(takeTurns);
}

/** Answers of the stand-in take a few turns of the event loop, never time. */
async function takeTurns(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setTimeout(resolve, 0));
}

export function type(field: HTMLInputElement | HTMLTextAreaElement, text: string): void {
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}
