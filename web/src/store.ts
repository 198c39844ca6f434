import { signal } from "@preact/signals";
import type { Api } from "./api.ts";
import type {
  AgentRow,
  Approval,
  ApprovalStatus,
  Draft,
  Hive,
  HiveEvent,
  KeptState,
  Need,
  Question,
} from "./api_types.ts";
import { Epochs } from "./epochs.ts";
import { isInbox, type MessageFilter, MessageList, mayMatch, threadOf } from "./messages.ts";
import { createRefresher } from "./refresher.ts";
import { Table } from "./table.ts";

/** What an approval may be while it has not ended, in the order in which it gets there. */
const UNFINISHED: readonly ApprovalStatus[] = ["pending", "approved", "building"];

/** The whole hive, where an agent is named otherwise. */
export const EVERYONE = "*";

export type Store = ReturnType<typeof createStore>;

/** What the pages show: tables filled by `load`, then kept current by the events of the stream. */
export function createStore(api: Api) {
  const store = {
    api,
    hive: signal<Hive | null>(null),
    loaded: signal(false),
    /** Why the last load failed; empty when it did not. */
    loadError: signal(""),
    agents: new Table<string, AgentRow>((row) => row.name, compareAgents),
    kept: new Table<string, KeptState>((row) => row.name, byName),
    drafts: new Table<string, Draft>((row) => row.name, byName),
    approvals: new Table<number, Approval>((row) => row.id, oldestFirst),
    questions: new Table<number, Question>((row) => row.id, oldestFirst),
    /** All that waits for the operator, the most urgent first. */
    needs: new Table<string, Need>((row) => row.key, urgentFirst),
    flow: new MessageList({ fetchPage: api.messages, mayMatch: () => true, exact: true }),
    inbox: new MessageList({ fetchPage: api.inbox, mayMatch: isInbox, exact: true, groupOf: threadOf }),
    /** The message that a link asks to be shown, until it is. */
    wantedMessage: signal<{ id: number } | null>(null),
    /** Moves when what is fetched on request about an agent's config may be another. */
    epochs: new Epochs(),
    notesEpochs: new Epochs(),
    reminderEpochs: new Epochs(),
    snapshotEpochs: new Epochs(),
    terminalEpochs: new Epochs(),
    /** Of what agents asked the egress proxy for, and are granted. */
    egressEpochs: new Epochs(),
    /** Of what is spent and may be; the whole hive's under EVERYONE. */
    budgetEpochs: new Epochs(),
  };
  /** Lists of messages beside the flow and the inbox that are kept current. */
  const followed = new Set<MessageList>();
  const refreshers = createRefreshers(store);

  let loading: Promise<void> | null = null;
  let again = false;
  const heldBack: (() => void)[] = [];

  /**
   * Fetches everything anew. Events that arrive meanwhile wait and are applied on top: an answer may be older than
   * they are. A load asked for during a load runs after it.
   */
  function load(): Promise<void> {
    if (loading !== null) {
      again = true;
      return loading;
    }
    loading = fetchAll().finally(() => {
      loading = null;
      for (const apply of heldBack.splice(0)) apply();
      if (again) {
        again = false;
        void load();
      }
    });
    return loading;
  }

  async function fetchAll(): Promise<void> {
    for (const list of followed) refreshFollowed(list);
    try {
      const [hive, agents, kept, drafts, approvals, questions, needs] = await Promise.all([
        api.hive(),
        api.agents(),
        api.kept(),
        api.drafts(),
        fetchUnfinished(api),
        api.questions(),
        api.needs(),
        store.flow.refresh(),
        store.inbox.refresh(),
      ]);
      // Before the rows: those that are new fetch what belongs to them once, not twice.
      for (const epochs of [
        store.epochs,
        store.notesEpochs,
        store.reminderEpochs,
        store.snapshotEpochs,
        store.terminalEpochs,
        store.egressEpochs,
        store.budgetEpochs,
      ])
        epochs.moveAll();
      store.hive.value = hive;
      store.agents.reset(agents);
      store.kept.reset(kept);
      store.drafts.reset(drafts);
      resetOpen(store.approvals, approvals, (row) => UNFINISHED.includes(row.status));
      resetOpen(store.questions, questions, (row) => row.status === "open");
      store.needs.reset(needs);
      store.loadError.value = "";
      store.loaded.value = true;
    } catch (error) {
      store.loadError.value = error instanceof Error ? error.message : String(error);
    }
  }

  function whenLoaded(apply: () => void): void {
    if (loading === null) apply();
    else heldBack.push(apply);
  }

  return {
    ...store,
    load,
    /** Messages that match, kept current from `follow` until what that returns is called. */
    createMessages: (filter: MessageFilter) =>
      new MessageList({
        fetchPage: (page) => api.messages({ ...filter, ...page }),
        mayMatch: (message) => mayMatch(filter, message),
        exact: filter.state === undefined && filter.search === undefined,
      }),
    follow(list: MessageList): () => void {
      followed.add(list);
      refreshFollowed(list);
      return () => {
        followed.delete(list);
        list.close();
      };
    },
    /** An agent's row as the hive has it now. */
    applyState: (row: AgentRow) => whenLoaded(() => store.agents.put(row)),
    /** What waits for the operator is another now. */
    applyNeeds: () => whenLoaded(() => refreshers.needs()),
    /** Another agent than before has no page at its port, or none. */
    applyPorts: () => whenLoaded(() => refreshers.hive()),
    /** A fact from the feed. Names this page does not know change nothing. */
    applyEvent: (event: HiveEvent) => whenLoaded(() => applyEvent({ ...store, followed }, refreshers, event)),
  };
}

