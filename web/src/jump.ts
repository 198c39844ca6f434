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
 * the page. `mark` changes when there may be others. Whoever types meanwhile is left alone.
 */
export function useJump(prefix: string, mark: unknown): void {
  const wanted = fragment.value;
  const done = useRef<object | null>(null);
  useEffect(() => {
    if (done.current === wanted || !wanted.id.startsWith(prefix)) return;
    if (document.getElementById(wanted.id) === null) return;
    done.current = wanted;
    if (!document.activeElement?.matches("input, textarea, select")) jumpTo(wanted.id);
  }, [wanted, prefix, mark]);
}
