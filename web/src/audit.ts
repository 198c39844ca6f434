import { batch, computed, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import type { AuditEntry, AuditPage } from "./api_types.ts";
import { approvalPath, questionPath } from "./route.ts";

export interface AuditFilter {
  grep: string;
  agent: string;
  actor: string;
  name: string;
}

export const NO_FILTER: AuditFilter = { grep: "", agent: "", actor: "", name: "" };

const PAGE = 100;
/** A page may be empty though there is more further down: so many are looked through before it is said so. */
const PAGES_LIMIT = 20;

export type AuditList = ReturnType<typeof openAudit>;

/** The rows that a filter lets through, the newest first, and older ones on request. Nothing moves by itself. */
export function openAudit(api: Api, filter: AuditFilter) {
  const rows = signal<AuditEntry[] | null>(null);
  const error = signal("");
  /** Below which row it goes on; null: that was all. */
  const before = signal<number | null>(null);
  let asked = 0;

  /** Rows below `from`: of the first page that has any. */
  async function collect(from: number | null): Promise<AuditPage> {
    let page: AuditPage = { entries: [], before: from };
    for (let count = 0; count < PAGES_LIMIT; count += 1) {
      page = await api.audit({ ...filter, before: page.before ?? undefined, limit: PAGE });
      if (page.entries.length || page.before === null) break;
    }
    return page;
  }

  async function load(from: number | null): Promise<void> {
    asked += 1;
    const mine = asked;
    const page = await collect(from).catch((failure: unknown) =>
      failure instanceof Error ? failure.message : String(failure),
    );
    // Another look was asked for meanwhile: that one counts.
    if (mine !== asked) return;
    batch(() => {
      error.value = typeof page === "string" ? page : "";
      if (typeof page === "string") return;
      rows.value = from === null ? page.entries : [...(rows.peek() ?? []), ...page.entries];
      before.value = page.before;
    });
  }

  return {
    rows: computed(() => rows.value),
    error: computed(() => error.value),
    /** Whether there is more further down than was looked through. */
    hasOlder: computed(() => before.value !== null),
    newest: () => load(null),
    older: () => load(before.peek()),
  };
}

/** Where what a row tells of can be looked at; empty when it has no page. */
export function findPlace(entry: AuditEntry): string {
  const id = entry.body.id;
  if (typeof id !== "number") return "";
  if (entry.name.startsWith("approval.")) return approvalPath(id);
  return entry.name.startsWith("question.") ? questionPath(id) : "";
}

/** What the row says beyond who, what and whom; digests are for programs. */
export function renderBody(body: AuditEntry["body"]): string {
  return Object.entries(body)
    .filter(([key, value]) => value !== null && value !== "" && !key.endsWith("_sha256"))
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
