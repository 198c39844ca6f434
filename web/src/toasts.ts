import { signal } from "@preact/signals";
import { ApiError } from "./api.ts";

export interface Toast {
  id: number;
  kind: "done" | "error";
  text: string;
  hint: string;
}

/** Long enough to read. A toast covers what is under it, so an error goes as well: what was typed is still there. */
const SHOWN_MS = { done: 5_000, error: 15_000 };
const SHOWN_AT_MOST = 4;

export type Toasts = ReturnType<typeof createToasts>;

/** Short reports on what was asked for. Each goes by itself, or when it is dismissed. */
export function createToasts() {
  const list = signal<Toast[]>([]);
  let nextId = 1;

  function dismiss(id: number): void {
    list.value = list.peek().filter((toast) => toast.id !== id);
  }

  function add(kind: Toast["kind"], text: string, hint = ""): void {
    const id = nextId++;
    list.value = [...list.peek(), { id, kind, text, hint }].slice(-SHOWN_AT_MOST);
    setTimeout(() => dismiss(id), SHOWN_MS[kind]);
  }

  return {
    list,
    dismiss,
    done: (text: string) => add("done", text),
    failed(error: unknown): void {
      const hint = error instanceof ApiError ? error.hint : "";
      add("error", error instanceof Error ? error.message : String(error), hint);
    },
  };
}
