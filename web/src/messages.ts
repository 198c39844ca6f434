import { batch, computed, type ReadonlySignal, signal } from "@preact/signals";
import type { HiveEvent, Message, MessageState, SenderKind } from "./api_types.ts";
import { Table } from "./table.ts";

/** How many messages are fetched at once. */
export const MESSAGE_PAGE = 50;
/** How many a list shows: whoever looks further back gives up the newest, and the other way round. */
export const MESSAGE_LIMIT = 400;
/** How many of what is in a list apart from the others stay when they are further back than it shows. */
const APART_LIMIT = 100;
/** The most that the hive gives in one answer. */
const ANSWER_LIMIT = 500;
/** A list that only the hive can answer for is asked for again this long after something happened. */
const TOUCH_MS = 700;

const OPERATOR = "operator";

/** Which messages; what is left out is any. */
export interface MessageFilter {
  /** Whom they are from or to. */
  agent?: string;
  recipient?: string;
  kind?: SenderKind;
  state?: MessageState;
  thread?: number;
  search?: string;
}

export interface MessagePage {
  before?: number;
  limit?: number;
}

/** The id of the message that began what this one belongs to. */
export const threadOf = (message: Message) => message.thread ?? message.id;

export const isInbox = (message: Message) => message.recipient === OPERATOR;

/** For the operator: not read. For others: not settled. */
export const isWaiting = (message: Message) => message.state === "queued" || message.state === "leased";

/** Whether a message may be one of those, as far as a page can tell: what is searched for only the hive finds. */
export function mayMatch(filter: MessageFilter, message: Message): boolean {
  const { agent, recipient, kind, thread } = filter;
  return (
    (agent === undefined || message.sender === agent || message.recipient === agent) &&
    (recipient === undefined || message.recipient === recipient) &&
    (kind === undefined || message.kind === kind) &&
    (thread === undefined || threadOf(message) === thread)
  );
}

interface ListOptions {
  /** The newest first. */
  fetchPage: (page: MessagePage) => Promise<Message[]>;
  mayMatch: (message: Message) => boolean;
  /** Whether `mayMatch` is all there is to it. If not, whatever happens has the list fetched again. */
  exact: boolean;
  /** What is in the list wherever it stands in time, as long as it `is` so. */
  apart?: { fetch: () => Promise<Message[]>; is: (message: Message) => boolean };
  /** What is kept together by `keep`; each message for itself when it is left out. */
  groupOf?: (message: Message) => number;
}

const NOTHING_YET = Number.MAX_SAFE_INTEGER;
const EVERYTHING = 0;

/**
 * Messages, the newest first: a stretch without a gap that reaches up to the newest one unless one looks back. Events
 * keep it current; they are not told again after a new connection, so then `refresh` is due.
 */
export class MessageList extends Table<number, Message> {
  /** The lowest id from which on nothing is missing. */
  private readonly floor = signal(NOTHING_YET);
  private readonly kept = new Set<number>();
  private readonly delayed: HiveEvent[] = [];
  private fetches = 0;
  private refreshing: Promise<void> | null = null;
  private again = false;
  private touched: ReturnType<typeof setTimeout> | null = null;
  private lookedBack = false;
  /** Counts what came since the newest ones gave way to older ones. */
  readonly unseen = signal(0);
  /** Whether the newest ones are not shown. */
  readonly away = signal(false);
  /** Why the last fetch failed; empty when it did not. */
  readonly error = signal("");
  readonly loaded: ReadonlySignal<boolean> = computed(() => this.floor.value !== NOTHING_YET);
  /** Whether there is nothing older. */
  readonly ended: ReadonlySignal<boolean> = computed(() => this.floor.value === EVERYTHING);

  constructor(private readonly options: ListOptions) {
    super(
      (row) => row.id,
      (a, b) => b.id - a.id,
    );
  }

  /** Fetches all that is shown anew, and what came since. Raises what the fetch raised. */
  refresh(): Promise<void> {
    if (this.refreshing !== null) {
      this.again = true;
      return this.refreshing;
    }
    this.refreshing = this.fetchShown().finally(() => {
      this.refreshing = null;
      if (this.again) {
        this.again = false;
        void this.refresh().catch(() => {});
      }
    });
    return this.refreshing;
  }

  /** Fetches the page before the oldest one shown. */
  async older(): Promise<void> {
    const limit = MESSAGE_PAGE;
    const page = await this.fetch({ before: this.floor.peek(), limit });
    batch(() => {
      this.lookedBack = true;
      this.put(...page);
      this.floor.value = page.length < limit ? EVERYTHING : (page.at(-1)?.id ?? EVERYTHING);
      this.dropNewest();
    });
    this.settle();
  }

  /** Shows the newest ones again, after a look at older ones. */
  async newest(): Promise<void> {
    const limit = MESSAGE_PAGE;
    const page = await this.fetch({ limit });
    batch(() => {
      this.away.value = false;
      this.unseen.value = 0;
      this.lookedBack = false;
      this.floor.value = NOTHING_YET;
      this.join(page, limit, this.listApart(this.keys.peek()));
    });
    this.settle();
  }

  /** Whether nothing is missing between a message and the newest one shown. */
  covers(id: number): boolean {
    return id >= this.floor.value;
  }

  /** Has a message in the list, wherever it stands in time, and all others of its group stay once they are there. */
  keep(message: Message): void {
    this.kept.add(this.groupOf(message));
    this.put(message);
  }

