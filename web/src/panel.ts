import { type Signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { fragment } from "./route.ts";

/** Whether a part of the page is folded out: at first when the address names it, and whenever it is gone to. */
export function usePanel(name: string): Signal<boolean> {
  const wanted = fragment.value;
  const open = useSignal(location.hash === `#${name}`);
  useEffect(() => {
    if (wanted.id === name && location.hash === `#${name}`) open.value = true;
  }, [wanted, name, open]);
  return open;
}
