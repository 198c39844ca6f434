import { useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import type { Api } from "../api.ts";
import type { Need } from "../api_types.ts";
import { useApp } from "../context.ts";
import { jumpTo } from "../jump.ts";
import { agentPath, isAgentName } from "../route.ts";
import { Act, type ActProps } from "./act.tsx";
import { Decision } from "./approvals.tsx";
import { Link } from "./link.tsx";
import { PermissionForm, PermissionText } from "./permission_form.tsx";
import { AnswerForm, NotesLink } from "./questions.tsx";
import { ReviewView } from "./review.tsx";
import { Grant } from "./steering.tsx";
import { Block } from "./text.tsx";

/** Begins the test ids and drafts of what stands in the sections of approvals and questions, too. */
const PLACE = "need-";

/** What a need is about, and what can be done about it right there. */
export function NeedActs({ need }: { need: Need }) {
  if (need.kind === "approval") return <ApprovalActs need={need} />;
  if (need.acts.includes("answer")) return <QuestionActs need={need} />;
  return (
    <>
      <Detail need={need} />
      {need.acts.length > 0 && (
        <div class="acts">
          {need.acts.map((name) => (
            <OneAct key={name} need={need} name={name} />
          ))}
        </div>
      )}
    </>
  );
}

const Detail = ({ need }: { need: Need }) => (need.detail ? <Block text={need.detail} /> : null);

/** Decided here, with the change folded out, or where all approvals stand. */
function ApprovalActs({ need }: { need: Need }) {
  const { store } = useApp();
  const review = useSignal(false);
  const shown = useSignal(false);
  const row = findRow(store.approvals, need);
  if (row === undefined) return <Detail need={need} />;
  return (
    <>
      <Detail need={need} />
      <div class="acts">
        <button
          type="button"
          class="act"
          aria-expanded={review.value}
          aria-label={`the change of approval ${row.id}, here`}
          data-testid="need-review-toggle"
          onClick={() => (review.value = !review.value)}
        >
          {review.value ? "fold the change" : "show the change"}
        </button>
        <button
          type="button"
          class="act act-quiet"
          aria-label={`go to approval ${row.id}`}
          data-testid="need-go"
          onClick={() => jumpTo(`approval-${row.id}`)}
        >
          #{row.id} below
        </button>
      </div>
      {review.value && <ReviewView row={row} onShown={() => (shown.value = true)} />}
      <Decision row={row} unread={row.commit !== null && !shown.value} place={PLACE} />
    </>
  );
}

function QuestionActs({ need }: { need: Need }) {
  const { store } = useApp();
  const row = findRow(store.questions, need);
  if (row === undefined) return <Detail need={need} />;
  if (row.kind === "permission")
    return (
      <>
        <PermissionText text={row.question} />
        <PermissionForm row={row} place={PLACE} />
      </>
    );
  return (
    <>
      <Block text={row.question} />
      {row.kind === "notes" && <NotesLink row={row} />}
      <AnswerForm row={row} place={PLACE} />
    </>
  );
}

interface Rows<T> {
  keys: { value: number[] };
  cell: (id: number) => { value: T } | undefined;
}

/** The row that a need is about; it may come a moment later than the need. */
function findRow<T>(rows: Rows<T>, need: Need): T | undefined {
  const id = Number(need.ref);
  return rows.keys.value.includes(id) ? rows.cell(id)?.value : undefined;
}

type ActWords = Pick<ActProps, "kind" | "label" | "children" | "run">;

/** Acts of one click by their names. `agent` is null for what is the whole hive's. */
const ACTS: Record<string, (api: Api, need: Need) => ActWords> = {
  resume: (api, { agent }) => ({
    kind: "good",
    label: `let ${agent ?? "the hive"} try again`,
    children: "try now",
    async run() {
      await (agent === null ? api.resumeAll() : api.resume(agent));
      return `${agent ?? "the hive"} tries again`;
    },
  }),
  start: (api, { agent }) => ({
    kind: "good",
    label: `start ${agent}`,
    children: "start",
    async run() {
      await api.start(agent ?? "");
      return `${agent} is being started`;
    },
  }),
  release: (api, { ref }) => {
    const [one = "", other = ""] = ref.split(".");
    return {
      kind: "good",
      label: `let ${one} and ${other} write to each other again`,
      children: "let them go on",
      async run() {
        await api.release(one, other);
        return `${one} and ${other} may go on`;
      },
    };
  },
  requeue: (api, { agent, ref }) => ({
    kind: "good",
    label: `queue message ${ref} to ${agent} again`,
    children: "queue again",
    async run() {
      await api.requeue(Number(ref));
      return `message ${ref} is queued again`;
    },
  }),
  dismiss: (api, { ref }) => ({
    label: `dismiss message ${ref}`,
    children: "dismiss",
    async run() {
      await api.dismiss(Number(ref));
      return `message ${ref} stays undelivered`;
    },
  }),
};

function OneAct({ need, name }: { need: Need; name: string }): JSX.Element | null {
  const { api } = useApp().store;
  const { agent } = need;
  if (name === "login" && agent !== null && isAgentName(agent))
    return <ActLink to={`${agentPath(agent)}#login`}>log {agent} in</ActLink>;
  if (name === "grant")
    return (
      <Grant
        of={agent ?? "the hive"}
        until={`${need.since} ${need.deadline} ${need.detail}`}
        grant={(amount) => (agent === null ? api.grantHive(amount) : api.grant(agent, amount))}
      />
    );
  const words = Object.hasOwn(ACTS, name) ? ACTS[name]?.(api, need) : undefined;
  // An act of a later version is no reason to show a button that does nothing.
  return words === undefined ? null : <Act {...words} testId={`need-${name}`} until={need.since} />;
}

const ActLink = ({ to, children }: { to: string; children: ComponentChildren }) => (
  <Link to={to} class="act act-good">
    {children}
  </Link>
);
