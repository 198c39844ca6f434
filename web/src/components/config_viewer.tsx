import type { Signal } from "@preact/signals";
import type { AgentConfigView, AgentRow, ConfigFile } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { renderSize, renderVisible } from "../text.ts";
import { CheckForm } from "./check_form.tsx";
import { Commit } from "./commit.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Fold } from "./fold.tsx";
import { History } from "./history.tsx";
import { Permissions } from "./permissions.tsx";
import { Block, Exact, Inline } from "./text.tsx";

/** What says what the agent may do, in the language of its hive. */
const CONFIG_FILES = new Set(["agent.toml", "agent.nix"]);

/** Why the last approved config is not what runs. */
export function ConfigError({ row }: { row: AgentRow }) {
  if (!row.config_error) return null;
  return (
    <div class="config-error" role="status" data-testid="config-error">
      <strong>the last config failed:</strong> <Block text={row.config_error} />
    </div>
  );
}

export function ConfigToggle({ agent, open }: { agent: string; open: Signal<boolean> }) {
  return (
    <button
      type="button"
      class="act act-quiet"
      aria-expanded={open.value}
      aria-label={`config of ${agent}`}
      data-testid={`config-toggle-${agent}`}
      onClick={() => (open.value = !open.value)}
    >
      config
    </button>
  );
}

/** The applied config of an agent: its files, what it lets the agent do, and what was applied before. */
export function ConfigViewer({ agent }: { agent: string }) {
  const { api, epochs } = useApp().store;
  const fetched = useFetched(`config-${agent}`, () => api.agentConfig(agent), epochs.of(agent));
  const view = fetched.value.value;
  return (
    <section class="config" aria-label={`config of ${agent}`} data-testid={`config-${agent}`}>
      <FetchNote fetched={fetched} what="the config" />
      {view && <Applied view={view} />}
      {view && <Permissions view={view} />}
      <CheckForm agent={agent} />
      <History agent={agent} />
    </section>
  );
}

function Applied({ view }: { view: AgentConfigView }) {
  return (
    <div class="config-part">
      <h3>
        applied config{" "}
        {view.commit ? <Commit commit={view.commit} /> : <span class="dim">none is deployed yet</span>}
      </h3>
      {view.problem && (
        <div class="rule-broken" role="alert" data-testid="config-problem">
          it cannot be used, so the agent does not start: <Exact text={view.problem} multiline />
        </div>
      )}
      {view.files.map((file) => (
        <FileFold key={file.path} file={file} />
      ))}
    </div>
  );
}

function FileFold({ file }: { file: ConfigFile }) {
  return (
    <Fold
      open={CONFIG_FILES.has(file.path)}
      testId={`config-file-${file.path}`}
      summary={
        <>
          <Exact text={file.path} /> <span class="dim">{renderSize(file.size_bytes)}</span>{" "}
          {file.executable && <span class="chip chip-warn">executable</span>}
        </>
      }
    >
      {file.text === null ? (
        <p class="diff-note">a binary or a large file: only its size is shown</p>
      ) : (
        <section
          class="config-text"
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
          tabIndex={0}
          aria-label={renderVisible(file.path)}
        >
          {file.text ? <Block text={file.text} mono exact /> : <Inline text="(empty)" />}
        </section>
      )}
    </Fold>
  );
}
