/** What notifications need of the browser, in one place: a test has another one. */
import type { OpenMessage, PageMessage } from "./service_worker_notices.ts";

export type Permission = NotificationPermission | "unsupported";

/** A subscription to web push, as far as the hive needs it. */
export interface Subscribed {
  endpoint: string;
  p256dh: string;
  auth: string;
}

export interface Browser {
  permission(): Permission;
  /** Asks the operator, unless they were asked before. */
  requestPermission(): Promise<Permission>;
  /** Has the worker run and hands it a message; to be awaited once before anything else of the worker. */
  post(message: PageMessage): Promise<void>;
  /** Subscribes to web push for the sender with this key. Raises what the browser refuses with. */
  subscribe(publicKey: string): Promise<Subscribed>;
  isSubscribed(): Promise<boolean>;
  unsubscribe(): Promise<void>;
  onOpen(listener: (link: string) => void): () => void;
  /** What the operator knows this browser by. */
  name(): string;
}

const WORKER = "/sw.js";

/** Has the worker run, which also shows a page when the hive does not answer. Without it, all else works the same. */
export async function installWorker(): Promise<void> {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker
    .register(workerUrl(), { scope: "/", updateViaCache: "none" })
    .catch(() => undefined);
}

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL(url: string): string },
  ): {
    createScriptURL(url: string): unknown;
  };
}

/** The worker's address as the pages' security policy wants it: of a kind that no text from elsewhere can become. */
const workerUrl = once((): string => {
  const types = (window as { trustedTypes?: TrustedTypes }).trustedTypes;
  if (types === undefined) return WORKER;
  return types
    .createPolicy("hyperhive-worker", { createScriptURL: () => WORKER })
    .createScriptURL("") as string;
});

export function createBrowser(): Browser {
  const supported = "serviceWorker" in navigator && "Notification" in window;

  const register = once(async (): Promise<ServiceWorkerRegistration> => {
    await navigator.serviceWorker.register(workerUrl(), { scope: "/", updateViaCache: "none" });
    return navigator.serviceWorker.ready;
  });

  /** Without web push (a private window, a page that is not installed on iOS) there is no manager. */
  async function pushManager(): Promise<PushManager> {
    const { pushManager: manager } = (await register()) as { pushManager?: PushManager };
    if (manager === undefined) throw new Error("this browser has no web push here");
    return manager;
  }

  return {
    permission: () => (supported ? Notification.permission : "unsupported"),
    requestPermission: async () => (supported ? Notification.requestPermission() : "unsupported"),
    async post(message) {
      (await register()).active?.postMessage(message);
    },
    async subscribe(publicKey) {
      const manager = await pushManager();
      const options = { userVisibleOnly: true, applicationServerKey: publicKey };
      const subscription = await manager.subscribe(options).catch(async (error: unknown) => {
        // One for another key of the hive is in the way.
        const old = await manager.getSubscription();
        if (old === null) throw error;
        await old.unsubscribe();
        return manager.subscribe(options);
      });
      return parseSubscription(subscription.toJSON());
    },
    async isSubscribed() {
      const manager = await pushManager().catch(() => null);
      return (await manager?.getSubscription()) != null;
    },
    async unsubscribe() {
      const manager = await pushManager().catch(() => null);
      await (await manager?.getSubscription())?.unsubscribe();
    },
    onOpen(listener) {
      if (!supported) return () => {};
      const onMessage = (event: MessageEvent) => {
        const message = event.data as OpenMessage;
        if (message?.type === "open") listener(message.link);
      };
      navigator.serviceWorker.addEventListener("message", onMessage);
      navigator.serviceWorker.startMessages();
      return () => navigator.serviceWorker.removeEventListener("message", onMessage);
    },
    name: () => describeBrowser(navigator.userAgent),
  };
}

function parseSubscription({ endpoint, keys }: PushSubscriptionJSON): Subscribed {
  if (!endpoint || !keys?.p256dh || !keys.auth) throw new Error("the browser's subscription has no keys");
  return { endpoint, p256dh: keys.p256dh, auth: keys.auth };
}

const PROGRAMS: [RegExp, string][] = [
  [/Edg(e|A|iOS)?\//, "Edge"],
  [/OPR\//, "Opera"],
  [/SamsungBrowser\//, "Samsung Internet"],
  [/(Firefox|FxiOS)\//, "Firefox"],
  [/(Chrome|Chromium|CriOS)\//, "Chrome"],
  [/Safari\//, "Safari"],
];
const SYSTEMS: [RegExp, string][] = [
  [/Android/, "Android"],
  [/iPhone/, "iPhone"],
  [/iPad/, "iPad"],
  [/Windows/, "Windows"],
  [/Mac OS X/, "macOS"],
  [/CrOS/, "ChromeOS"],
  [/Linux/, "Linux"],
];

/** Such as "Firefox on Android": a guess, to tell one's own devices apart. */
export function describeBrowser(userAgent: string): string {
  const find = (table: [RegExp, string][]) => table.find(([pattern]) => pattern.test(userAgent))?.[1];
  return `${find(PROGRAMS) ?? "a browser"} on ${find(SYSTEMS) ?? "an unknown system"}`;
}

/** What `make` gives, made the first time it is asked for; a promise that fails is made again the next time. */
function once<T>(make: () => T): () => T {
  let made: { value: T } | null = null;
  return () => {
    if (made === null) {
      const value = make();
      made = { value };
      if (value instanceof Promise)
        value.catch(() => {
          made = null;
        });
    }
    return made.value;
  };
}
