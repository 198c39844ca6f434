import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

interface FoldProps {
  /** Whether it is open at first. What was opened or closed by hand stays so. */
  open?: boolean;
  summary: ComponentChildren;
  testId?: string;
  class?: string;
  children: ComponentChildren;
}

/** Its content is built only while it is open. */
export function Fold({ open: first = false, summary, testId, class: name, children }: FoldProps) {
  const open = useSignal(first);
  return (
    <details
      class={name ? `fold ${name}` : "fold"}
      open={open.value}
      data-testid={testId}
      onToggle={(event) => (open.value = event.currentTarget.open)}
    >
      <summary>{summary}</summary>
      {open.value && children}
    </details>
  );
}
