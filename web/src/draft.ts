import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { readItem, writeItem } from "./storage.ts";

/** What is being typed in one field. It outlives a visit to another page and a login, not the tab. */
export function useDraft(name: string): Signal<string> {
  const key = `hyperhive.draft.${name}`;
  const draft = useSignal(readItem("sessionStorage", key));
  useEffect(() => draft.subscribe((text) => writeItem("sessionStorage", key, text)), [draft, key]);
  return draft;
}

/**
 * An idempotency key for a text: the same until the text changes, so that sending again after a lost answer cannot
 * deliver twice. `renew` starts over after a success.
 */
export function useIdempotency() {
  return useMemo(() => {
    let of = "";
    let key = "";
    return {
      keyFor(text: string): string {
        if (key === "" || text !== of) [of, key] = [text, createKey()];
        return key;
      },
      renew() {
        key = "";
      },
    };
  }, []);
}

function createKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
