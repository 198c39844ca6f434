import type {
  Accepted,
  AgentConfigView,
  AgentQuotas,
  AgentRow,
  AllowRequest,
  AnswerRequest,
  Approval,
  ApprovalStatus,
  AuditPage,
  Budget,
  BudgetRequest,
  CancelResult,
  ConfigVersion,
  Device,
  DeviceChange,
  DeviceRequest,
  Draft,
  EgressGrant,
  EgressGrantRequest,
  EgressProposalRequest,
  EgressRequest,
  ErrorBody,
  GrantRequest,
  Hive,
  Journal,
  KeptState,
  Login,
  LoginStarted,
  Message,
  Need,
  NewWebhook,
  NotesDiff,
  NotesVersion,
  PolicyCheckRequest,
  PolicyDecision,
  PushKey,
  Question,
  Reminder,
  RestoreResult,
  RevertRequest,
  Review,
  ScheduledMessage,
  SendRequest,
  Sent,
  Snapshot,
  SnapshotRequest,
  StateFile,
  StateFolder,
  StatsPage,
  StatsUsage,
  SystemChange,
  Terminal,
  TerminalRequest,
  TranscriptEvent,
  Updating,
  Webhook,
  WebhookRequest,
  WebhookTest,
} from "./api_types.ts";
import type { MessageFilter, MessagePage } from "./messages.ts";

/** Starting a container may take a while; a request without an answer by then is reported as unknown. */
const DEADLINE_MS = 90_000;
/** Of what the hive works out for minutes, and perhaps behind others. */
const LONG_DEADLINE_MS = 400_000;

/** A refusal of the hive, or a request that got no answer (`status` 0: what happened is not known). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string,
  ) {
    super(message);
  }
}

type Query = Record<string, string | number | boolean | undefined>;

/** `offset` reads on from there and may wait for something; `before` reads back; neither: the end. */
export interface JournalQuery {
  offset?: number | undefined;
  before?: number | undefined;
  lines?: number | undefined;
  filter?: string | undefined;
  wait_s?: number | undefined;
}

export interface AuditQuery {
  grep?: string;
  agent?: string;
  actor?: string;
  name?: string;
  before?: number | undefined;
  limit?: number;
}

export interface ApiOptions {
  fetch?: typeof fetch;
  /** Called on every 401: the session is over. */
  onSignedOut?: () => void;
}

export type Api = ReturnType<typeof createApi>;

