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
}

export interface KeptState {
  name: string;
  destroyed_at: string;
  size_bytes: number;
}

export type ApprovalKind = "spawn";
export type ApprovalStatus = "pending" | "approved" | "deployed" | "denied" | "failed";

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
}

export type MessageState = "queued" | "leased" | "acked" | "dead";
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
  acked_at: string | null;
  note: string | null;
}

export interface SendRequest {
  to: string;
  body: string;
  in_reply_to?: number | null;
  idempotency_key?: string | null;
}

export interface Created {
  id: number;
}

export type QuestionStatus = "open" | "answered" | "cancelled" | "expired";

export interface Question {
  id: number;
  agent: string;
  question: string;
  options: string[];
  multi: boolean;
  status: QuestionStatus;
  asked_at: string;
  expires_at: string;
  answer: string | null;
  resolved_at: string | null;
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
  next_offset: number;
}

export interface CancelResult {
  cancelled: boolean;
}
