/** The page that is shown when the hive does not answer. Nothing else is ever kept: no answer of the API, no page. */

const CACHE = "hyperhive-offline-1";
const PAGE = "/offline.html";
const KEPT = [PAGE, "/offline.css", "/offline.js", "/favicon.svg"];

export type CacheDoor = Pick<CacheStorage, "open" | "keys" | "delete" | "match">;

/** Fetches what the page needs while the hive is there. A worker without it does the rest all the same. */
export async function keepOfflinePage(caches: CacheDoor): Promise<void> {
  try {
    const cache = await caches.open(CACHE);
    // Past the browser's own cache: it may have an earlier version's.
    await cache.addAll(KEPT.map((path) => new Request(path, { cache: "reload" })));
  } catch {
    // The next version of the worker tries again.
  }
}

/** Drops what earlier versions kept. */
export async function dropEarlier(caches: CacheDoor): Promise<void> {
  for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
}

/** What the worker has a say in: opening a page, and what the offline page is made of. */
export function isOffered(request: Pick<Request, "method" | "mode" | "url">, origin: string): boolean {
  const { pathname, origin: asked } = new URL(request.url);
  if (request.method !== "GET" || asked !== origin) return false;
  // The login spends a token, once: nothing comes between it and the hive.
  if (request.mode === "navigate") return pathname !== "/login" && !pathname.startsWith("/api/");
  return KEPT.includes(pathname);
}

/** The hive's answer; without one, what was kept for that. */
export async function answerOrOffline(
  request: Request,
  doFetch: typeof fetch,
  caches: CacheDoor,
): Promise<Response> {
  try {
    return await doFetch(request);
  } catch (error) {
    const path = request.mode === "navigate" ? PAGE : new URL(request.url).pathname;
    const kept = await caches.match(path);
    if (kept === undefined) throw error;
    return kept;
  }
}
