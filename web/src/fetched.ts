import { batch, effect, type ReadonlySignal, signal, untracked } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

export type Fetched<T> = ReturnType<typeof openFetched<T>>;

/**
 * Fetches something at once, and again whenever `epoch` moves, until `close`. The last answer stays until there is
 * another one, and an equal one changes nothing: what is open, focused or scrolled in it is left alone.
 */
export function openFetched<T>(fetchIt: () => Promise<T>, epoch: ReadonlySignal<number>) {
  const value = signal<T | null>(null);
  /** Why the last fetch failed; empty when it did not. */
  const error = signal("");
  let open = true;
  let running = false;
  let again = false;

  async function fetchNow(): Promise<void> {
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      await fetchOnce();
    } while (again && open);
    running = false;
  }

  async function fetchOnce(): Promise<void> {
    try {
      const answer = await fetchIt();
      batch(() => {
        if (JSON.stringify(answer) !== JSON.stringify(value.peek())) value.value = answer;
        error.value = "";
      });
    } catch (failure) {
      error.value = failure instanceof Error ? failure.message : String(failure);
    }
  }

  const stop = effect(() => {
    epoch.value;
    untracked(() => void fetchNow());
  });
  return {
    value: value as ReadonlySignal<T | null>,
    error: error as ReadonlySignal<string>,
    fetchNow,
    close() {
      open = false;
      stop();
    },
  };
}

/** As `openFetched`, for as long as the component is in the page; anew when `key` is another one. */
export function useFetched<T>(
  key: string,
  fetchIt: () => Promise<T>,
  epoch: ReadonlySignal<number>,
): Fetched<T> {
  // `key` stands for what is fetched: the function is another one at each rendering.
  const fetched = useMemo(() => openFetched(fetchIt, epoch), [key, epoch]);
  useEffect(() => fetched.close, [fetched]);
  return fetched;
}
