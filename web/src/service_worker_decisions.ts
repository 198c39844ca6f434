/** Deciding from a notification: an act of the operator on the hive's API, with the session of this browser. */

const DEADLINE_MS = 20_000;

/** What each act makes of an approval, sooner or later. */
const OUTCOMES: Record<string, readonly string[]> = {
  approve: ["approved", "building", "deployed", "failed"],
  deny: ["denied"],
};

interface Approval {
  status: string;
  commit: string | null;
}

export type Decide = (act: string, key: string) => Promise<boolean>;

/**
 * What decides: it resolves to whether all is as the operator wished, once the hive has answered. It is not when the
 * hive did not take it, when it was decided otherwise meanwhile, and when the change has to be seen first: nobody
 * approves what they could not see, and a notification cannot show a change. Two clicks are one decision.
 */
export function createDecide(doFetch: typeof fetch): Decide {
  const running = new Map<string, Promise<boolean>>();

  return (act, key) => {
    const id = /^approval-([0-9]{1,15})$/.exec(key)?.[1];
    if (id === undefined || !Object.hasOwn(OUTCOMES, act)) return Promise.resolve(false);
    // One after the other: the second click finds what the first one did.
    const before = running.get(id) ?? Promise.resolve(true);
    const decision = before.then(() => decideOnce(doFetch, act, id)).catch(() => false);
    running.set(id, decision);
    void decision.then(() => running.get(id) === decision && running.delete(id));
    return decision;
  };
}

async function decideOnce(doFetch: typeof fetch, act: string, id: string): Promise<boolean> {
  const row = await fetchApproval(doFetch, id);
  if (row.status !== "pending") return isOutcome(act, row);
  if (act === "approve" && row.commit !== null) return false;
  const body = act === "deny" ? { reason: "denied from a notification" } : {};
  const answer = await call(doFetch, `/api/approvals/${id}/${act}`, "POST", body);
  if (answer.status === 409) return isOutcome(act, await fetchApproval(doFetch, id));
  return answer.ok;
}

const isOutcome = (act: string, row: Approval) => OUTCOMES[act]?.includes(row.status) ?? false;

async function fetchApproval(doFetch: typeof fetch, id: string): Promise<Approval> {
  const answer = await call(doFetch, `/api/approvals/${id}`, "GET");
  if (!answer.ok) throw new Error(`the hive answered ${answer.status}`);
  return (await answer.json()) as Approval;
}

function call(doFetch: typeof fetch, path: string, method: string, body?: unknown): Promise<Response> {
  const init: RequestInit = { method, cache: "no-store", credentials: "same-origin", redirect: "error" };
  if (body !== undefined) {
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  return doFetch(path, { ...init, signal: AbortSignal.timeout(DEADLINE_MS) });
}
