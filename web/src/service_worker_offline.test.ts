import { expect, test } from "vitest";
import {
  answerOrOffline,
  type CacheDoor,
  dropEarlier,
  isOffered,
  keepOfflinePage,
} from "./service_worker_offline.ts";

const ORIGIN = "http://127.0.0.1:8000";
const asked = (path: string, mode: RequestMode = "navigate", method = "GET") => ({
  method,
  mode,
  url: path.startsWith("http") ? path : ORIGIN + path,
});

/** Caches that remember what was put into them. */
function createCaches(names: string[] = []) {
  const kept = new Set<string>();
  const door = {
    open: async () => ({
      addAll: async (requests: Request[]) => {
        for (const request of requests) kept.add(new URL(request.url).pathname);
      },
    }),
    keys: async () => names,
    delete: async (name: string) => names.splice(names.indexOf(name), 1).length === 1,
    match: async (path: string) => (kept.has(path) ? new Response(path) : undefined),
  };
  return { kept, names, door: door as unknown as CacheDoor };
}

test("only pages are offered another answer: never the API, a login, a write or another origin", () => {
  for (const path of ["/", "/agent/alice/", "/approvals/1"])
    expect(isOffered(asked(path) as Request, ORIGIN)).toBe(true);
  for (const path of ["/api/agents", "/login?token=x", "http://evil.example/"])
    expect(isOffered(asked(path) as Request, ORIGIN)).toBe(false);
  expect(isOffered(asked("/api/agents", "cors") as Request, ORIGIN)).toBe(false);
  expect(isOffered(asked("/assets/main.js", "cors") as Request, ORIGIN)).toBe(false);
  expect(isOffered(asked("/", "navigate", "POST") as Request, ORIGIN)).toBe(false);
  expect(isOffered(asked("/offline.css", "no-cors") as Request, ORIGIN)).toBe(true);
});

test("nothing but the offline page is kept, and what earlier versions kept is dropped", async () => {
  const { kept, names, door } = createCaches(["hyperhive-offline-0", "hyperhive-offline-1"]);
  await keepOfflinePage(door);
  await dropEarlier(door);
  expect([...kept].every((path) => path.startsWith("/offline.") || path === "/favicon.svg")).toBe(true);
  expect(names).toEqual(["hyperhive-offline-1"]);
});

test("the hive's answer is the answer, whatever it is, and the page is shown only when there is none", async () => {
  const { door } = createCaches();
  await keepOfflinePage(door);
  const request = asked("/agent/alice/") as Request;
  const refused = async () => new Response("no", { status: 503 });
  expect((await answerOrOffline(request, refused as typeof fetch, door)).status).toBe(503);
  const gone = async () => {
    throw new TypeError("gone");
  };
  const shown = await answerOrOffline(request, gone as typeof fetch, door);
  expect(await shown.text()).toBe("/offline.html");
});

test("a worker that could not keep the page fails as the browser would", async () => {
  const { door } = createCaches();
  const gone = async () => {
    throw new TypeError("gone");
  };
  await expect(answerOrOffline(asked("/") as Request, gone as typeof fetch, door)).rejects.toThrow("gone");
});
