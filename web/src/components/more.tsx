import { LIFETIMES, PRIORITIES, type useSendOptions } from "../send_options.ts";

/** The priority and the lifetime of a message that is being written, folded away. */
export function More({ options, testId }: { options: ReturnType<typeof useSendOptions>; testId: string }) {
  const { priority, lifetime, words } = options;
  return (
    <details class="more" data-testid={`${testId}-more`}>
      <summary>
        more{" "}
        {words && (
          <span class="chip chip-warn" data-testid={`${testId}-chosen`}>
            {words}
          </span>
        )}
      </summary>
      <div class="more-fields">
        <label>
          <span class="dim">priority</span>
          <select
            data-testid={`${testId}-priority`}
            value={priority.value || "normal"}
            onChange={(event) => (priority.value = event.currentTarget.value)}
          >
            {PRIORITIES.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span class="dim">expires after</span>
          <select
            data-testid={`${testId}-lifetime`}
            value={lifetime.value}
            onChange={(event) => (lifetime.value = event.currentTarget.value)}
          >
            <option value="">never</option>
            {LIFETIMES.map(([text, seconds]) => (
              <option key={seconds} value={String(seconds)}>
                {text}
              </option>
            ))}
          </select>
        </label>
      </div>
    </details>
  );
}
