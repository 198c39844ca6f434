import type { Fetched } from "../fetched.ts";
import { Inline } from "./text.tsx";

/** What to say about something fetched on request while it is not there, or is not what the hive has now. */
export function FetchNote<T>({ fetched, what }: { fetched: Fetched<T>; what: string }) {
  const error = fetched.error.value;
  const missing = fetched.value.value === null;
  if (error)
    return (
      <p class="rule rule-broken" role="alert" data-testid="fetch-failed">
        {what} {missing ? "cannot be shown" : "may be an earlier one"}: <Inline text={error} />{" "}
        <button type="button" class="link" onClick={() => void fetched.fetchNow()}>
          try again
        </button>
      </p>
    );
  return missing ? <p class="empty">loading {what}…</p> : null;
}
