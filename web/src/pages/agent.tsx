import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { AgentState } from "../components/agent_state.tsx";
import { ConfigError, ConfigViewer } from "../components/config_viewer.tsx";
import { Frame } from "../components/frame.tsx";
import { Journal } from "../components/journal.tsx";
import { Link } from "../components/link.tsx";
import { PromptLine } from "../components/prompt_line.tsx";
import { Inline } from "../components/text.tsx";
import { TranscriptView } from "../components/transcript_view.tsx";
import { useApp } from "../context.ts";
import type { TranscriptFeed } from "../transcript/feed.ts";

/** `feed` follows the transcript of the agent called `name`; whoever shows this page opened it. */
export function AgentPage({ name, feed }: { name: string; feed: TranscriptFeed }) {
  const { store } = useApp();
  const journal = useSignal(false);
  const config = useSignal(false);
  // Subscribed to before it is looked up: the row may come later than the page.
  const known = store.agents.keys.value.includes(name);
  const row = known ? store.agents.cell(name)?.value : undefined;
  useEffect(() => {
    document.title = `${name} · hyperhive`;
  }, [name]);
  return (
    <Frame heading={<Inline text={name} />} tall>
      {row === undefined ? (
        <Missing name={name} loaded={store.loaded.value} />
      ) : (
        <>
          <AgentState
            row={row}
            config={config}
            journal={journal.value}
            onJournal={() => (journal.value = !journal.value)}
          />
          <ConfigError row={row} />
        </>
      )}
      {config.value && <ConfigViewer agent={name} />}
      {journal.value && <Journal agent={name} />}
      <TranscriptView feed={feed} name={name} />
      {row !== undefined && <PromptLine name={name} />}
    </Frame>
  );
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
