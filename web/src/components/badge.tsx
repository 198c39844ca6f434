/** The colour and sign of each state; a colour alone would tell nothing to some. */
const LOOKS: Record<string, { sign: string; tone: string }> = {
  thinking: { sign: "●", tone: "work" },
  compacting: { sign: "●", tone: "work" },
  idle: { sign: "○", tone: "good" },
  starting: { sign: "◐", tone: "work" },
  stopping: { sign: "◑", tone: "dim" },
  stopped: { sign: "■", tone: "dim" },
  offline: { sign: "◌", tone: "dim" },
  parked: { sign: "‖", tone: "warn" },
  hibernated: { sign: "☾", tone: "dim" },
  needs_login: { sign: "!", tone: "warn" },
  failed: { sign: "✕", tone: "bad" },
  crashed: { sign: "✕", tone: "bad" },
  dead: { sign: "✕", tone: "bad" },
  denied: { sign: "✕", tone: "dim" },
  queued: { sign: "·", tone: "warn" },
  leased: { sign: "◐", tone: "work" },
  acked: { sign: "✓", tone: "good" },
  pending: { sign: "◇", tone: "warn" },
  approved: { sign: "◐", tone: "work" },
  building: { sign: "◐", tone: "work" },
  answered: { sign: "✓", tone: "good" },
  cancelled: { sign: "✕", tone: "dim" },
  expired: { sign: "✕", tone: "warn" },
  allow: { sign: "✓", tone: "good" },
  ask: { sign: "?", tone: "warn" },
  deny: { sign: "✕", tone: "bad" },
  deployed: { sign: "✓", tone: "good" },
};
const UNKNOWN = { sign: "?", tone: "warn" };

export function Badge({ state, testId = "state" }: { state: string; testId?: string }) {
  const look = Object.hasOwn(LOOKS, state) ? LOOKS[state] : UNKNOWN;
  const { sign, tone } = look ?? UNKNOWN;
  return (
    <span class={`badge tone-${tone}`} data-testid={testId} data-state={state}>
      <span aria-hidden="true" class={tone === "work" ? "sign sign-alive" : "sign"}>
        {sign}
      </span>
      {state.replaceAll("_", " ")}
    </span>
  );
}
