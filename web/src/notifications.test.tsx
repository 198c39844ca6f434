import { beforeEach, expect, test, vi } from "vitest";
import type { Device } from "./api_types.ts";
import { NotificationRow } from "./components/notifications.tsx";
import { createNotifications, NotificationsContext } from "./notifications.ts";
import { type Browser, describeBrowser, type Permission } from "./notifications_browser.ts";
import type { PageMessage } from "./service_worker_notices.ts";
import { createNeed, createTestApp, mount, settle } from "./testing/stand_in.tsx";

const DEVICE: Device = {
  id: 3,
  name: "Chrome on Android",
  service: "push.example",
  added_at: "2026-11-20T12:00:00Z",
  muted: false,
  sent_at: null,
  error: "",
};
const DEVICES = {
  "GET /api/push-key": { public_key: "key" },
  "GET /api/devices": [DEVICE],
  "POST /api/devices": DEVICE,
  "PUT /api/devices/3": DEVICE,
  "DELETE /api/devices/3": null,
};

beforeEach(() => localStorage.clear());

/** A browser that remembers what its worker was told. */
function createFakeBrowser(change: Partial<Browser> & { answer?: Permission } = {}) {
  let permission: Permission = "default";
  const posted: PageMessage[] = [];
  const browser: Browser = {
    permission: () => permission,
    async requestPermission() {
      permission = change.answer ?? "granted";
      return permission;
    },
    async post(message) {
      posted.push(message);
    },
    subscribe: async (key) => ({ endpoint: `https://push.example/${key}`, p256dh: "p", auth: "a" }),
    isSubscribed: async () => true,
    unsubscribe: async () => {},
    onOpen: () => () => {},
    name: () => "Chrome on Android",
    ...change,
  };
  return { browser, posted };
}

function open(change: Parameters<typeof createFakeBrowser>[0] = {}, answers: Record<string, unknown> = {}) {
  const app = createTestApp({ ...DEVICES, ...answers });
  const { browser, posted } = createFakeBrowser(change);
  const notifications = createNotifications(app.store.api, browser);
  return { app, posted, notifications };
}

const shown = (posted: PageMessage[]) =>
  posted.flatMap((message) =>
    message.type === "notice" ? [(message.notice as { kind: string; key: string }).key] : [],
  );

test("nothing that is there when the page loads notifies, what comes later does, once", async () => {
  const { app, posted, notifications } = open({}, { "GET /api/needs": [createNeed("approval", "1")] });
  await notifications.enable();
  posted.length = 0;
  notifications.watch(app.store);
  await settle(() => void app.store.load());
  expect(posted).toEqual([{ type: "keep", keys: ["approval-1"] }]);

  app.hive.answers["GET /api/needs"] = [createNeed("approval", "1"), createNeed("question", "2")];
  await settle(() => app.store.applyNeeds());
  await settle(() => app.store.applyNeeds());
  expect(shown(posted)).toEqual(["question-2"]);
  expect(JSON.stringify(posted)).not.toContain("detail");
});

test("what is not known yet is not taken for an empty queue", async () => {
  const { app, posted, notifications } = open();
  await notifications.enable();
  posted.length = 0;
  notifications.watch(app.store);
  app.hive.answers["GET /api/needs"] = () => new Response(null, { status: 500 });
  await settle(() => void app.store.load());
  app.hive.answers["GET /api/needs"] = [createNeed("approval", "1")];
  await settle(() => void app.store.load());
  expect(shown(posted)).toEqual([]);
});

test("what came while the connection was lost notifies when it is back", async () => {
  const { app, posted, notifications } = open();
  await notifications.enable();
  notifications.watch(app.store);
  await settle(() => void app.store.load());
  app.hive.answers["GET /api/needs"] = [createNeed("approval", "1")];
  await settle(() => void app.store.load());
  expect(shown(posted)).toEqual(["approval-1"]);
});

test("what needs nobody any more is closed, while they are muted, too", async () => {
  const { app, posted, notifications } = open({}, { "GET /api/needs": [createNeed("approval", "1")] });
  await notifications.enable();
  notifications.watch(app.store);
  await settle(() => void app.store.load());
  await notifications.mute();
  posted.length = 0;
  app.hive.answers["GET /api/needs"] = [createNeed("question", "2")];
  await settle(() => app.store.applyNeeds());
  expect(posted).toEqual([{ type: "notice", notice: { kind: "gone", key: "approval-1" } }]);
});

