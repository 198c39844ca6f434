import { type ReadonlySignal, type Signal, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import type { Question } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useEnding, usePresence } from "../held.ts";
import { agentPath, isAgentName, questionPath } from "../route.ts";
import { now } from "../time.ts";
import { Act } from "./act.tsx";
import { Badge } from "./badge.tsx";
import { Link, Name } from "./link.tsx";
import { AskedNotes } from "./notes.tsx";
import { PermissionForm, PermissionText } from "./permission_form.tsx";
import { Section } from "./section.tsx";
import { Block, Inline } from "./text.tsx";
import { Age, Countdown } from "./when.tsx";

/**
 * What agents ask the operator; the store holds no other questions. Not shown while nobody asked anything. Sets `at` to
 * whether somebody is at the list.
 */
export function Questions({ at }: { at: Signal<boolean> }) {
  const { store } = useApp();
  const ids = store.questions.keys.value;
  if (ids.length === 0) return null;
  const open = store.questions.rows().filter((row) => row.status === "open").length;
  return (
    <Section
      title="questions to you"
      leet="M1ND H4S QU3STI0NS"
      testId="questions"
      count={open}
      urgent={open > 0}
    >
      <QuestionList ids={ids} at={at} />
    </Section>
  );
}

function QuestionList({ ids, at }: { ids: readonly number[]; at: Signal<boolean> }) {
  const list = useRef<HTMLUListElement>(null);
  usePresence(list, at);
  return (
    <ul class="rows" ref={list}>
      {ids.map((id) => (
        <QuestionRow key={id} id={id} at={at} />
      ))}
    </ul>
  );
}

function QuestionRow({ id, at }: { id: number; at: ReadonlySignal<boolean> }) {
  const { store } = useApp();
  const row = store.questions.cell(id)?.value;
  return row === undefined ? null : <QuestionCard row={row} at={at} />;
}

/** All of one question, and its answer. `at`: whether somebody is at the list that it is in. */
export function QuestionCard({ row, at }: { row: Question; at: ReadonlySignal<boolean> }) {
  const { id } = row;
  const open = row.status === "open";
  const ending = useEnding(open, at);
  const permission = row.kind === "permission";
  return (
    <li
      id={`need-${row.kind}-${id}`}
      tabIndex={-1}
      class={open ? "row row-asks" : "row row-asks row-past"}
      aria-label={`${row.kind} ${id} of ${row.agent}`}
      data-testid={`question-${id}`}
      data-status={row.status}
    >
      <div class="row-head">
        {row.kind !== "question" && <span class="chip chip-kind">{row.kind}</span>}
        {row.kind === "notes" ? (
          <span>
            a rewrite of the notes of <Name name={row.agent} />
          </span>
        ) : (
          <Name name={row.agent} />
        )}
        <span class="dim">
          <Link to={questionPath(id)} aria-label={`question ${id}`} data-testid="question-link">
            #{id}
          </Link>{" "}
          asked <Age at={row.asked_at} /> ago
        </span>
        {open ? <Countdown until={row.expires_at} /> : <Badge state={row.status} />}
      </div>
      {permission ? <PermissionText text={row.question} /> : <Block text={row.question} />}
      {row.kind === "notes" && <NotesLink row={row} />}
      {row.answer !== null && !ending.shown && (
        <p class="reason">
          → <Inline text={row.answer} />
        </p>
      )}
      {ending.shown && (
        <div class="ending" ref={ending.form} inert={!open}>
          {permission ? <PermissionForm row={row} /> : <AnswerForm row={row} />}
        </div>
      )}
    </li>
  );
}

/** A rewriting of notes that lost much: what it changes, here and on the agent's page. */
function NotesLink({ row }: { row: Question }) {
  const shown = useSignal(false);
  return (
    <>
      <div class="acts">
        <button
          type="button"
          class="act"
          aria-expanded={shown.value}
          aria-label={`what the rewriting changes in the notes of ${row.agent}`}
          data-testid="asked-notes-toggle"
          onClick={() => (shown.value = !shown.value)}
        >
          show the change
        </button>
        {isAgentName(row.agent) && <Link to={`${agentPath(row.agent)}#notes`}>all versions</Link>}
      </div>
      {shown.value && <AskedNotes agent={row.agent} />}
    </>
  );
}

function AnswerForm({ row }: { row: Question }) {
  const { api } = useApp().store;
  const chosen = useSignal<readonly string[]>([]);
  const text = useDraft(`answer-${row.id}`);
  const empty = chosen.value.length === 0 && text.value.trim() === "";
  const expired = Date.parse(row.expires_at) <= now.value;
  return (
    <div class="answer">
      {row.options.length > 0 && <Options row={row} chosen={chosen} />}
      <textarea
        rows={2}
        maxLength={16_000}
        placeholder={row.options.length > 0 ? "or in your own words" : "your answer"}
        aria-label={`your answer to ${row.agent}, in your own words`}
        data-testid="answer-text"
        data-first={row.options.length === 0 || undefined}
        value={text.value}
        onInput={(event) => (text.value = event.currentTarget.value)}
      />
      <div class="acts">
        <Act
          label={`answer ${row.agent}`}
          testId="answer"
          kind="good"
          until={row.status}
          disabled={empty || expired}
          onDone={() => (text.value = "")}
          run={async () => {
            await api.answer(row.id, { options: [...chosen.peek()], text: text.peek().trim() });
            return `${row.agent} has your answer`;
          }}
        >
          answer
        </Act>
        <Act
          label={`cancel the question of ${row.agent}`}
          testId="question-cancel"
          until={row.status}
          confirm="cancel this question? it ends without an answer"
          run={async () => {
            await api.cancelQuestion(row.id);
            return "the question is cancelled";
          }}
        >
          cancel
        </Act>
      </div>
    </div>
  );
}

function Options({ row, chosen }: { row: Question; chosen: Signal<readonly string[]> }) {
  function choose(option: string, on: boolean): void {
    const others = row.multi ? chosen.peek().filter((other) => other !== option) : [];
    chosen.value = on ? [...others, option] : others;
  }
  return (
    <fieldset class="options">
      <legend class="visually-hidden">
        {row.multi ? "choose any" : "choose one"} for {row.agent}
      </legend>
      {row.options.map((option, index) => (
        <label key={option}>
          <input
            type={row.multi ? "checkbox" : "radio"}
            name={`question-${row.id}`}
            data-first={index === 0 || undefined}
            checked={chosen.value.includes(option)}
            onChange={(event) => choose(option, event.currentTarget.checked)}
          />
          <Inline text={option} />
        </label>
      ))}
    </fieldset>
  );
}
