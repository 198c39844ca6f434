/**
 * Fetches rows anew on request, one request at a time. An answer that was under way when the next one was asked for may
 * be older than what asked for it: it is dropped. A failure is left to the next load.
 */
export function createRefresher<T>(fetchRows: () => Promise<T>, apply: (rows: T) => void): () => void {
  let running = false;
  let again = false;

  async function run(): Promise<void> {
    running = true;
    do {
      again = false;
      const rows = await fetchRows().catch(() => null);
      if (rows !== null && !again) apply(rows);
    } while (again);
    running = false;
  }

  return () => {
    if (running) again = true;
    else void run();
  };
}
