/**
 * The service worker, at /sw.js: shows notifications, also by web push while no page is open, and does what is clicked
 * in them. When the hive does not answer, it shows a page that says so; that page is all it caches.
 */
import { createDecide } from "./service_worker_decisions.ts";
import {
  applyNotice,
  keepOnly,
  type OpenMessage,
  type PageMessage,
  parseJson,
  parseNotice,
} from "./service_worker_notices.ts";
import {
  answerOrOffline,
  type CacheDoor,
  dropEarlier,
  isOffered,
  keepOfflinePage,
} from "./service_worker_offline.ts";

interface Waiting extends Event {
  waitUntil(work: Promise<unknown>): void;
}
interface PushEvent extends Waiting {
  data: { text(): string } | null;
}
interface ClickEvent extends Waiting {
  action: string;
  notification: Notification;
}
interface MessageToWorker extends Waiting {
  data: PageMessage;
}
interface FetchEvent extends Waiting {
  request: Request;
  respondWith(answer: Promise<Response>): void;
}
interface PageWindow {
  url: string;
  focused: boolean;
  focus(): Promise<PageWindow>;
  postMessage(message: OpenMessage): void;
}

/** The parts of ServiceWorkerGlobalScope that are used: its types and those of a page exclude each other. */
interface Scope {
  registration: ServiceWorkerRegistration;
  caches: CacheDoor;
  location: { origin: string };
  clients: {
    claim(): Promise<void>;
    matchAll(options: { type: "window"; includeUncontrolled: true }): Promise<readonly PageWindow[]>;
    openWindow(url: string): Promise<unknown>;
  };
  skipWaiting(): Promise<void>;
  addEventListener(type: "install" | "activate", listener: (event: Waiting) => void): void;
  addEventListener(type: "push", listener: (event: PushEvent) => void): void;
  addEventListener(type: "notificationclick", listener: (event: ClickEvent) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
  addEventListener(type: "message", listener: (event: MessageToWorker) => void): void;
}

const worker = self as unknown as Scope;
const decide = createDecide((input, init) => fetch(input, init));

// A new version takes over at once: it keeps nothing that an older one could need.
worker.addEventListener("install", (event) => {
  event.waitUntil(keepOfflinePage(worker.caches).then(() => worker.skipWaiting()));
});
worker.addEventListener("activate", (event) => {
  event.waitUntil(dropEarlier(worker.caches).then(() => worker.clients.claim()));
});

worker.addEventListener("fetch", (event) => {
  if (!isOffered(event.request, worker.location.origin)) return;
  event.respondWith(answerOrOffline(event.request, (...asked) => fetch(...asked), worker.caches));
});

worker.addEventListener("push", (event) => {
  const notice = parseNotice(parseJson(event.data?.text() ?? ""));
  if (notice !== null) event.waitUntil(inTurn(() => applyNotice(worker.registration, notice)));
});

worker.addEventListener("message", (event) => {
  const message = event.data;
  if (message.type === "keep") event.waitUntil(inTurn(() => keepOnly(worker.registration, message.keys)));
  const notice = message.type === "notice" ? parseNotice(message.notice) : null;
  if (notice !== null) event.waitUntil(inTurn(() => applyNotice(worker.registration, notice)));
});

worker.addEventListener("notificationclick", (event) => {
  const { key, link } = event.notification.data as { key: string; link: string };
  event.notification.close();
  event.waitUntil(event.action === "" ? open(link) : act(event.action, key, link));
});

/**
 * Does one thing to what is shown at a time. Chromium forgets a notification that is listed while it is being shown:
 * it stays on the screen, where clicks do nothing and nobody takes it back.
 */
function inTurn(work: () => Promise<void>): Promise<void> {
  return navigator.locks.request("notifications", work);
}

/** What cannot be done from here is done in the page. */
async function act(action: string, key: string, link: string): Promise<void> {
  if (!(await decide(action, key))) await open(link);
}

/** Brings an open page to the front, the dashboard rather than another, and there to `link`; else opens one. */
async function open(link: string): Promise<void> {
  const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const dashboard = pages.find((page) => new URL(page.url).pathname === "/");
  const page = dashboard ?? pages[0];
  if (page === undefined) {
    await worker.clients.openWindow(link);
    return;
  }
  // Told first: a browser that does not let it have the focus still shows the right place.
  page.postMessage({ type: "open", link });
  await page.focus();
}