/** All approvals that have not ended. One that moves on meanwhile is in two answers: the later status counts. */
async function fetchUnfinished(api: Api): Promise<Approval[]> {
  const answers = await Promise.all(UNFINISHED.map((status) => api.approvals(status)));
  return [...new Map(answers.flat().map((row) => [row.id, row])).values()];
}

type Tables = Pick<
  Store,
  | "api"
  | "hive"
  | "agents"
  | "kept"
  | "drafts"
  | "approvals"
  | "questions"
  | "flow"
  | "inbox"
  | "epochs"
  | "notesEpochs"
  | "reminderEpochs"
  | "snapshotEpochs"
  | "terminalEpochs"
  | "egressEpochs"
  | "budgetEpochs"
> & { followed: Iterable<MessageList> };

type Refreshers = ReturnType<typeof createRefreshers>;

/** For events that tell that something changed and not to what. */
function createRefreshers(tables: Pick<Store, "api" | "hive" | "agents" | "kept" | "drafts" | "needs">) {
  const { api, agents, kept, drafts, needs } = tables;
  return {
    hive: createRefresher(api.hive, (hive) => {
      tables.hive.value = hive;
    }),
    kept: createRefresher(api.kept, (rows) => kept.reset(rows)),
    drafts: createRefresher(api.drafts, (rows) => drafts.reset(rows)),
    needs: createRefresher(api.needs, (rows) => needs.reset(rows)),
    // Only what the stream of states does not bring sooner.
    rows: createRefresher(api.agents, (rows) => {
      for (const row of rows) agents.patch(row.name, pickSlow(row));
    }),
  };
}

/** The fields of a row that events tell of; what the agent does just now is the stream's to say. */
function pickSlow(row: AgentRow): Partial<AgentRow> {
  const { commit, config_error, park, chosen_model, login, login_account, login_expires_at } = row;
  const { day_tokens, day_usd, day_unpriced, budget_tokens, budget_usd } = row;
  const spending = { day_tokens, day_usd, day_unpriced, budget_tokens, budget_usd };
  const update = { needs_update: row.needs_update, updating: row.updating, ...spending };
  return { commit, config_error, park, chosen_model, login, login_account, login_expires_at, ...update };
}

function applyEvent(tables: Tables, refreshers: Refreshers, event: HiveEvent): void {
  const noun = event.name.split(".", 1)[0];
  if (Object.hasOwn(TOUCHES, event.name)) TOUCHES[event.name]?.(tables, refreshers, event.agent ?? EVERYONE);
  else if (noun === "message") applyMessage(tables, event);
  else if (noun === "approval")
    applyApproval(tables, refreshers, event.body.approval as Approval | undefined);
  else if (noun === "question") applyQuestion(tables, event.body.question as Question);
  else if (noun === "agent" && event.agent !== null) applyAgent(tables, refreshers, event.name, event.agent);
  else if (noun === "draft" && event.agent !== null) applyDraft(tables, refreshers, event.name, event.agent);
}

