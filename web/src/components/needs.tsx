import { useLayoutEffect, useRef } from "preact/hooks";
import type { Need, NeedKind } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useHeld } from "../held.ts";
import { useJump } from "../jump.ts";
import { agentPath, isAgentName } from "../route.ts";
import { Link } from "./link.tsx";
import { NeedActs } from "./needs_acts.tsx";
import { Empty, Section } from "./section.tsx";
import { Inline } from "./text.tsx";
import { Age, Countdown } from "./when.tsx";

const KINDS: Record<NeedKind, string> = {
  approval: "approval",
  question: "question",
  permission: "permission",
  notes: "notes",
  login: "login",
  crash: "failed",
  budget: "budget",
  limit: "usage limit",
  dead_letter: "dead letter",
  runaway: "runaway",
};

/** The one queue of what waits for the operator, the most urgent first; each is dealt with where it stands. */
export function Needs() {
  const { store } = useApp();
  const keys = store.needs.keys.value;
  const list = useRef<HTMLUListElement>(null);
  const shown = useHeld(keys, list);
  const there = new Set(keys);
  useJump("need", shown.join(" "));
  useKeptFocus(list, shown.filter((key) => !there.has(key)).join(" "));
  return (
    <div id="needs" tabIndex={-1}>
      <Section title="needs you" leet="N33DS Y0U" testId="needs" count={keys.length} urgent={keys.length > 0}>
        {shown.length === 0 && <Empty>{store.loaded.value ? "nothing needs you" : "not known yet"}</Empty>}
        <ul class="rows" ref={list}>
          {shown.map((key) => (
            <NeedRow key={key} id={key} gone={!there.has(key)} />
          ))}
        </ul>
      </Section>
    </div>
  );
}

/** `gone`: it waits no more, and stays in its place until nobody is at the list. */
function NeedRow({ id, gone }: { id: string; gone: boolean }) {
  const { store } = useApp();
  const last = useRef<Need | undefined>(undefined);
  last.current = store.needs.cell(id)?.value ?? last.current;
  const need = last.current;
  if (need === undefined) return null;
  return (
    <li
      id={`need-${id}`}
      tabIndex={-1}
      class={gone ? "row need need-gone" : "row need"}
      aria-labelledby={`need-title-${id}`}
      data-testid={`need-${id}`}
      data-kind={need.kind}
      data-gone={gone || undefined}
      inert={gone}
    >
      <div class="row-head">
        <span class="chip chip-kind">{KINDS[need.kind] ?? need.kind}</span>
        <span id={`need-title-${id}`} class="need-title">
          <Inline text={need.title} />
        </span>
        <span class="dim">
          for <Age at={need.since} />
        </span>
        {gone ? (
          <span class="dim" data-testid="need-ended">
            needs you no more
          </span>
        ) : (
          need.deadline !== null && <Countdown until={need.deadline} />
        )}
        <AgentLink agent={need.agent} />
      </div>
      <NeedActs need={need} />
      <p class="dim need-default">
        if you do nothing: <Inline text={need.by_default} />
      </p>
    </li>
  );
}

/** To the page of the agent it is about, if there is one. */
function AgentLink({ agent }: { agent: string | null }) {
  const { store } = useApp();
  if (agent === null || !isAgentName(agent) || !store.agents.keys.value.includes(agent)) return null;
  return (
    <Link to={agentPath(agent)} class="need-agent" aria-label={`the page of ${agent}`}>
      {agent} →
    </Link>
  );
}

/** The focus does not fall off with a row that ends: it goes to the next one, or to the section. */
function useKeptFocus(list: { current: HTMLUListElement | null }, gone: string): void {
  useLayoutEffect(() => {
    const row = document.activeElement?.closest<HTMLElement>("li.need-gone");
    if (!row || !list.current?.contains(row)) return;
    const rows = [...list.current.querySelectorAll<HTMLElement>("li.need")];
    const at = rows.indexOf(row);
    const next = [...rows.slice(at + 1), ...rows.slice(0, at).reverse()].find(
      (other) => !other.classList.contains("need-gone"),
    );
    (next ?? document.getElementById("needs"))?.focus();
  }, [list, gone]);
}
