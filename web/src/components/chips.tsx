import { partOf, renderSpent, renderUsd } from "../amount.ts";
import type { AgentRow } from "../api_types.ts";
import { renderCount } from "../text.ts";
import { describeOutcome } from "../transcript/outcome.ts";
import { WARN_PERCENT } from "./budget.tsx";
import { Inline } from "./text.tsx";

/** The model that claude last reported, and the one that was chosen by hand, if any. */
export function ModelChip({ row }: { row: AgentRow }) {
  return (
    <span class="chip" data-testid="model">
      {row.model ? <Inline text={row.model} /> : "model not known yet"}
      {row.chosen_model && (
        <span class="tone-work" data-testid="chosen-model">
          {" "}
          {row.chosen_model === row.model ? (
            "chosen by hand"
          ) : (
            <>
              chosen by hand: <Inline text={row.chosen_model} />
            </>
          )}
        </span>
      )}
    </span>
  );
}

/** How full the context was at the last inference, as it was reported: also when that is more than the window. */
export function ContextChip({ row }: { row: AgentRow }) {
  const { context_tokens: tokens, context_limit: limit } = row;
  if (tokens <= 0) return null;
  const part = limit > 0 ? Math.round((100 * tokens) / limit) : null;
  return (
    <span class={part !== null && part >= WARN_PERCENT ? "chip chip-warn" : "chip"} data-testid="context">
      {part === null ? `${renderCount(tokens)} tokens of context` : `${part} % of ${renderCount(limit)}`}
      <span class="visually-hidden"> context used</span>
    </span>
  );
}

/** What the conversation and the last 24 hours cost, as far as it is known, and how much of the budget that is. */
export function CostChip({ row }: { row: AgentRow }) {
  const day = row.day_tokens > 0 || row.day_usd > 0;
  if (!day && row.session_usd === null && spentPart(row) === null) return null;
  const part = spentPart(row);
  return (
    <span class={part !== null && part >= WARN_PERCENT ? "chip chip-warn" : "chip"} data-testid="cost">
      {row.session_usd !== null && `session ${renderUsd(row.session_usd)} · `}
      24 h: {renderSpent(row.day_tokens, row.day_usd, row.day_unpriced)}
      {part !== null && ` · ${part} % of its budget`}
    </span>
  );
}

/** The fuller one of an agent's budgets, in percent; null when it has none. */
function spentPart(row: AgentRow): number | null {
  const parts = [partOf(row.day_tokens, row.budget_tokens), partOf(row.day_usd, row.budget_usd)];
  const known = parts.filter((part) => part !== null);
  return known.length === 0 ? null : Math.max(...known);
}

/** How much of its budget an agent spent, once there is something to say. */
export function BudgetChip({ row }: { row: AgentRow }) {
  const part = spentPart(row);
  if (part === null) return null;
  return (
    <span class={part >= WARN_PERCENT ? "chip chip-warn" : "chip"} data-testid="budget">
      {part} % of its budget
    </span>
  );
}

export function WaitingChip({ row }: { row: AgentRow }) {
  if (row.waiting === 0) return null;
  return (
    <span class="chip chip-warn" data-testid="waiting">
      {row.waiting} waiting
    </span>
  );
}

export function LastTurnChip({ row }: { row: AgentRow }) {
  if (row.turns === 0) return null;
  const { words, tone } = describeOutcome(row.last_outcome);
  return (
    <span class={tone === "good" ? "chip" : "chip chip-warn"} data-testid="last-turn">
      {row.turns} turn{row.turns === 1 ? "" : "s"}, last: <Inline text={words} />
    </span>
  );
}
