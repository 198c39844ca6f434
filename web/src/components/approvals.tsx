import { type ReadonlySignal, type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Approval } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useEnding, usePresence } from "../held.ts";
import { approvalPath, fragment } from "../route.ts";
import { Act } from "./act.tsx";
import { Badge } from "./badge.tsx";
import { Commit } from "./commit.tsx";
import { Link, Name } from "./link.tsx";
import { ReviewView } from "./review.tsx";
import { Empty, Section } from "./section.tsx";
import { SpawnForm } from "./spawn_form.tsx";
import { Block, Inline } from "./text.tsx";
import { Age } from "./when.tsx";

/** Reviews that are open at first: those of the oldest that wait. Each is a diff that the hive makes. */
const OPEN_REVIEWS = 8;
const AT_WORK = new Set(["approved", "building"]);

/**
 * What waits for the operator's decision, what was decided while the page was open, and the operator's own spawn.
 * Sets `at` to whether somebody is at the list.
 */
export function Approvals({ at }: { at: Signal<boolean> }) {
  const { store } = useApp();
  const list = useRef<HTMLUListElement>(null);
  usePresence(list, at);
  const ids = store.approvals.keys.value;
  const pending = store.approvals.rows().filter((row) => row.status === "pending").length;
  return (
    <Section
      title="pending approvals"
      leet="P3NDING APPR0VALS"
      testId="approvals"
      count={pending}
      urgent={pending > 0}
    >
      {ids.length === 0 && <Empty>nothing waits for you</Empty>}
      <ul class="rows" ref={list}>
        {ids.map((id, index) => (
          <ApprovalRow key={id} id={id} open={index < OPEN_REVIEWS} at={at} />
        ))}
      </ul>
      <SpawnForm />
    </Section>
  );
}

function ApprovalRow({ id, ...rest }: { id: number; open: boolean; at: ReadonlySignal<boolean> }) {
  const { store } = useApp();
  const row = store.approvals.cell(id)?.value;
  return row === undefined ? null : <ApprovalCard row={row} {...rest} />;
}

interface ApprovalCardProps {
  row: Approval;
  /** Whether its change is shown at first, while it waits. */
  open: boolean;
  /** Whether somebody is at the list that it is in. */
  at: ReadonlySignal<boolean>;
}

/** All of one approval: who asks for what, the change, the decision. */
export function ApprovalCard({ row, open, at }: ApprovalCardProps) {
  const { id } = row;
  // What is open stays open when it is decided: nothing moves away under the reader.
  const review = useSignal(open && row.status === "pending");
  const shown = useSignal(false);
  const pending = row.status === "pending";
  const ending = useEnding(pending, at);
  const place = `need-approval-${id}`;
  // Whoever is brought here is to see the change.
  useEffect(() => {
    if (fragment.value.id === place) review.value = true;
  }, [fragment.value]);
  return (
    <li
      id={place}
      tabIndex={-1}
      class={renderRowClass(row)}
      aria-label={`approval ${id}, ${row.kind} of ${row.agent}`}
      data-testid={`approval-${id}`}
      data-status={row.status}
    >
      <div class="row-head">
        <span class="chip chip-kind">{row.kind}</span>
        <span class="name">
          <Inline text={row.agent} />
        </span>
        {!pending && <Status row={row} />}
        <span class="dim">
          <Link to={approvalPath(id)} aria-label={`approval ${id}`} data-testid="approval-link">
            #{id}
          </Link>{" "}
          asked by <Name name={row.requested_by} /> <Age at={row.requested_at} /> ago
        </span>
        <button
          type="button"
          class="act act-quiet row-toggle"
          aria-expanded={review.value}
          aria-label={`the change of approval ${id}`}
          data-testid="review-toggle"
          onClick={() => (review.value = !review.value)}
        >
          change
        </button>
      </div>
      {row.reverts_to !== null && (
        <p class="dim">
          brings back {row.reverts_to === 0 ? "the first config" : `the config of #${row.reverts_to}`}
        </p>
      )}
      {row.description && <Block text={row.description} />}
      {row.reason && (
        <div
          class={row.status === "failed" ? "reason reason-failed" : "reason"}
          data-testid="approval-reason"
        >
          <Block text={row.reason} />
        </div>
      )}
      {review.value && <ReviewView row={row} onShown={() => (shown.value = true)} />}
      {ending.shown && (
        <div class="ending" ref={ending.form} inert={!pending}>
          <Decision row={row} unread={row.commit !== null && !shown.value} />
        </div>
      )}
    </li>
  );
}

function renderRowClass({ status }: Approval): string {
  if (status === "pending") return "row row-asks";
  return AT_WORK.has(status) ? "row row-asks row-work" : "row row-asks row-past";
}

/** How far a decided approval is; what is being built shows that it goes on. */
function Status({ row }: { row: Approval }) {
  return (
    <span class="approval-status">
      {AT_WORK.has(row.status) && <span class="spinner" aria-hidden="true" />}
      <Badge state={row.status} />
      {row.status === "deployed" && row.commit !== null && <Commit commit={row.commit} />}
    </span>
  );
}

interface DecisionProps {
  row: Approval;
  /** The change was not shown yet. Nobody approves what they could not see. */
  unread: boolean;
}

function Decision({ row, unread }: DecisionProps) {
  const { api } = useApp().store;
  const denying = useSignal(false);
  const what = `${row.kind} of ${row.agent}`;
  return (
    <div class="decision">
      <div class="acts">
        <Act
          label={`approve ${what}`}
          testId="approve"
          kind="good"
          disabled={unread}
          until={row.status}
          run={async () => {
            await api.approve(row.id);
            return `${what} is approved`;
          }}
        >
          approve
        </Act>
        <button
          type="button"
          class="act"
          aria-expanded={denying.value}
          aria-label={`deny ${what}, with a reason`}
          data-testid="deny-open"
          onClick={() => (denying.value = !denying.value)}
        >
          deny…
        </button>
        {unread && <span class="dim">can be approved once the change is shown</span>}
      </div>
      {denying.value && <DenyForm row={row} what={what} />}
    </div>
  );
}

function DenyForm({ row, what }: { row: Approval; what: string }) {
  const { api } = useApp().store;
  const reason = useDraft(`deny-${row.id}`);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return (
    <div class="inline-form">
      <input
        ref={field}
        type="text"
        maxLength={2000}
        placeholder={`why not, for ${row.requested_by}`}
        aria-label={`reason to deny ${what}`}
        data-testid="deny-reason"
        value={reason.value}
        onInput={(event) => (reason.value = event.currentTarget.value)}
      />
      <Act
        label={`deny ${what}`}
        testId="deny"
        kind="danger"
        until={row.status}
        onDone={() => (reason.value = "")}
        run={async () => {
          await api.deny(row.id, reason.peek().trim());
          return `${what} is denied`;
        }}
      >
        deny
      </Act>
    </div>
  );
}
