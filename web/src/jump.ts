import { useEffect, useRef } from "preact/hooks";
import { fragment } from "./route.ts";

/**
 * Shows an element of the page and gives the focus to what is first to be filled in within it (`data-first`), else to
 * itself, as far as it takes it. Tells whether there is one.
 */
export function jumpTo(id: string): boolean {
  const element = id === "" ? null : document.getElementById(id);
  if (element === null) return false;
  const first = element.querySelector<HTMLElement>("[data-first]");
  first?.focus({ preventScroll: true });
  const focused = first !== null && document.activeElement === first;
  if (!focused) element.focus({ preventScroll: true });
  // What is too long to be seen at once is shown where it is filled in, or else from where it begins.
  if (element.offsetHeight <= window.innerHeight) element.scrollIntoView({ block: "center" });
  else if (focused) first.scrollIntoView({ block: "center" });
  else element.scrollIntoView({ block: "start" });
  return true;
}

/**
 * Goes to the element that the address names once it is there, if its id begins with `prefix`: a row may come later than
 * the page, and another element with its name later still, which is gone to from the first. `mark` changes when there may
 * be others. Whoever types meanwhile, or has gone elsewhere, is left alone.
 */
export function useJump(prefix: string, mark: unknown): void {
  const wanted = fragment.value;
  const done = useRef<{ wanted: object; element: HTMLElement } | null>(null);
  useEffect(() => {
    const element = wanted.id.startsWith(prefix) ? document.getElementById(wanted.id) : null;
    const before = done.current?.wanted === wanted ? done.current.element : null;
    if (element === null || element === before) return;
    done.current = { wanted, element };
    const at = document.activeElement;
    if (before === null ? !at?.matches("input, textarea, select") : at === before) jumpTo(wanted.id);
  }, [wanted, prefix, mark]);
}