  /** What happened to messages. During a fetch it waits: the answer may be older. */
  apply(event: HiveEvent): void {
    if (this.fetches > 0) this.delayed.push(event);
    else if (event.name === "message.sent") this.applySent(event.body.message as Message | undefined);
    else this.applyChange(event);
  }

  close(): void {
    if (this.touched !== null) clearTimeout(this.touched);
    this.touched = null;
  }

  private groupOf(message: Message): number {
    return this.options.groupOf?.(message) ?? message.id;
  }

  private async fetchShown(): Promise<void> {
    const ids = this.keys.peek();
    const limit = Math.min(ANSWER_LIMIT, ids.length + MESSAGE_PAGE);
    const newest = ids[0];
    const before = this.away.peek() && newest !== undefined ? { before: newest + 1 } : {};
    const [page, apart] = await this.ask(async () => [
      await this.options.fetchPage({ ...before, limit }),
      (await this.options.apart?.fetch()) ?? [],
    ]);
    const top = before.before ?? NOTHING_YET;
    batch(() =>
      this.join(
        page,
        limit,
        apart.filter((row) => row.id < top),
      ),
    );
    this.settle();
  }

  private fetch(query: MessagePage): Promise<Message[]> {
    return this.ask(() => this.options.fetchPage(query));
  }

  private async ask<T>(fetchIt: () => Promise<T>): Promise<T> {
    this.fetches += 1;
    try {
      const answer = await fetchIt();
      this.error.value = "";
      return answer;
    } catch (failure) {
      this.error.value = failure instanceof Error ? failure.message : String(failure);
      this.settle();
      throw failure;
    }
  }

  /** A fetch is over and its answer taken: now what happened meanwhile. */
  private settle(): void {
    this.fetches -= 1;
    if (this.fetches === 0) batch(() => this.delayed.splice(0).forEach((event) => void this.apply(event)));
  }

  /** Takes in the newest `limit` messages. What was there stays if they reach down to it: no silent gap. */
  private join(page: Message[], limit: number, apart: Message[]): void {
    const reach = page.length < limit ? EVERYTHING : (page.at(-1)?.id ?? EVERYTHING);
    const floor = this.floor.peek();
    const newest = this.keys.peek().find((id) => id >= floor) ?? EVERYTHING;
    const joined = reach === EVERYTHING || floor === NOTHING_YET || reach > newest ? reach : floor;
    const fetched = new Set(page.map((row) => row.id));
    const beside = new Set(apart.map((row) => row.id));
    for (const id of this.keys.peek()) {
      const row = this.find(id);
      const missing = id < joined || (id >= reach && !fetched.has(id));
      if (row !== undefined && missing && !beside.has(id)) this.removeUnlessKept(id);
    }
    this.put(...page.filter((row) => row.id >= joined), ...apart);
    this.floor.value = joined;
    if (!this.lookedBack) this.dropOldest();
  }

  private applySent(message: Message | undefined): void {
    if (message === undefined || !this.options.mayMatch(message) || this.find(message.id) !== undefined)
      return;
    if (!this.options.exact) {
      this.touch();
      return;
    }
    if (this.lookedBack && this.keys.peek().length >= MESSAGE_LIMIT) this.away.value = true;
    if (this.away.peek()) {
      this.unseen.value += 1;
      return;
    }
    this.put(message);
    this.dropOldest();
  }

  private applyChange(event: HiveEvent): void {
    const { ids = [], state, note } = event.body as { ids?: number[]; state?: MessageState; note?: string };
    if (state === undefined) return;
    for (const id of ids) {
      const row = this.find(id);
      if (row !== undefined) this.put(changeState(row, state, event.at, note));
    }
    if (!this.options.exact) this.touch();
  }

  private touch(): void {
    this.touched ??= setTimeout(() => {
      this.touched = null;
      // A failure is told by `error`, and the next event or load tries again.
      void this.refresh().catch(() => {});
    }, TOUCH_MS);
  }

  private dropOldest(): void {
    const over = this.keys.peek().slice(MESSAGE_LIMIT);
    if (over.length === 0 || this.lookedBack) return;
    const apart = new Set(
      this.listApart(over)
        .slice(0, APART_LIMIT)
        .map((row) => row.id),
    );
    for (const id of over) if (!apart.has(id)) this.removeUnlessKept(id);
    this.floor.value = Math.max(this.floor.peek(), (over[0] ?? EVERYTHING) + 1);
  }

  private dropNewest(): void {
    const ids = this.keys.peek();
    if (ids.length <= MESSAGE_LIMIT) return;
    for (const id of ids.slice(0, ids.length - MESSAGE_LIMIT)) this.removeUnlessKept(id);
    this.away.value = true;
  }

  private listApart(ids: readonly number[]): Message[] {
    const { apart } = this.options;
    if (apart === undefined) return [];
    return ids.flatMap((id) => this.find(id) ?? []).filter(apart.is);
  }

  private removeUnlessKept(id: number): void {
    const row = this.find(id);
    if (row !== undefined && !this.kept.has(this.groupOf(row))) this.remove(id);
  }
}

/** The row after a change of state. One that is settled is not handed out any more: that event came late. */
function changeState(
  row: Message,
  state: MessageState,
  at: string,
  note: string | undefined | null,
): Message {
  if (state === "leased")
    return row.state === "queued" ? { ...row, state, deliveries: row.deliveries + 1 } : row;
  const settled_at = state === "queued" ? null : at;
  return { ...row, state, settled_at, note: note ?? row.note };
}
