import { useSignal } from "@preact/signals";
import type { ConfigVersion } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { Act } from "./act.tsx";
import { Badge } from "./badge.tsx";
import { Commit } from "./commit.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Block } from "./text.tsx";
import { Age } from "./when.tsx";

/** Versions shown at once, the newest first; the others on request. */
const SHOWN = 8;

/** Every config that was asked for, what became of it, and the way back to one that ran. */
export function History({ agent }: { agent: string }) {
  const { api, epochs } = useApp().store;
  const fetched = useFetched(`history-${agent}`, () => api.configHistory(agent), epochs.of(agent));
  const whole = useSignal(false);
  const versions = fetched.value.value ?? [];
  const shown = whole.value ? versions : versions.slice(0, SHOWN);
  return (
    <div class="config-part" data-testid={`history-${agent}`}>
      <h3>history</h3>
      <FetchNote fetched={fetched} what="the history" />
      <ul class="versions">
        {shown.map((version) => (
          <VersionRow key={version.approval} agent={agent} version={version} />
        ))}
      </ul>
      {shown.length < versions.length && (
        <button type="button" class="link" onClick={() => (whole.value = true)}>
          show {versions.length - shown.length} older
        </button>
      )}
    </div>
  );
}

function VersionRow({ agent, version }: { agent: string; version: ConfigVersion }) {
  const { approval, status, current } = version;
  return (
    <li class="version" data-testid={`version-${approval}`} data-status={status}>
      <span class="version-what">
        <span>{approval === 0 ? "first config" : `#${approval}`}</span>
        <Badge state={status} />
        <Commit commit={version.commit} />
        {current && <span class="chip chip-live">current</span>}
        <span class="dim">
          <Age at={version.at} /> ago
        </span>
      </span>
      {status === "deployed" && !current && <Revert agent={agent} version={version} />}
      {(version.description || version.reason) && (
        <div class="version-text">
          {version.description && <Block text={version.description} />}
          {version.reason && (
            <div class="reason">
              <Block text={version.reason} />
            </div>
          )}
        </div>
      )}
    </li>
  );
}

function Revert({ agent, version }: { agent: string; version: ConfigVersion }) {
  const { store } = useApp();
  const { approval } = version;
  const what = approval === 0 ? "the first config" : `the config of #${approval}`;
  return (
    <Act
      label={`revert ${agent} to ${what}`}
      testId={`revert-${approval}`}
      confirm={`bring back ${what} of ${agent}?`}
      run={async () => {
        const row = await store.api.revert(agent, { to: approval });
        // Its event may have come already, and be newer than this answer.
        if (store.approvals.find(row.id) === undefined) store.approvals.put(row);
        return `${what} of ${agent} comes back as #${row.id}`;
      }}
    >
      revert to this
    </Act>
  );
}
