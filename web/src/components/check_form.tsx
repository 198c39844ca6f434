import { useSignal } from "@preact/signals";
import { useId } from "preact/hooks";
import type { PolicyCheckRequest, PolicyDecision } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useFetched } from "../fetched.ts";
import { FetchNote } from "./fetch_note.tsx";
import { Exact } from "./text.tsx";

type Kind = "bash" | "tool" | "recipient";

const KINDS: Record<Kind, { words: string; placeholder: string }> = {
  bash: { words: "bash command", placeholder: "git push origin main" },
  tool: { words: "tool", placeholder: "WebFetch or mcp__github__list_issues" },
  recipient: { words: "send to", placeholder: "the name of an agent, or operator" },
};

interface Asked {
  kind: Kind;
  text: string;
}

/** "Would this be allowed?", answered by what decides when the agent tries. Answered anew when the config changes. */
export function CheckForm({ agent }: { agent: string }) {
  const id = useId();
  const kind = useSignal<Kind>("bash");
  const text = useDraft(`check-${agent}`);
  const asked = useSignal<(Asked & { time: number }) | null>(null);
  const empty = text.value.trim() === "";
  return (
    <div class="config-part">
      <h3 id={id}>would this be allowed?</h3>
      <form
        class="check-form"
        aria-labelledby={id}
        data-testid={`check-form-${agent}`}
        onSubmit={(event) => {
          event.preventDefault();
          if (empty) return;
          const time = (asked.peek()?.time ?? 0) + 1;
          asked.value = { kind: kind.peek(), text: text.peek().trim(), time };
        }}
      >
        <select
          aria-label="kind of act"
          data-testid="check-kind"
          value={kind.value}
          onChange={(event) => (kind.value = event.currentTarget.value as Kind)}
        >
          {Object.entries(KINDS).map(([value, { words }]) => (
            <option key={value} value={value}>
              {words}
            </option>
          ))}
        </select>
        <input
          type="text"
          autocomplete="off"
          autocapitalize="none"
          spellcheck={false}
          maxLength={kind.value === "bash" ? 20_000 : 200}
          placeholder={KINDS[kind.value].placeholder}
          aria-label={KINDS[kind.value].words}
          data-testid="check-input"
          value={text.value}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
        <button type="submit" class="act" aria-disabled={empty || undefined} data-testid="check-submit">
          check
        </button>
      </form>
      <div aria-live="polite">
        {asked.value && <Answer key={asked.value.time} agent={agent} asked={asked.value} />}
      </div>
    </div>
  );
}

function Answer({ agent, asked }: { agent: string; asked: Asked }) {
  const { api, epochs } = useApp().store;
  const fetched = useFetched("check", () => api.checkPolicy(agent, toRequest(asked)), epochs.of(agent));
  const decision = fetched.value.value;
  return (
    <>
      <FetchNote fetched={fetched} what="the answer" />
      {decision && <Decided asked={asked} decision={decision} />}
    </>
  );
}

function Decided({ asked, decision }: { asked: Asked; decision: PolicyDecision }) {
  const tone = { allow: "good", ask: "warn", deny: "bad" }[decision.verdict];
  return (
    <div class="check-result" data-testid="check-result" data-verdict={decision.verdict}>
      <span class="dim">
        {KINDS[asked.kind].words}{" "}
        <code>
          <Exact text={asked.text} />
        </code>
      </span>
      <span>
        <strong class={`tone-${tone}`}>{decision.verdict}</strong> — <Exact text={decision.rule} />
      </span>
      {decision.reason && (
        <span class="dim">
          <Exact text={decision.reason} multiline />
        </span>
      )}
    </div>
  );
}

function toRequest({ kind, text }: Asked): PolicyCheckRequest {
  return { [kind]: text };
}
