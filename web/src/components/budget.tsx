import { useComputed, useSignal } from "@preact/signals";
import { amountOf, parseTokens, parseUsd, partOf, renderSpent, renderUsd } from "../amount.ts";
import type { Budget } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { useFetched } from "../fetched.ts";
import { EVERYONE } from "../store.ts";
import { renderCount } from "../text.ts";
import { now } from "../time.ts";
import { Act } from "./act.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { AmountField, Grant, isWrong } from "./steering.tsx";
import { Inline } from "./text.tsx";

/** What is spent has no event of its own: it is looked at again this often while somebody looks. */
const LOOK_MS = 20_000;
/** From here on a budget is near its end. */
export const WARN_PERCENT = 80;

/** What the whole hive spent in the last day, of what it may. */
export function HiveBudget() {
  const { api, budgetEpochs } = useApp().store;
  const epoch = useComputed(() => budgetEpochs.of(EVERYONE).value + Math.floor(now.value / LOOK_MS));
  const fetched = useFetched("budgets", api.budgets, epoch);
  const budget = fetched.value.value?.find(({ agent }) => agent === EVERYONE);
  return (
    <div class="hive-budget" data-testid="hive-budget">
      {fetched.error.value && <FetchNote fetched={fetched} what="what is spent" />}
      {budget && <Spending budget={budget} onChange={fetched.fetchNow} />}
    </div>
  );
}

function Spending({ budget, onChange }: { budget: Budget; onChange: () => Promise<void> }) {
  const { api } = useApp().store;
  const editing = useSignal(false);
  const tokens = budget.tokens_per_day === null ? null : budget.tokens_per_day + budget.granted_tokens;
  const usd = budget.usd_per_day === null ? null : budget.usd_per_day + budget.granted_usd;
  const limited = tokens !== null || usd !== null;
  const mark = JSON.stringify([budget.granted_tokens, budget.granted_usd, tokens, usd]);
  return (
    <>
      <div class="spent-line">
        <span>
          spent in 24 h:{" "}
          <strong>{renderSpent(budget.day_tokens, budget.day_usd, budget.day_unpriced)}</strong>
          {limited && <span class="dim"> of {renderBudget(tokens, usd)}</span>}
        </span>
        <span class="acts">
          {limited && (
            <Grant
              of="the hive"
              until={mark}
              grant={async (amount) => {
                await api.grantHive(amount);
                await onChange();
              }}
            />
          )}
          <button
            type="button"
            class="act act-quiet"
            aria-expanded={editing.value}
            aria-label={`${limited ? "budget…" : "set a budget…"} for the hive`}
            data-testid="budget-edit"
            onClick={() => (editing.value = !editing.value)}
          >
            {limited ? "budget…" : "set a budget…"}
          </button>
        </span>
      </div>
      {budget.problem && (
        <p class="rule rule-broken" role="alert" data-testid="budget-problem">
          <Inline text={budget.problem} />: until that is mended, the prices from before count
        </p>
      )}
      <SpendBar of="tokens" part={partOf(budget.day_tokens, tokens)} />
      <SpendBar of="money" part={partOf(budget.day_usd, usd)} />
      {editing.value && <BudgetForm onChange={onChange} onDone={() => (editing.value = false)} />}
    </>
  );
}

const renderBudget = (tokens: number | null, usd: number | null) =>
  [tokens === null ? "" : `${renderCount(tokens)} tokens`, usd === null ? "" : renderUsd(usd)]
    .filter(Boolean)
    .join(" and ");

/** How much of a budget is spent, as a thin bar; nothing without a budget. */
function SpendBar({ of, part }: { of: string; part: number | null }) {
  if (part === null) return null;
  return (
    <div class={part >= WARN_PERCENT ? "spent spent-near" : "spent"} data-testid="spent" data-percent={part}>
      <progress max={100} value={Math.min(100, part)} aria-label={`${part} % of the hive's ${of}`} />
      <span class="dim">
        {part} % of {of}
      </span>
    </div>
  );
}

function BudgetForm({ onChange, onDone }: { onChange: () => Promise<void>; onDone: () => void }) {
  const { api } = useApp().store;
  const tokens = useDraft("budget-tokens");
  const usd = useDraft("budget-usd");
  const typed = [parseTokens(tokens.value), parseUsd(usd.value)] as const;
  const none = typed.every(({ state }) => state === "empty");
  return (
    <div class="amounts" data-testid="budget-form">
      <AmountField
        draft={tokens}
        typed={typed[0]}
        label="tokens the hive may spend in 24 hours"
        unit="tokens"
      />
      <AmountField draft={usd} typed={typed[1]} label="dollars the hive may spend in 24 hours" unit="$" />
      <Act
        label="set the hive's budget for 24 hours"
        testId="budget-submit"
        kind="good"
        disabled={typed.some(isWrong)}
        onDone={() => {
          tokens.value = "";
          usd.value = "";
          onDone();
        }}
        run={async () => {
          await api.setBudget({ tokens_per_day: amountOf(typed[0]), usd_per_day: amountOf(typed[1]) });
          await onChange();
          return none ? "the hive has no budget" : "the hive's budget is set";
        }}
      >
        {none ? "no limit" : "set per 24 h"}
      </Act>
      <span class="dim">what is left empty is not limited</span>
    </div>
  );
}
