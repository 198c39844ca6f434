import type { ReadonlySignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Need, NeedKind } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useHeld } from "../held.ts";
import { useJump } from "../jump.ts";
import { agentPath, isAgentName } from "../route.ts";
import { Link } from "./link.tsx";
import { NeedActs } from "./needs_acts.tsx";
import { Empty, Section } from "./section.tsx";
import { Block, Inline } from "./text.tsx";
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

/** What is asked in a section of its own, and only there: whose rows these are, and what one does there. */
const ASKED: Partial<Record<NeedKind, { table: "approvals" | "questions"; words: string }>> = {
  approval: { table: "approvals", words: "decide" },
  question: { table: "questions", words: "answer" },
  permission: { table: "questions", words: "allow or deny" },
  notes: { table: "questions", words: "answer" },
};

/**
 * The one queue of what waits for the operator, the most urgent first. What has a section of its own is asked there and
 * has one line here, with the way to it; the rest is dealt with where it stands. Rows keep their places while somebody
 * is at them, or `answering` below them.
 */
export function Needs({ answering }: { answering: ReadonlySignal<boolean> }) {
  const { store } = useApp();
  const keys = store.needs.keys.value;
  const list = useRef<HTMLUListElement>(null);
  const shown = useHeld(keys, list, answering);
  const there = new Set(keys);
  // What is asked elsewhere has its place there, which may come later than the row here.
  useJump("need", [shown, store.questions.keys.value, store.approvals.keys.value].join(" "));
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
  const asked = ASKED[need.kind];
  // Its place may come later than the need; from then on the address is that of the place.
  const placed = asked !== undefined && store[asked.table].keys.value.includes(Number(need.ref));
  return (
    <li
      id={placed ? undefined : `need-${id}`}
      tabIndex={-1}
      class={gone ? "row need need-gone" : "row need"}
      aria-labelledby={`need-title-${id}`}
      data-testid={`need-${id}`}
      data-kind={need.kind}
      data-gone={gone || undefined}
      inert={gone}
    >
      <div class={asked ? "row-head need-line" : "row-head"}>
        <span class="chip chip-kind">{KINDS[need.kind] ?? need.kind}</span>
        <Title need={need} />
        {asked && need.detail && (
          <span class="need-text">
            <Inline text={need.detail.replace(/\s+/g, " ")} />
          </span>
        )}
        <span class="need-when">
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
        </span>
        {asked === undefined && <AgentLink agent={need.agent} />}
        {asked && placed && (
          <Link
            to={`/#need-${id}`}
            class="act act-good need-go"
            aria-label={`${asked.words}: ${need.title}`}
            data-testid="need-go"
          >
            {asked.words} ↓
          </Link>
        )}
      </div>
      {asked === undefined && need.detail && <Block text={need.detail} />}
      {asked === undefined && <NeedActs need={need} />}
      <p class="dim need-default">
        if you do nothing: <Inline text={need.by_default} />
      </p>
    </li>
  );
}

/** What it is, or where an agent's own text follows, who asks. */
function Title({ need }: { need: Need }) {
  const asks = ASKED[need.kind]?.table === "questions" && need.agent !== null;
  return (
    <>
      {asks && (
        <span class="need-title" aria-hidden="true">
          <Inline text={need.agent ?? ""} />
        </span>
      )}
      <span id={`need-title-${need.key}`} class={asks ? "visually-hidden" : "need-title"}>
        <Inline text={need.title} />
      </span>
    </>
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
