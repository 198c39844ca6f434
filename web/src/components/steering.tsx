import { useSignal } from "@preact/signals";
import { amountOf, parseTokens, parseUsd, type Typed } from "../amount.ts";
import type { AgentRow, GrantRequest, Park } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { Act } from "./act.tsx";

/** What changes when an agent is parked, or not any more. */
const parkMark = (park: Park | null) => (park === null ? "" : `${park.kind} ${park.since} ${park.until}`);

/** The acts on whether an agent runs turns. What holds for the whole hive is not undone for one of its agents. */
export function Steering({ row }: { row: AgentRow }) {
  const { api } = useApp().store;
  const { name, park } = row;
  const until = parkMark(park);
  if (park !== null && !park.hive && park.kind === "budget")
    return (
      <Grant
        key={name}
        of={name}
        until={`${until} ${row.budget_tokens} ${row.budget_usd}`}
        grant={(amount) => api.grant(name, amount)}
      />
    );
  if (park === null || park.hive)
    return (
      <Act
        label={`pause ${name}`}
        testId="pause"
        until={until}
        run={async () => {
          await api.pause(name);
          return `${name} is paused: its messages wait`;
        }}
      >
        pause
      </Act>
    );
  return (
    <Act
      label={`resume ${name}`}
      testId="resume"
      kind="good"
      until={until}
      run={async () => {
        await api.resume(name);
        return `${name} goes on`;
      }}
    >
      {park.kind === "paused" ? "resume" : "try now"}
    </Act>
  );
}

interface GrantProps {
  /** Whose budget: an agent's name, or words for the hive's. */
  of: string;
  until: string;
  grant: (amount: GrantRequest) => Promise<unknown>;
}

/** More to spend for a day: half of the budget by one click, or as much as is typed. */
export function Grant({ of, until, grant }: GrantProps) {
  const open = useSignal(false);
  return (
    <>
      <Act
        label={`grant half of the budget of ${of} on top`}
        testId="grant"
        kind="good"
        until={until}
        run={async () => {
          await grant({});
          return `${of}: half of the budget more, for 24 hours`;
        }}
      >
        grant half more
      </Act>
      <button
        type="button"
        class="act"
        aria-expanded={open.value}
        aria-label={`grant ${of} an amount`}
        data-testid="grant-open"
        onClick={() => (open.value = !open.value)}
      >
        grant…
      </button>
      {open.value && <GrantForm of={of} until={until} grant={grant} onDone={() => (open.value = false)} />}
    </>
  );
}

function GrantForm({ of, until, grant, onDone }: GrantProps & { onDone: () => void }) {
  const tokens = useDraft(`grant-tokens-${of}`);
  const usd = useDraft(`grant-usd-${of}`);
  const typed = [parseTokens(tokens.value), parseUsd(usd.value)] as const;
  return (
    <div class="amounts" data-testid="grant-form">
      <AmountField draft={tokens} typed={typed[0]} label={`tokens to grant ${of}`} unit="tokens" />
      <AmountField draft={usd} typed={typed[1]} label={`dollars to grant ${of}`} unit="$" />
      <Act
        label={`grant ${of} this much for 24 hours`}
        testId="grant-submit"
        kind="good"
        disabled={typed.some(isWrong) || !typed.some(isAmount)}
        until={until}
        onDone={() => {
          tokens.value = "";
          usd.value = "";
          onDone();
        }}
        run={async () => {
          await grant({ tokens: amountOf(typed[0]), usd: amountOf(typed[1]) });
          return `${of} may spend more, for 24 hours`;
        }}
      >
        grant for 24 h
      </Act>
    </div>
  );
}

export const isWrong = (typed: Typed) => typed.state === "wrong";
export const isAmount = (typed: Typed) => typed.state === "amount";

interface AmountFieldProps {
  draft: { value: string };
  typed: Typed;
  label: string;
  unit: string;
}

export function AmountField({ draft, typed, label, unit }: AmountFieldProps) {
  return (
    <label class="amount">
      <input
        type="text"
        inputMode="decimal"
        autocomplete="off"
        maxLength={20}
        aria-label={label}
        aria-invalid={isWrong(typed)}
        data-testid={unit === "$" ? "amount-usd" : "amount-tokens"}
        placeholder={unit === "$" ? "5.00" : "500k"}
        value={draft.value}
        onInput={(event) => (draft.value = event.currentTarget.value)}
      />
      <span class="dim">{unit}</span>
    </label>
  );
}
