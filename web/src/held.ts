import { signal } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";

/**
 * Keys in an order that does not change while somebody is at the list: the pointer is over it or the focus in it. What
 * is new comes last meanwhile, and what is gone keeps its place, so that no click meets another row than it was for.
 */
export function useHeld<K>(keys: readonly K[], list: RefObject<HTMLElement | null>): readonly K[] {
  const pointed = useMemo(() => signal(false), []);
  const focused = useMemo(() => signal(false), []);
  const shown = useRef(keys);
  useEffect(() => {
    const element = list.current;
    if (element === null) return;
    const look = () => {
      focused.value = element.contains(document.activeElement);
    };
    const listeners: [string, (event: Event) => void][] = [
      // A finger points only while it is down.
      ["pointerenter", (event) => (pointed.value = (event as PointerEvent).pointerType !== "touch")],
      ["pointerleave", () => (pointed.value = false)],
      ["focusin", () => (focused.value = true)],
      // Where the focus is, is known only once it has gone.
      ["focusout", () => setTimeout(look)],
    ];
    for (const [name, listener] of listeners) element.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of listeners) element.removeEventListener(name, listener);
    };
  }, [list, pointed, focused]);

  const held = pointed.value || focused.value;
  const known = new Set(shown.current);
  shown.current = held ? [...shown.current, ...keys.filter((key) => !known.has(key))] : keys;
  return shown.current;
}
