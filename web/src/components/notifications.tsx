import { useSignal } from "@preact/signals";
import { useContext } from "preact/hooks";
import type { Device } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { type NotificationState, type Notifications, NotificationsContext } from "../notifications.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

const WORDS: Record<NotificationState, string> = {
  unsupported: "this browser shows none here",
  blocked: "blocked: allow them for this page in the browser's settings",
  off: "off",
  on: "on",
  muted: "muted",
};

/** Whether this browser says when something newly needs the operator, and which others do. */
export function NotificationRow() {
  const notifications = useContext(NotificationsContext);
  const open = useSignal(false);
  if (notifications === null) return null;
  const state = notifications.state.value;
  return (
    <section class="notify" aria-label="notifications" data-testid="notifications" data-state={state}>
      <h2 class="visually-hidden">notifications</h2>
      <div class="notify-row">
        <span>
          <span class="dim">notifications</span>{" "}
          <span class={`notify-state notify-${state}`} data-testid="notification-state" role="status">
            {WORDS[state]}
            {(state === "on" || state === "muted") && <Reach notifications={notifications} />}
          </span>
        </span>
        <span class="acts">
          <StateActs notifications={notifications} />
          <button
            type="button"
            class="act act-quiet"
            aria-expanded={open.value}
            data-testid="devices-toggle"
            onClick={() => (open.value = !open.value)}
          >
            devices
          </button>
        </span>
      </div>
      {open.value && <Devices notifications={notifications} />}
    </section>
  );
}

const Reach = ({ notifications }: { notifications: Notifications }) => (
  <span class="dim">
    {notifications.device.value === null ? ", while a page is open" : ", also with all pages closed"}
  </span>
);

function StateActs({ notifications }: { notifications: Notifications }) {
  const state = notifications.state.value;
  if (state === "off")
    return (
      <Act
        key="enable"
        label="enable notifications on this browser"
        testId="notifications-enable"
        kind="good"
        run={notifications.enable}
      >
        enable
      </Act>
    );
  if (state === "on")
    return (
      <Act
        key="mute"
        label="mute notifications on this browser"
        testId="notifications-mute"
        run={notifications.mute}
      >
        mute
      </Act>
    );
  if (state === "muted")
    return (
      <Act
        key="unmute"
        label="unmute notifications on this browser"
        testId="notifications-unmute"
        kind="good"
        run={notifications.unmute}
      >
        unmute
      </Act>
    );
  return null;
}

/** The browsers that are told by web push. Each adds itself; any of them removes any. */
function Devices({ notifications }: { notifications: Notifications }) {
  const { api } = useApp().store;
  const fetched = useFetched("devices", api.devices, notifications.epoch);
  const rows = fetched.value.value;
  const { state, device } = notifications;
  const missing = (state.value === "on" || state.value === "muted") && device.value === null;
  return (
    <div class="panel" data-testid="devices">
      <h3>told by web push, also with all pages closed</h3>
      <FetchNote fetched={fetched} what="the devices" />
      {rows?.length === 0 && (
        <p class="empty">no browser yet: enable notifications on each that should be told</p>
      )}
      <ul class="versions">
        {rows?.map((row) => (
          <DeviceRow key={row.id} row={row} own={row.id === device.value} notifications={notifications} />
        ))}
      </ul>
      {missing && (
        <div class="acts">
          <Act label="tell this browser by web push, too" testId="device-add" run={notifications.subscribe}>
            add this browser
          </Act>
        </div>
      )}
    </div>
  );
}

interface DeviceRowProps {
  row: Device;
  own: boolean;
  notifications: Notifications;
}

function DeviceRow({ row, own, notifications }: DeviceRowProps) {
  const { api } = useApp().store;
  const { epoch } = notifications;
  /** Done to this browser's own device, it is done to the page as well. */
  async function change(muted: boolean): Promise<string> {
    if (own) return muted ? notifications.mute() : notifications.unmute();
    await api.changeDevice(row.id, { muted });
    epoch.value += 1;
    return muted ? "muted" : "on again";
  }
  return (
    <li class="version" data-testid={`device-${row.id}`} data-muted={row.muted || undefined}>
      <span class="version-what">
        <Inline text={row.name} />
        {own && <span class="chip">this browser</span>}
        {row.muted && <span class="chip chip-warn">muted</span>}
        <span class="dim">
          <Inline text={row.service} /> · added <Age at={row.added_at} /> ago ·{" "}
          {row.sent_at === null ? "not told yet" : <Told at={row.sent_at} />}
        </span>
        {row.error && (
          <span class="tone-warn">
            <Inline text={row.error} />
          </span>
        )}
      </span>
      <div class="acts">
        <Act
          label={`${row.muted ? "unmute" : "mute"} ${row.name}`}
          testId="device-mute"
          until={String(row.muted)}
          run={() => change(!row.muted)}
        >
          {row.muted ? "unmute" : "mute"}
        </Act>
        <Act
          label={`send ${row.name} a notification`}
          testId="device-test"
          disabled={row.muted}
          run={async () => {
            await api.tryDevice(row.id);
            return "a notification is on its way";
          }}
        >
          test
        </Act>
        <Act
          label={`remove ${row.name}`}
          testId="device-remove"
          kind="danger"
          confirm="remove this device? it is told nothing more"
          run={async () => {
            await api.removeDevice(row.id);
            if (own) await notifications.checkDevice();
            epoch.value += 1;
            return `${row.name} is removed`;
          }}
        >
          remove
        </Act>
      </div>
    </li>
  );
}

const Told = ({ at }: { at: string }) => (
  <>
    told <Age at={at} /> ago
  </>
);
