/** The operator's HTTP API, by hand from `wire/operator.py`; a contract test compares the two. Instants are RFC 3339. */

export interface ErrorBody {
  code: string;
  message: string;
  hint: string;
}

export interface Hive {
  version: string;
  rehearsal: boolean;
  upstream: string;
  credential: string;
  driver: string;
  started_at: string;
  park: Park | null;
  port_problems: string[];
  unlimited: Record<string, unknown>;
}

export type ParkKind = "paused" | "budget" | "login" | "limit" | "failing";

export interface Park {
  kind: ParkKind;
  since: string;
  until: string | null;
  reason: string;
  hive: boolean;
}

export interface AgentRow {
  name: string;
  manager: boolean;
  state: string;
  reason: string;
  since: string;
  driver: string;
  model: string;
  waiting: number;
  turns: number;
  last_outcome: string;
  spawned_at: string;
  commit: string;
  config_error: string;
  needs_update: string;
  updating: boolean;
  park: Park | null;
  chosen_model: string;
  context_tokens: number;
  context_limit: number;
  session_usd: number | null;
  day_tokens: number;
  day_usd: number;
  day_unpriced: boolean;
  budget_tokens: number | null;
  budget_usd: number | null;
  login: string;
  login_account: string;
  login_expires_at: string | null;
}

/** Who is built anew; empty: nothing is stale. */
export interface Updating {
  agents: string[];
}

export interface PauseRequest {
  reason?: string;
}

export interface ModelRequest {
  model: string;
}

export interface Accepted {
  accepted: boolean;
}

export interface LoginStarted {
  url: string;
}

export interface LoginCode {
  code: string;
}

export interface Login {
  kind: string;
  account: string;
  expires_at: string | null;
}

export interface Budget {
  agent: string;
  tokens_per_day: number | null;
  usd_per_day: number | null;
  granted_tokens: number;
  granted_usd: number;
  day_tokens: number;
  day_usd: number;
  day_unpriced: boolean;
  problem: string;
}

export type Quota =
  | "memory"
  | "tasks"
  | "disk"
  | "files"
  | "messages"
  | "inbox"
  | "questions"
  | "reminders"
  | "transcript"
  | "events"
  | "event_bytes"
  | "acts"
  | "requests"
  | "request_bytes"
  | "request_rate"
  | "terminals"
  | "log";

export type QuotaUnit = "count" | "bytes" | "per_minute" | "bytes_per_minute";

export interface QuotaUse {
  quota: Quota;
  unit: QuotaUnit;
  used: number | null;
  limit: number | null;
}

export interface AgentQuotas {
  agent: string;
  over: string;
  allowed_until: string | null;
  quotas: QuotaUse[];
}

export interface Snapshot {
  id: number;
  agent: string;
  at: string;
  state: string;
  note: string;
  commit: string;
  session: string;
  turns: number;
  with_credentials: boolean;
  automatic: boolean;
  imported: boolean;
  size_bytes: number;
  left_out: number;
  sha256: string;
}

export interface SnapshotRequest {
  agent: string;
  note?: string;
  with_credentials?: boolean;
  wait_s?: number;
}

export interface RestoreResult {
  agent: string;
  undo: number | null;
  approval: number | null;
  replayed: number;
}

export interface AllowRequest {
  size_bytes: number;
  for_s?: number;
}

export interface BudgetRequest {
  tokens_per_day: number | null;
  usd_per_day: number | null;
}

export interface GrantRequest {
  tokens?: number | null;
  usd?: number | null;
}

export interface Reminder {
  id: number;
  agent: string;
  note: string;
  due_at: string;
  created_at: string;
}

/** What an agent asked of the egress proxy; `method` and `path` are empty for a tunnel. */
export interface EgressRequest {
  agent: string;
  at: string;
  host: string;
  port: number;
  verdict: EgressVerdict;
  rule: string;
  method: string;
  path: string;
  bytes_up: number;
  bytes_down: number;
  elapsed_ms: number;
}

export type EgressVerdict = "allowed" | "refused" | "failed";

/** What the operator lets an agent reach for a while, beside its config. */
export interface EgressGrant {
  id: number;
  agent: string;
  host: string;
  port: number;
  granted_at: string;
  until: string;
}

export interface EgressGrantRequest {
  agent: string;
  host: string;
  port: number;
  minutes: number;
}

export interface EgressProposalRequest {
  agent: string;
  entry: string;
}

