import type { ComponentChildren } from "preact";
import { plainTitles } from "../settings.ts";

interface SectionProps {
  /** The plain words: what assistive technology reads, and everybody when the setting says so. */
  title: string;
  leet: string;
  testId: string;
  count?: number;
  /** Something here waits for the operator. */
  urgent?: boolean;
  children: ComponentChildren;
}

/** A part of a page under a title between ◆. */
export function Section({ title, leet, testId, count, urgent, children }: SectionProps) {
  return (
    <section
      id={`section-${testId}`}
      tabIndex={-1}
      class={urgent ? "section section-urgent" : "section"}
      aria-label={title}
      data-testid={testId}
    >
      <h2 aria-label={title}>
        <span aria-hidden="true" class="diamond">
          ◆
        </span>
        <span aria-hidden="true">{plainTitles.value ? title : leet}</span>
        <span aria-hidden="true" class="diamond">
          ◆
        </span>
        {count !== undefined && count > 0 && <span class="count">{count}</span>}
      </h2>
      {children}
    </section>
  );
}

/** Leetspeak for those who see it and want it: painted by the style sheet. The words are all that is in the page. */
export const Leet = ({ plain, leet }: { plain: string; leet: string }) => (
  <span {...(!plainTitles.value && { class: "leet", "data-leet": leet })}>
    <span class="leet-words">{plain}</span>
  </span>
);

export const Empty = ({ children }: { children: ComponentChildren }) => <p class="empty">{children}</p>;
