import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Approval } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { Act } from "./act.tsx";
import { Badge } from "./badge.tsx";
import { Name } from "./link.tsx";
import { Empty, Section } from "./section.tsx";
import { SpawnForm } from "./spawn_form.tsx";
import { Block, Inline } from "./text.tsx";
import { Age } from "./when.tsx";

/** What waits for the operator's decision, what was decided while the page was open, and the operator's own spawn. */
export function Approvals() {
  const { store } = useApp();
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
      <ul class="rows">
        {ids.map((id) => (
          <ApprovalRow key={id} id={id} />
        ))}
      </ul>
      <SpawnForm />
    </Section>
  );
}

function ApprovalRow({ id }: { id: number }) {
  const { store } = useApp();
  const row = store.approvals.cell(id)?.value;
  if (row === undefined) return null;
  const pending = row.status === "pending";
  return (
    <li class={pending ? "row" : "row row-past"} data-testid={`approval-${id}`} data-status={row.status}>
      <div class="row-head">
        <span class="chip chip-kind">{row.kind}</span>
        <span class="name">
          <Inline text={row.agent} />
        </span>
        {!pending && <Badge state={row.status} />}
        <span class="dim">
          asked by <Name name={row.requested_by} /> <Age at={row.requested_at} /> ago · #{row.id}
        </span>
      </div>
      {row.description && <Block text={row.description} />}
      {row.reason && (
        <p class="reason">
          <Inline text={row.reason} />
        </p>
      )}
      {pending && <Decision row={row} />}
    </li>
  );
}

function Decision({ row }: { row: Approval }) {
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
        placeholder={`why not? ${row.requested_by} will read this`}
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