/** An entry of the schedule in an agent's config. */
export interface ScheduledMessage {
  agent: string;
  cron: string;
  message: string;
  next_at: string | null;
  last_at: string | null;
}

export type NotesKind = "compacted" | "asked" | "restored" | "kept";

export interface NotesVersion {
  commit: string;
  at: string;
  kind: NotesKind;
  size_before: number;
  size_after: number;
}

export interface NotesDiff {
  version: NotesVersion;
  files: FileDiff[];
}

export interface RestoreRequest {
  commit: string;
}

export interface KeptState {
  name: string;
  spawned_at: string;
  destroyed_at: string;
  size_bytes: number;
  credentials: boolean;
}

export interface Draft {
  name: string;
  requested_by: string;
  created_at: string;
  size_bytes: number;
}

export type ApprovalKind = "spawn" | "apply" | "revert";
export type ApprovalStatus = "pending" | "approved" | "building" | "deployed" | "denied" | "failed";

export interface Approval {
  id: number;
  kind: ApprovalKind;
  agent: string;
  status: ApprovalStatus;
  requested_by: string;
  description: string;
  requested_at: string;
  resolved_at: string | null;
  reason: string | null;
  commit: string | null;
  base: string | null;
  reverts_to: number | null;
}

export type LineKind = "context" | "added" | "removed";

export interface DiffLine {
  kind: LineKind;
  old: number | null;
  new: number | null;
  text: string;
}

export interface DiffHunk {
  header: string;
  lines: DiffLine[];
}

export type Change = "added" | "removed" | "changed";

export interface FileDiff {
  path: string;
  change: Change;
  binary: boolean;
  executable: boolean | null;
  old_size_bytes: number;
  new_size_bytes: number;
  added: number;
  removed: number;
  large: boolean;
  truncated: boolean;
  hunks: DiffHunk[];
}

export type Effect = "live" | "next_turn" | "restart" | "rebuild";

export interface MeaningRow {
  area: string;
  change: Change;
  subject: string;
  before: string;
  after: string;
  effect: Effect;
}

export interface Comparison {
  base: string;
  commit: string;
  files: FileDiff[];
  meaning: MeaningRow[];
  effect: Effect;
}

export interface Review {
  approval: Approval;
  comparison: Comparison | null;
  earlier: number | null;
  since_earlier: Comparison | null;
  notes: FileDiff[];
  warnings: string[];
  system: boolean;
}

export interface PackageChange {
  change: Change;
  name: string;
  before: string;
  after: string;
}

export interface SystemChange {
  base: string;
  packages: PackageChange[];
  left_out: number;
  added_bytes: number;
  removed_bytes: number;
  download_bytes: number;
  fetched: number;
  built: string[];
  problem: string;
}

export interface ConfigFile {
  path: string;
  size_bytes: number;
  executable: boolean;
  text: string | null;
}

export type PermissionArea = "run" | "reach" | "read" | "message" | "spend";
export type Verdict = "allow" | "ask" | "deny";

export interface Permission {
  area: PermissionArea;
  subject: string;
  verdict: Verdict;
  rule: string;
}

export interface AgentConfigView {
  agent: string;
  commit: string;
  files: ConfigFile[];
  problem: string;
  config: Record<string, unknown> | null;
  permissions: Permission[];
}

export interface ConfigVersion {
  approval: number;
  status: ApprovalStatus;
  commit: string;
  at: string;
  description: string;
  reason: string;
  current: boolean;
  tag: string;
}

export interface RevertRequest {
  to: number;
}

export interface PolicyCheckRequest {
  tool?: string | null;
  arguments?: Record<string, unknown>;
  bash?: string | null;
  recipient?: string | null;
}

export interface PolicyDecision {
  verdict: Verdict;
  rule: string;
  reason: string;
}

export type MessageState = "queued" | "leased" | "acked" | "expired" | "dead";
export type Priority = "high" | "normal" | "low";
export type SenderKind = "operator" | "manager" | "system" | "peer";

export interface Message {
  id: number;
  sender: string;
  kind: SenderKind;
  recipient: string;
  body: string;
  sent_at: string;
  state: MessageState;
  deliveries: number;
  thread: number | null;
  in_reply_to: number | null;
  priority: Priority;
  expires_at: string | null;
  broadcast: number | null;
  settled_at: string | null;
  note: string | null;
}

export interface SendRequest {
  to: string;
  body: string;
  in_reply_to?: number | null;
  priority?: Priority;
  ttl_s?: number | null;
  idempotency_key?: string | null;
}

export interface Sent {
  id: number;
  ids: number[];
}

