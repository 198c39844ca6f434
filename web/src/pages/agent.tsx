import { type Signal, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { AgentRow } from "../api_types.ts";
import { AgentInbox } from "../components/agent_inbox.tsx";
import { AgentState, PanelToggle } from "../components/agent_state.tsx";
import { ConfigError, ConfigViewer } from "../components/config_viewer.tsx";
import { Egress } from "../components/egress.tsx";
import { Frame } from "../components/frame.tsx";
import { Journal } from "../components/journal.tsx";
import { Link } from "../components/link.tsx";
import { LoginBox, type LoginStep, needsLogin } from "../components/login_box.tsx";
import { Notes } from "../components/notes.tsx";
import { PromptLine } from "../components/prompt_line.tsx";
import { Quotas } from "../components/quotas.tsx";
import { Reminders, useReminders } from "../components/reminders.tsx";
import { Snapshots } from "../components/snapshots.tsx";
import { StateFiles } from "../components/state_files.tsx";
import { StatsPanel } from "../components/stats.tsx";
import { Terminals, useTerminalPanel } from "../components/terminals.tsx";
import { Inline } from "../components/text.tsx";
import { TranscriptView } from "../components/transcript_view.tsx";
import { useApp } from "../context.ts";
import { useJump } from "../jump.ts";
import { usePanel } from "../panel.ts";
import { useTitle } from "../title.ts";
import type { TranscriptFeed } from "../transcript/feed.ts";

/** `feed` follows the transcript of the agent called `name`; whoever shows this page opened it. */
export function AgentPage({ name, feed }: { name: string; feed: TranscriptFeed }) {
  const { store } = useApp();
  // Subscribed to before it is looked up: the row may come later than the page.
  const known = store.agents.keys.value.includes(name);
  const row = known ? store.agents.cell(name)?.value : undefined;
  useTitle(`${name} · hyperhive`);
  return (
    <Frame heading={<Inline text={name} />} tall>
      {row === undefined ? <Missing name={name} loaded={store.loaded.value} /> : <Head row={row} />}
      <TranscriptView feed={feed} name={name} />
      {row !== undefined && <PromptLine name={name} />}
    </Frame>
  );
}

/** What stands above the transcript: the state, and what is folded out under it. */
function Head({ row }: { row: AgentRow }) {
  const { name } = row;
  const login = useLoginPanel(row);
  const terminal = useTerminalPanel();
  const inbox = usePanel("inbox");
  const notes = usePanel("notes");
  const files = usePanel("files");
  const reminders = usePanel("reminders");
  const egress = usePanel("egress");
  const quotas = usePanel("quotas");
  const snapshots = usePanel("snapshots");
  const config = usePanel("config");
  const journal = usePanel("journal");
  const stats = usePanel("stats");
  const reminded = useReminders(name);
  const due = reminded.value.value?.length ?? 0;
  const open =
    [inbox, notes, files, reminders, egress, quotas, snapshots, config, journal, stats].some(
      (panel) => panel.value,
    ) || login.open;
  return (
    <>
      <AgentState row={row}>
        <PanelToggle name="inbox" agent={name} open={inbox}>
          {row.waiting > 0 && <span class="count">{row.waiting}</span>}
        </PanelToggle>
        <PanelToggle name="login" agent={name} open={login.open} onToggle={login.toggle} />
        <PanelToggle name="notes" agent={name} open={notes} />
        <PanelToggle name="files" agent={name} open={files} />
        <PanelToggle name="reminders" agent={name} open={reminders}>
          {due > 0 && <span class="count">{due}</span>}
        </PanelToggle>
        <PanelToggle name="egress" agent={name} open={egress} />
        <PanelToggle name="quotas" agent={name} open={quotas} />
        <PanelToggle name="snapshots" agent={name} open={snapshots} />
        <PanelToggle name="config" agent={name} open={config} testId={`config-toggle-${name}`} />
        <PanelToggle name="journal" agent={name} open={journal} />
        <PanelToggle name="stats" agent={name} open={stats} />
        <PanelToggle name="terminal" agent={name} open={terminal.open} onToggle={terminal.toggle} />
      </AgentState>
      <ConfigError row={row} />
      {open && (
        <div class="panels">
          <h2 class="visually-hidden">more about {name}</h2>
          {login.open && (
            <div id="login" tabIndex={-1}>
              <LoginBox row={row} step={login.step} onClose={login.toggle} />
            </div>
          )}
          <Shown when={inbox}>
            <AgentInbox row={row} />
          </Shown>
          <Shown when={notes}>
            <Notes agent={name} />
          </Shown>
          <Shown when={files}>
            <StateFiles agent={name} />
          </Shown>
          <Shown when={reminders}>
            <Reminders agent={name} fetched={reminded} />
          </Shown>
          <Shown when={egress}>
            <Egress agent={name} />
          </Shown>
          <Shown when={quotas}>
            <Quotas row={row} />
          </Shown>
          <Shown when={snapshots}>
            <Snapshots agent={name} />
          </Shown>
          <Shown when={config}>
            <ConfigViewer agent={name} />
          </Shown>
          <Shown when={journal}>
            <Journal agent={name} />
          </Shown>
          <Shown when={stats}>
            <StatsPanel agent={name} />
          </Shown>
        </div>
      )}
      {terminal.open && <Terminals agent={name} />}
    </>
  );
}

/** What is folded out while `when` says so. */
function Shown({ when, children }: { when: Signal<boolean>; children: ComponentChildren }) {
  return when.value ? <>{children}</> : null;
}

/** The login box opens by itself when a login is needed, until it is closed by hand; one that was begun stays. */
function useLoginPanel(row: AgentRow) {
  const step = useSignal<LoginStep>({ at: "start" });
  const chosen = useSignal<boolean | null>(location.hash === "#login" ? true : null);
  const needed = needsLogin(row);
  // Closed by hand holds for this need: the next one opens the box again.
  useEffect(() => {
    if (!needed && step.peek().at === "start") chosen.value = null;
  }, [needed, chosen, step]);
  const open = chosen.value ?? (needed || step.value.at !== "start");
  useJump("login", open);
  return {
    open,
    step,
    toggle() {
      if (open && step.peek().at === "done") step.value = { at: "start" };
      chosen.value = !open;
    },
  };
}

function Missing({ name, loaded }: { name: string; loaded: boolean }) {
  return (
    <p class="empty" data-testid="agent-missing">
      {loaded ? (
        <>
          there is no agent called {name} now. <Link to="/">back to the hive</Link>
        </>
      ) : (
        "loading…"
      )}
    </p>
  );
}