/** What events that tell only of whom they are about make the page fetch anew. */
const TOUCHES: Record<string, (tables: Tables, refreshers: Refreshers, agent: string) => void> = {
  "agent.parked": touchPark,
  "agent.resumed": touchPark,
  "agent.logged_in": (_, refreshers) => refreshers.rows(),
  "agent.model_chosen": (_, refreshers) => refreshers.rows(),
  "budget.warned": touchBudget,
  "budget.granted": touchBudget,
  "budget.changed": touchBudget,
  "reminder.set": ({ reminderEpochs }, _, agent) => reminderEpochs.move(agent),
  "reminder.sent": ({ reminderEpochs }, _, agent) => reminderEpochs.move(agent),
  "reminder.cancelled": ({ reminderEpochs }, _, agent) => reminderEpochs.move(agent),
  "agent.snapshotted": ({ snapshotEpochs }, _, agent) => snapshotEpochs.move(agent),
  "snapshot.removed": ({ snapshotEpochs }, _, agent) => snapshotEpochs.move(agent),
  "schedule.sent": ({ reminderEpochs }, _, agent) => reminderEpochs.move(agent),
  "notes.changed": ({ notesEpochs }, _, agent) => notesEpochs.move(agent),
  "egress.refused": ({ egressEpochs }, _, agent) => egressEpochs.move(agent),
  "egress.granted": ({ egressEpochs }, _, agent) => egressEpochs.move(agent),
  "egress.revoked": ({ egressEpochs }, _, agent) => egressEpochs.move(agent),
  "terminal.opened": ({ terminalEpochs }, _, agent) => terminalEpochs.move(agent),
  "terminal.ended": ({ terminalEpochs }, _, agent) => terminalEpochs.move(agent),
};

function touchPark(_: Tables, refreshers: Refreshers, agent: string): void {
  if (agent === EVERYONE) refreshers.hive();
  refreshers.rows();
}

function touchBudget(tables: Tables, refreshers: Refreshers): void {
  tables.budgetEpochs.move(EVERYONE);
  refreshers.rows();
}

function applyApproval(tables: Tables, refreshers: Refreshers, approval: Approval | undefined): void {
  if (approval === undefined) return;
  tables.approvals.put(approval);
  tables.epochs.move(approval.agent);
  if (!UNFINISHED.includes(approval.status)) refreshers.rows();
  // When its agent is asked for, a draft has grown; when that is approved, it ends.
  if (approval.kind === "spawn") refreshers.drafts();
}

/** What agents ask one another is not the operator's to answer. */
function applyQuestion({ questions }: Tables, question: Question): void {
  if (question.asked === "operator") questions.put(question);
}

function applyDraft(tables: Tables, refreshers: Refreshers, name: string, agent: string): void {
  if (name === "draft.discarded") tables.drafts.remove(agent);
  refreshers.drafts();
}

function applyMessage(tables: Tables, event: HiveEvent): void {
  for (const list of [tables.flow, tables.inbox, ...tables.followed]) list.apply(event);
}

/** A failure is told by the list itself, and is none of the page's as a whole. */
function refreshFollowed(list: MessageList): void {
  void list.refresh().catch(() => {});
}

function applyAgent(tables: Tables, refreshers: Refreshers, name: string, agent: string): void {
  if (name === "agent.destroyed" || name === "agent.purged") {
    tables.agents.remove(agent);
    refreshers.kept();
  } else if (name === "agent.spawned" || name === "agent.revived") {
    tables.kept.remove(agent);
    tables.drafts.remove(agent);
    tables.epochs.move(agent);
  } else if (name === "agent.configured") {
    tables.epochs.move(agent);
    refreshers.rows();
  }
}

/**
 * The open rows become exactly those fetched. Rows that ended while the page was open stay, to be read; rows that
 * should be open but were not fetched ended unseen, so how is not known and they go.
 */
function resetOpen<T extends { id: number }>(
  table: Table<number, T>,
  rows: T[],
  isOpen: (row: T) => boolean,
) {
  const fetched = new Set(rows.map((row) => row.id));
  for (const id of table.keys.peek()) {
    const row = table.find(id);
    if (row !== undefined && isOpen(row) && !fetched.has(id)) table.remove(id);
  }
  table.put(...rows);
}

const byName = (a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name);
const compareAgents = (a: AgentRow, b: AgentRow) => Number(b.manager) - Number(a.manager) || byName(a, b);
/** As the hive sorts them: the nearest deadline, then what waits for longest. */
const urgentFirst = (a: Need, b: Need) =>
  deadlineOf(a) - deadlineOf(b) || Date.parse(a.since) - Date.parse(b.since) || (a.key < b.key ? -1 : 1);
// Two that have none must not differ by NaN.
const deadlineOf = (need: Need) =>
  need.deadline === null ? Number.MAX_SAFE_INTEGER : Date.parse(need.deadline);
const oldestFirst = (a: { id: number }, b: { id: number }) => a.id - b.id;