export type NeedKind =
  | "approval"
  | "question"
  | "permission"
  | "notes"
  | "login"
  | "crash"
  | "budget"
  | "limit"
  | "dead_letter"
  | "runaway";

/** One thing that waits for the operator. `title` holds no text of an agent, `detail` may. */
export interface Need {
  key: string;
  kind: NeedKind;
  ref: string;
  agent: string | null;
  title: string;
  detail: string;
  since: string;
  deadline: string | null;
  by_default: string;
  acts: string[];
  link: string;
}

export interface PushKey {
  public_key: string;
}

export interface Device {
  id: number;
  name: string;
  service: string;
  added_at: string;
  muted: boolean;
  sent_at: string | null;
  error: string;
}

export interface DeviceRequest {
  endpoint: string;
  p256dh: string;
  auth: string;
  name?: string;
}

export interface DeviceChange {
  muted: boolean;
}

export interface WaitingEvent {
  id: number;
  name: string;
  agent: string | null;
  at: string;
  count: number;
}

export interface Webhook {
  id: number;
  place: string;
  events: string[];
  bodies: boolean;
  added_at: string;
  ok_at: string | null;
  error: string;
  dead: number;
  dead_at: string | null;
  dead_reason: string;
  waiting: WaitingEvent | null;
}

export interface WebhookRequest {
  url: string;
  events?: string[];
  bodies?: boolean;
}

/** A row of the audit: who did what. */
export interface AuditEntry {
  seq: number;
  at: string;
  actor: string;
  name: string;
  agent: string | null;
  body: Record<string, unknown>;
  hash: string;
}

/** The newest first; there may be none here though there are some below `before`. */
export interface AuditPage {
  entries: AuditEntry[];
  before: number | null;
}

export interface NewWebhook {
  webhook: Webhook;
  secret: string;
}

export interface WebhookTest {
  fault: string;
}

export interface WebhookDrop {
  event: number;
}

export type QuestionStatus = "open" | "answered" | "cancelled" | "expired";

export type QuestionKind = "question" | "permission" | "notes";

export interface Question {
  id: number;
  kind: QuestionKind;
  agent: string;
  question: string;
  options: string[];
  multi: boolean;
  status: QuestionStatus;
  asked_at: string;
  expires_at: string;
  answer: string | null;
  resolved_at: string | null;
  asked: string;
}

export interface AnswerRequest {
  options: string[];
  text: string;
}

export interface TranscriptEvent {
  seq: number;
  at: string;
  kind: string;
  body: Record<string, unknown>;
}

export interface HiveEvent {
  id: number;
  at: string;
  name: string;
  agent: string | null;
  body: Record<string, unknown>;
}

export interface Journal {
  text: string;
  offset: number;
  next_offset: number;
  more: boolean;
}

export type StateEntryKind = "file" | "folder" | "link" | "other";

/** A name is spelled so that nothing in it is hidden, and so that it can be asked for. */
export interface StateEntry {
  name: string;
  kind: StateEntryKind;
  size_bytes: number;
  changed_at: string | null;
}

export interface StateFolder {
  path: string;
  entries: StateEntry[];
  more: boolean;
}

export interface StateFile {
  path: string;
  size_bytes: number;
  text: string;
  cut: boolean;
  binary: boolean;
}

export interface CancelResult {
  cancelled: boolean;
}

export interface TerminalRequest {
  columns: number;
  rows: number;
}

export type Ending = "exited" | "closed" | "idle" | "stopped" | "lost" | "failed";

export interface Terminal {
  id: string;
  agent: string;
  opened_by: string;
  opened_at: string;
  columns: number;
  rows: number;
  viewers: number;
  ended_at: string | null;
  status: number | null;
  ending: Ending | null;
  bytes_in: number;
  bytes_out: number;
}

export interface StatsPage {
  agent: string;
  from: string;
  step_s: number;
  at: number[];
  series: Record<string, unknown>;
  totals: Record<string, unknown>;
  units: Record<string, unknown>;
  tools: Record<string, unknown>;
}

export interface UsageRow {
  name: string;
  requests: number;
  failures: number;
  unpriced: number;
  work_tokens: number;
  input_tokens: number;
  output_tokens: number;
  cache_write_tokens: number;
  cache_read_tokens: number;
  cost_usd: number;
}

export interface StatsUsage {
  agent: string;
  from: string;
  agents: UsageRow[];
  days: UsageRow[];
  models: UsageRow[];
  total: UsageRow;
}
