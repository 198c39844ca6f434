import { now, renderClock, renderCountdown, renderDuration } from "../time.ts";

/** How long ago an instant was; the instant itself on hover. */
export function Age({ at }: { at: string }) {
  return (
    <time class="age" dateTime={at} title={renderClock(at)}>
      {renderDuration(now.value - Date.parse(at))}
    </time>
  );
}

export const Clock = ({ at }: { at: string }) => (
  <time class="age" dateTime={at} title={new Date(at).toString()}>
    {renderClock(at)}
  </time>
);

/** What is left until an instant. A timer is silent for screen readers unless they go there. */
export function Countdown({ until }: { until: string }) {
  const left = Date.parse(until) - now.value;
  return (
    <span
      class={left < 300_000 ? "countdown countdown-soon" : "countdown"}
      role="timer"
      title={renderClock(until)}
    >
      {left <= 0 ? "expired" : `${renderCountdown(left)} left`}
    </span>
  );
}