/** The hive's HTTP API: one method a route. Every method raises `ApiError` and nothing else. */
export function createApi(options: ApiOptions = {}) {
  const doFetch = options.fetch ?? ((input, init) => fetch(input, init));

  async function request<T>(method: string, path: string, body?: unknown, until?: AbortSignal): Promise<T> {
    const response = await send(doFetch, method, path, body, until);
    if (response.status === 401) options.onSignedOut?.();
    if (!response.ok) throw await parseError(response);
    if (response.status === 204) return undefined as T;
    try {
      return (await response.json()) as T;
    } catch {
      throw new ApiError(response.status, "bad_answer", "the hive's answer could not be read", "look again");
    }
  }

  let last: Promise<unknown> = Promise.resolve();
  /** One after the other: of the few connections that a browser has, an approval is to find one that is free. */
  function getSlowly<T>(path: string, left: AbortSignal): Promise<T> {
    const mine = last.then(() => {
      if (left.aborted) throw new ApiError(0, "left", "nobody waits for it any more", "ask again");
      const until = AbortSignal.any([left, AbortSignal.timeout(LONG_DEADLINE_MS)]);
      return request<T>("GET", path, undefined, until);
    });
    last = mine.catch(() => {});
    return mine;
  }

  const get = <T>(path: string, query: Query = {}) => request<T>("GET", path + renderQuery(query));
  const post = <T>(path: string, body: unknown = {}) => request<T>("POST", path, body);
  const put = <T>(path: string, body: unknown) => request<T>("PUT", path, body);
  const remove = <T>(path: string) => request<T>("DELETE", path);
  const agentPath = (name: string) => `/api/agents/${encodeURIComponent(name)}`;
  const configPath = (name: string) => `/api/agent-config/${encodeURIComponent(name)}`;
  const keptPath = (name: string) => `/api/kept/${encodeURIComponent(name)}`;
  const notesPath = (name: string) => `/api/notes/${encodeURIComponent(name)}`;

  return {
    hive: () => get<Hive>("/api/hive"),
    agents: () => get<AgentRow[]>("/api/agents"),
    spawn: (name: string) => post<AgentRow>("/api/agents", { name }),
    start: (name: string) => post<unknown>(`${agentPath(name)}/start`),
    stop: (name: string) => post<unknown>(`${agentPath(name)}/stop`),
    restart: (name: string) => post<unknown>(`${agentPath(name)}/restart`),
    /** Once its turn is over. */
    rebuild: (name: string) => post<unknown>(`${agentPath(name)}/rebuild`),
    /** Rebuilds all whose row says that they need it. */
    updateAll: () => post<Updating>("/api/update-all"),
    cancelTurn: (name: string) => post<CancelResult>(`${agentPath(name)}/cancel`),
    pause: (name: string, reason = "") => post<unknown>(`${agentPath(name)}/pause`, { reason }),
    resume: (name: string) => post<unknown>(`${agentPath(name)}/resume`),
    compact: (name: string) => post<Accepted>(`${agentPath(name)}/compact`),
    pauseAll: () => post<unknown>("/api/pause"),
    resumeAll: () => post<unknown>("/api/resume"),
    /** The model from the next turn on; empty: the config's. */
    chooseModel: (name: string, model: string) =>
      post<unknown>(`/api/model/${encodeURIComponent(name)}`, { model }),
    /** With nothing given, half of each budget. */
    grant: (name: string, amount: GrantRequest = {}) => post<unknown>(`${agentPath(name)}/grant`, amount),
    /** The hive's first, then those of its agents. */
    budgets: () => get<Budget[]>("/api/budget"),
    setBudget: (budget: BudgetRequest) => put<unknown>("/api/budget", budget),
    grantHive: (amount: GrantRequest = {}) => post<unknown>("/api/budget/grant", amount),
    startLogin: (name: string) => post<LoginStarted>(`${agentPath(name)}/login`),
    finishLogin: (name: string, code: string) => post<Login>(`${agentPath(name)}/login/code`, { code }),
    cancelLogin: (name: string) => remove<unknown>(`${agentPath(name)}/login`),
    quotas: (name: string) => get<AgentQuotas>(`/api/quotas/${encodeURIComponent(name)}`),
    /** Lets its folders hold more for a while. */
    allowDisk: (name: string, request: AllowRequest) =>
      post<AgentQuotas>(`/api/quotas/${encodeURIComponent(name)}/allow`, request),
    /** What the agent asked for, the newest first. */
    egress: (agent: string, limit = 50) => get<EgressRequest[]>("/api/egress", { agent, limit }),
    egressGrants: (agent: string) => get<EgressGrant[]>("/api/egress/grants", { agent }),
    /** Again sets the end anew. */
    grantEgress: (grant: EgressGrantRequest) => post<EgressGrant>("/api/egress/grants", grant),
    revokeEgress: (id: number) => remove<unknown>(`/api/egress/grants/${id}`),
    /** An entry of the agent's config, as an approval. */
    proposeEgress: (proposal: EgressProposalRequest) => post<Approval>("/api/egress/proposals", proposal),
    reminders: (agent: string) => get<Reminder[]>("/api/reminders", { agent }),
    schedules: (agent: string) => get<ScheduledMessage[]>("/api/schedules", { agent }),
    /** The newest first. */
    snapshots: (agent: string) => get<Snapshot[]>("/api/snapshots", { agent }),
    takeSnapshot: (taking: SnapshotRequest) => post<Snapshot>("/api/snapshots", taking),
    removeSnapshot: (id: number) => remove<unknown>(`/api/snapshots/${id}`),
    restoreSnapshot: (id: number, wait_s: number) =>
      post<RestoreResult>(`/api/snapshots/${id}/restore`, { wait_s }),
    forkSnapshot: (id: number, name: string) => post<RestoreResult>(`/api/snapshots/${id}/fork`, { name }),
    cancelReminder: (id: number) => remove<unknown>(`/api/reminders/${id}`),
    /** Those that are open, then those that ended last. */
    terminals: (name: string) => get<Terminal[]>(`${agentPath(name)}/terminals`),
    openTerminal: (name: string, size: TerminalRequest) =>
      post<Terminal>(`${agentPath(name)}/terminals`, size),
    /** Ends the shell and all that runs in it. */
    closeTerminal: (name: string, id: string) =>
      remove<unknown>(`${agentPath(name)}/terminals/${encodeURIComponent(id)}`),
    /** All series of an agent or of the hive, from `since` until now. */
    stats: (agent: string, since: string) => get<StatsPage>("/api/stats", { agent, since }),
    /** Tokens and cost by agent, day and model. */
    usage: (agent: string, since: string) => get<StatsUsage>("/api/stats/usage", { agent, since }),
    notes: (name: string) => get<NotesVersion[]>(notesPath(name)),
    notesDiff: (name: string, commit: string) =>
      get<NotesDiff>(`${notesPath(name)}/${encodeURIComponent(commit)}`),
    restoreNotes: (name: string, commit: string) => post<unknown>(`${notesPath(name)}/restore`, { commit }),
    destroy: (name: string, purge = false) =>
      request<unknown>("DELETE", agentPath(name) + renderQuery({ purge })),
    transcript: (name: string, before?: number, limit = 200) =>
      get<TranscriptEvent[]>(`${agentPath(name)}/transcript`, { before, limit }),
    journal: (name: string, query: JournalQuery = {}) =>
      get<Journal>(`/api/journal/${encodeURIComponent(name)}`, { ...query }),
    /** `path` is below /state, empty for itself; each name as the hive spells it. */
    stateFolder: (name: string, path: string) => get<StateFolder>(`${agentPath(name)}/state`, { path }),
    stateFile: (name: string, path: string) => get<StateFile>(`${agentPath(name)}/state/file`, { path }),
    /** The address of a file as it is, for a link that saves it. */
    stateDownload: (name: string, path: string) =>
      `${agentPath(name)}/state/download${renderQuery({ path })}`,
    kept: () => get<KeptState[]>("/api/kept"),
    revive: (name: string) => post<AgentRow>(`${keptPath(name)}/revive`),
    purgeKept: (name: string) => request<unknown>("DELETE", keptPath(name)),
    drafts: () => get<Draft[]>("/api/drafts"),
    discardDraft: (name: string) => request<unknown>("DELETE", `/api/drafts/${encodeURIComponent(name)}`),
    agentConfig: (name: string) => get<AgentConfigView>(configPath(name)),
    configHistory: (name: string) => get<ConfigVersion[]>(`${configPath(name)}/history`),
    revert: (name: string, request: RevertRequest) => post<Approval>(`${configPath(name)}/revert`, request),
    checkPolicy: (name: string, request: PolicyCheckRequest) =>
      post<PolicyDecision>(`${configPath(name)}/check`, request),
    approvals: (status: ApprovalStatus = "pending") => get<Approval[]>("/api/approvals", { status }),
    approval: (id: number) => get<Approval>(`/api/approvals/${id}`),
    review: (id: number) => get<Review>(`/api/approvals/${id}/review`),
    /** Takes minutes, and waits for those that were asked for before; until somebody has `left`. */
    systemChange: (id: number, left: AbortSignal) =>
      getSlowly<SystemChange>(`/api/approvals/${id}/system`, left),
    approve: (id: number) => post<unknown>(`/api/approvals/${id}/approve`),
    deny: (id: number, reason: string) => post<unknown>(`/api/approvals/${id}/deny`, { reason }),
    messages: (query: MessageFilter & MessagePage = {}) => get<Message[]>("/api/messages", { ...query }),
    inbox: (query: MessagePage = {}) => get<Message[]>("/api/inbox", { ...query }),
    markRead: (id: number) => post<unknown>(`/api/inbox/${id}/ack`),
    /** Has a dead message delivered again. */
    requeue: (id: number) => post<unknown>(`/api/messages/${id}/requeue`),
    send: (message: SendRequest) => post<Sent>("/api/messages", message),
    /** All that waits for the operator, the most urgent first. */
    needs: () => get<Need[]>("/api/needs"),
    /** Two agents that answered each other without end may go on. */
    release: (one: string, other: string) => post<unknown>(`/api/runaways/${one}/${other}/release`),
    /** A dead message needs nobody any more. */
    dismiss: (id: number) => post<unknown>(`/api/messages/${id}/dismiss`),
    questions: (status = "open") => get<Question[]>("/api/questions", { status }),
    question: (id: number) => get<Question>(`/api/questions/${id}`),
    answer: (id: number, answer: AnswerRequest) => post<unknown>(`/api/questions/${id}/answer`, answer),
    cancelQuestion: (id: number) => post<unknown>(`/api/questions/${id}/cancel`),
    pushKey: () => get<PushKey>("/api/push-key"),
    devices: () => get<Device[]>("/api/devices"),
    addDevice: (device: DeviceRequest) => post<Device>("/api/devices", device),
    changeDevice: (id: number, change: DeviceChange) => put<Device>(`/api/devices/${id}`, change),
    removeDevice: (id: number) => remove<unknown>(`/api/devices/${id}`),
    tryDevice: (id: number) => post<unknown>(`/api/devices/${id}/test`),
    /** Who did what, the newest first; an empty word lets all through. */
    audit: (query: AuditQuery) => get<AuditPage>("/api/audit", { ...query }),
    webhooks: () => get<Webhook[]>("/api/webhooks"),
    /** The secret of its signatures is in this answer alone. */
    addWebhook: (webhook: WebhookRequest) => post<NewWebhook>("/api/webhooks", webhook),
    tryWebhook: (id: number) => post<WebhookTest>(`/api/webhooks/${id}/test`),
    /** Sends what waits, now. */
    retryWebhook: (id: number) => post<WebhookTest>(`/api/webhooks/${id}/retry`),
    /** Gives up the event that is in the way, if it still is. */
    dropWebhookEvent: (id: number, event: number) => post<unknown>(`/api/webhooks/${id}/drop`, { event }),
    removeWebhook: (id: number) => remove<unknown>(`/api/webhooks/${id}`),
    logout: () => post<unknown>("/api/logout"),
  };
}

async function send(
  doFetch: typeof fetch,
  method: string,
  path: string,
  body: unknown,
  until: AbortSignal = AbortSignal.timeout(DEADLINE_MS),
): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  const init: RequestInit = { method, headers, cache: "no-store", credentials: "same-origin" };
  if (method !== "GET") {
    // Every write says that it is JSON: the hive refuses what a foreign form could send.
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body ?? {});
  }
  try {
    return await doFetch(path, { ...init, signal: until });
  } catch {
    throw new ApiError(0, "unreachable", "the hive did not answer", "what was asked may or may not be done");
  }
}

async function parseError(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => null)) as Partial<ErrorBody> | null;
  const message = typeof body?.message === "string" ? body.message : `the hive answered ${response.status}`;
  const hint = typeof body?.hint === "string" ? body.hint : "";
  return new ApiError(response.status, String(body?.code ?? "error"), message, hint);
}

function renderQuery(query: Query): string {
  const set = Object.entries(query).filter((entry) => entry[1] !== undefined);
  const text = new URLSearchParams(set.map(([key, value]) => [key, String(value)])).toString();
  return text ? `?${text}` : "";
}
