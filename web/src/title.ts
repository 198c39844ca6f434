import { useEffect } from "preact/hooks";
import { useApp } from "./context.ts";

/** Names the tab, with how many things wait for the operator before it. */
export function useTitle(name: string): void {
  const { store } = useApp();
  const waiting = store.needs.keys.value.length;
  useEffect(() => {
    document.title = waiting > 0 ? `(${waiting}) ${name}` : name;
  }, [waiting, name]);
}
