import { useEffect, useRef } from "preact/hooks";
import { fragment } from "./route.ts";

/** Shows an element of the page and gives it the focus, as far as it takes it. Tells whether there is one. */
export function jumpTo(id: string): boolean {
  const element = id === "" ? null : document.getElementById(id);
  if (element === null) return false;
  element.scrollIntoView({ block: "center" });
  element.focus({ preventScroll: true });
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
    if (document.activeElement?.matches("input, textarea, select")) return;
    if (jumpTo(wanted.id)) done.current = wanted;
  }, [wanted, prefix, mark]);
}
