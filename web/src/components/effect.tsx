import type { Effect } from "../api_types.ts";

const EFFECTS: Record<Effect, { chip: string; words: string }> = {
  live: { chip: "live", words: "takes effect at once" },
  next_turn: { chip: "next turn", words: "takes effect at the next turn" },
  restart: { chip: "restart", words: "restarts the container: a running turn is given up" },
  rebuild: { chip: "rebuild", words: "is built first, then the container restarts" },
};

/** When a change takes effect. */
export function EffectChip({ effect }: { effect: Effect }) {
  return (
    <span class={`chip chip-${effect}`} title={EFFECTS[effect].words}>
      {EFFECTS[effect].chip}
    </span>
  );
}

export const renderEffect = (effect: Effect) => EFFECTS[effect].words;