test("a page whose notifications nobody enabled tells the worker nothing", async () => {
  const { app, posted, notifications } = open();
  notifications.watch(app.store);
  await settle(() => void app.store.load());
  app.hive.answers["GET /api/needs"] = [createNeed("approval", "1")];
  await settle(() => app.store.applyNeeds());
  expect(posted).toEqual([]);
  expect(notifications.state.value).toBe("off");
});

test("enabling subscribes this browser, and it stays enabled in the next page", async () => {
  const { app, notifications } = open();
  expect(await notifications.enable()).toContain("while no page is open");
  expect(app.hive.calls.find((call) => call.method === "POST")?.body).toEqual({
    endpoint: "https://push.example/key",
    p256dh: "p",
    auth: "a",
    name: "Chrome on Android",
  });
  const next = createNotifications(app.store.api, createFakeBrowser({ permission: () => "granted" }).browser);
  expect([next.state.value, next.device.value]).toEqual(["on", 3]);
});

test("without web push they come while a page is open, and it is said so", async () => {
  const { app, notifications } = open({ subscribe: () => Promise.reject(new Error("no push service")) });
  expect(await notifications.enable()).toContain("no push service");
  expect(notifications.state.value).toBe("on");
  expect(app.hive.calls.some((call) => call.method === "POST")).toBe(false);
});

test("what the operator does not allow is not asked for again and again", async () => {
  const { notifications } = open({ answer: "denied" });
  await expect(notifications.enable()).rejects.toThrow("does not allow");
  expect(notifications.state.value).toBe("blocked");
});

test("muting stops this page at once, whatever the hive answers", async () => {
  const failed = { "PUT /api/devices/3": () => new Response(null, { status: 500 }) };
  const { notifications, app } = open();
  await notifications.enable();
  Object.assign(app.hive.answers, failed);
  await expect(notifications.mute()).rejects.toThrow();
  expect(notifications.state.value).toBe("muted");
});

test("a device that was removed from elsewhere is forgotten here, and not added again", async () => {
  const unsubscribe = vi.fn(async () => {});
  const { app, notifications } = open({ unsubscribe });
  await notifications.enable();
  app.hive.answers["GET /api/devices"] = [];
  app.hive.calls.length = 0;
  await notifications.checkDevice();
  expect(notifications.device.value).toBeNull();
  expect(unsubscribe).toHaveBeenCalledOnce();
  expect(app.hive.calls.map((call) => call.method)).toEqual(["GET"]);
});

test("a device that was muted from elsewhere is muted here", async () => {
  const { app, notifications } = open();
  await notifications.enable();
  app.hive.answers["GET /api/devices"] = [{ ...DEVICE, muted: true }];
  await notifications.checkDevice();
  expect(notifications.state.value).toBe("muted");
});

test("the row enables, mutes and unmutes, and lists the devices", async () => {
  const { app, notifications } = open();
  const page = mount(
    app,
    <NotificationsContext.Provider value={notifications}>
      <NotificationRow />
    </NotificationsContext.Provider>,
  );
  expect(page.find("notifications").dataset.state).toBe("off");
  await settle(() => page.find("notifications-enable").click());
  expect(page.find("notification-state").textContent).toBe("on, also with all pages closed");
  await settle(() => page.find("notifications-mute").click());
  expect(page.find("notifications").dataset.state).toBe("muted");
  await settle(() => page.find("notifications-unmute").click());
  expect(page.find("notifications").dataset.state).toBe("on");
  await settle(() => page.find("devices-toggle").click());
  expect(page.find("device-3").textContent).toContain("this browser");
  expect(page.find("device-3").textContent).toContain("push.example");
});

test("a browser is named after what it says it is", () => {
  const chrome = "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/156.0.0.0 Mobile Safari/537.36";
  const safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile Safari/604.1";
  const names = [
    chrome,
    safari,
    "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0",
    "",
  ];
  expect(names.map(describeBrowser)).toEqual([
    "Chrome on Android",
    "Safari on iPhone",
    "Firefox on Linux",
    "a browser on an unknown system",
  ]);
});
