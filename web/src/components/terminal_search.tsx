import { useSignal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Session } from "../terminal/session.ts";

/** Searches what is on a terminal and above it. Enter goes down, shift+enter up, escape back to the shell. */
export function TerminalSearch({ session, onClose }: { session: Session; onClose: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const missed = useSignal(false);
  useLayoutEffect(() => field.current?.focus(), []);

  function find(backwards: boolean, incremental = false): void {
    const text = field.current?.value ?? "";
    missed.value = text !== "" && !session.find(text, backwards, incremental);
  }

  return (
    <search class="terminal-search">
      <input
        ref={field}
        type="search"
        placeholder="search the terminal"
        aria-label="search the terminal"
        data-testid="terminal-search"
        onInput={() => find(false, true)}
        onKeyDown={(event) => {
          if (event.key === "Enter") find(event.shiftKey);
          else if (event.key === "Escape") onClose();
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <button type="button" class="act" aria-label="previous match" onClick={() => find(true)}>
        ↑
      </button>
      <button type="button" class="act" aria-label="next match" onClick={() => find(false)}>
        ↓
      </button>
      <span role="status" class="rule" data-testid="terminal-search-note">
        {missed.value && "no match"}
      </span>
    </search>
  );
}
