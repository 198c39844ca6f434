import { useApp } from "../context.ts";
import { renderClock } from "../time.ts";
import { Inline } from "./text.tsx";

/** What holds for the whole page: a rehearsal, a lost connection, rows that could not be fetched. */
export function Banners() {
  const { store, connection } = useApp();
  const { state, lastSeenAt } = connection.value;
  const seen =
    lastSeenAt === null ? "" : ` What you see is from ${renderClock(new Date(lastSeenAt).toISOString())}.`;
  return (
    <div class="banners" aria-live="polite">
      {store.hive.value?.rehearsal && (
        <p class="banner banner-rehearsal" data-testid="banner-rehearsal">
          rehearsal: no model behind this
        </p>
      )}
      {state === "down" && (
        <p class="banner banner-lost" data-testid="banner-lost">
          <span class="spinner" aria-hidden="true" /> the hive is not answering; trying again.{seen}
        </p>
      )}
      {state === "up" && store.loadError.value && (
        <p class="banner banner-lost" data-testid="banner-stale">
          not everything could be fetched: <Inline text={store.loadError.value} />{" "}
          <button type="button" class="link" onClick={() => void store.load()}>
            look again
          </button>
        </p>
      )}
    </div>
  );
}
