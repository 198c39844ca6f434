import { computed, effect, signal } from "@preact/signals";
import { createContext } from "preact";
import type { Api } from "./api.ts";
import type { Need } from "./api_types.ts";
import type { Browser } from "./notifications_browser.ts";
import { readItem, writeItem } from "./storage.ts";
import type { Store } from "./store.ts";

/**
 * `unsupported`: the browser cannot; `blocked`: it was told not to; `off`: nobody enabled them; `muted`: not now.
 */
export type NotificationState = "unsupported" | "blocked" | "off" | "on" | "muted";

export type Notifications = ReturnType<typeof createNotifications>;

export const NotificationsContext = createContext<Notifications | null>(null);

const WISH = "hyperhive.notifications";
const DEVICE = "hyperhive.device";

type Wish = "" | "on" | "muted";

/** This browser's notifications: while a page is open by the page, and by web push where the browser has it. */
export function createNotifications(api: Api, browser: Browser) {
  const permission = signal(browser.permission());
  const wish = signal<Wish>(readWish());
  /** The hive's number of this browser; null while it is not told by web push. */
  const device = signal<number | null>(Number(readItem("localStorage", DEVICE)) || null);
  /** Moves when the list of devices may be another. */
  const epoch = signal(0);

  effect(() => writeItem("localStorage", WISH, wish.value));
  effect(() => writeItem("localStorage", DEVICE, device.value === null ? "" : String(device.value)));
  // Another tab of this browser changes them for all.
  window.addEventListener("storage", () => {
    wish.value = readWish();
    device.value = Number(readItem("localStorage", DEVICE)) || null;
  });

  const state = computed<NotificationState>(() => {
    if (permission.value === "unsupported") return "unsupported";
    if (permission.value === "denied") return "blocked";
    return permission.value === "granted" && wish.value !== "" ? wish.value : "off";
  });

  /** Resolves to what came of it. Raises Error when the browser does not allow it. */
  async function enable(): Promise<string> {
    permission.value = await browser.requestPermission();
    if (permission.value !== "granted")
      throw new Error("the browser does not allow notifications of this page");
    await browser.post({ type: "keep", keys: [] });
    wish.value = "on";
    return subscribe();
  }

  async function subscribe(): Promise<string> {
    const { public_key } = await api.pushKey();
    const subscribed = await browser.subscribe(public_key).catch(explain);
    if (typeof subscribed === "string") {
      return `on while a page is open; not when all are closed: ${subscribed}`;
    }
    device.value = (await api.addDevice({ ...subscribed, name: browser.name() })).id;
    epoch.value += 1;
    await api.changeDevice(device.value, { muted: false });
    return "on, also while no page is open";
  }

  async function mute(muted: boolean): Promise<string> {
    // This page first: whatever the hive answers, nothing more is shown.
    wish.value = muted ? "muted" : "on";
    if (device.peek() !== null) await api.changeDevice(device.peek() ?? 0, { muted });
    epoch.value += 1;
    return muted ? "muted: nothing new is shown on this browser" : "on again";
  }

  /** A device that the hive does not have any more is not told by web push: the browser forgets it, too. */
  async function checkDevice(): Promise<void> {
    const mine = device.peek();
    if (mine === null) return;
    const row = (await api.devices()).find((other) => other.id === mine);
    if (row === undefined) {
      device.value = null;
      await browser.unsubscribe();
    } else if (!(await browser.isSubscribed())) {
      // The browser dropped it; the hive would be told so at the next push.
      device.value = null;
      await api.removeDevice(mine);
    } else if (wish.peek() !== "") {
      // It may have been muted from elsewhere.
      wish.value = row.muted ? "muted" : "on";
    }
    epoch.value += 1;
  }

  /** Shows what is new and closes what is gone, for as long as the page is open. */
  function watch(store: Pick<Store, "needs" | "loaded">): () => void {
    const say = (message: Parameters<Browser["post"]>[0]) => {
      if (state.peek() === "on" || state.peek() === "muted") void browser.post(message).catch(() => {});
    };
    return watchEdges(store, {
      onStart(keys) {
        say({ type: "keep", keys });
        // What fails now is looked at again with the next page; notifications come all the same.
        void checkDevice().catch(() => {});
      },
      onEdge(fresh, gone) {
        for (const key of gone) say({ type: "notice", notice: { kind: "gone", key } });
        if (state.peek() !== "on") return;
        for (const { key, kind, title, acts } of fresh)
          say({ type: "notice", notice: { kind: "need", key, need: kind, title, acts } });
      },
    });
  }

  return {
    state,
    device,
    epoch,
    enable,
    subscribe,
    mute: () => mute(true),
    unmute: () => mute(false),
    checkDevice,
    watch,
    onOpen: browser.onOpen,
  };
}

export interface EdgeListener {
  /** Once, with what is there when the page has loaded: that is nobody's news. */
  onStart: (keys: string[]) => void;
  onEdge: (fresh: Need[], gone: string[]) => void;
}

/** Follows the queue of what needs the operator until the returned function is called. */
export function watchEdges(store: Pick<Store, "needs" | "loaded">, listener: EdgeListener): () => void {
  let known: Set<string> | null = null;
  return effect(() => {
    if (!store.loaded.value) return;
    const keys = store.needs.keys.value;
    const before = known;
    known = new Set(keys);
    if (before === null) {
      listener.onStart(keys);
      return;
    }
    const fresh = keys.filter((key) => !before.has(key)).flatMap((key) => store.needs.find(key) ?? []);
    const gone = [...before].filter((key) => !known?.has(key));
    if (fresh.length > 0 || gone.length > 0) listener.onEdge(fresh, gone);
  });
}

const explain = (error: unknown) => (error instanceof Error ? error.message : String(error));

function readWish(): Wish {
  const value = readItem("localStorage", WISH);
  return value === "on" || value === "muted" ? value : "";
}
