import { type ReadonlySignal, type Signal, useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";

/** Sets `at` to whether somebody is at the list: the pointer is over it or the focus in it. */
export function usePresence(list: RefObject<HTMLElement | null>, at: Signal<boolean>): void {
  useEffect(() => {
    const element = list.current;
    if (element === null) return;
    let pointed = false;
    let focused = false;
    const tell = (now: { pointed?: boolean; focused?: boolean }) => {
      ({ pointed = pointed, focused = focused } = now);
      at.value = pointed || focused;
    };
    const listeners: [string, (event: Event) => void][] = [
      // A finger points only while it is down.
      ["pointerenter", (event) => tell({ pointed: (event as PointerEvent).pointerType !== "touch" })],
      ["pointerleave", () => tell({ pointed: false })],
      ["focusin", () => tell({ focused: true })],
      // Where the focus is, is known only once it has gone.
      ["focusout", () => setTimeout(() => tell({ focused: element.contains(document.activeElement) }))],
    ];
    for (const [name, listener] of listeners) element.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of listeners) element.removeEventListener(name, listener);
      at.value = false;
    };
  }, [list, at]);
}

/**
 * Keys in an order that does not change while somebody is at the list, or `beside` says so. What is new comes last
 * meanwhile, and what is gone keeps its place, so that no click meets another row than it was for.
 */
export function useHeld<K>(
  keys: readonly K[],
  list: RefObject<HTMLElement | null>,
  beside: ReadonlySignal<boolean>,
): readonly K[] {
  const at = useSignal(false);
  const shown = useRef(keys);
  usePresence(list, at);
  const held = at.value || beside.value;
  const known = new Set(shown.current);
  shown.current = held ? [...shown.current, ...keys.filter((key) => !known.has(key))] : keys;
  return shown.current;
}

/**
 * What asks in a row: shown while it is `open`, and once that ended still in its place, dead, while somebody is at the
 * list. The focus does not fall off with it: it goes to the row.
 */
export function useEnding(open: boolean, at: ReadonlySignal<boolean>) {
  const form = useRef<HTMLDivElement>(null);
  const shown = useRef(open);
  shown.current = open || (shown.current && at.value);
  useLayoutEffect(() => {
    if (!open && form.current?.contains(document.activeElement))
      form.current.closest("li")?.focus({ preventScroll: true });
  }, [open]);
  return { form, shown: shown.current };
}
