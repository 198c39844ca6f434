import { useApp } from "../context.ts";
import { Inline } from "./text.tsx";

/** The toasts. Both regions are there from the start, or a screen reader would miss what is put into them. */
export function Toaster() {
  const { toasts } = useApp();
  const show = (kind: "done" | "error") =>
    toasts.list.value
      .filter((toast) => toast.kind === kind)
      .map((toast) => (
        <div key={toast.id} class={`toast toast-${kind}`} data-testid={`toast-${kind}`}>
          <div>
            <Inline text={toast.text} />
            {toast.hint && (
              <div class="toast-hint">
                <Inline text={toast.hint} />
              </div>
            )}
          </div>
          <button type="button" class="link" aria-label="dismiss" onClick={() => toasts.dismiss(toast.id)}>
            ✕
          </button>
        </div>
      ));
  return (
    <div class="toaster" data-testid="toasts">
      <div role="status" aria-live="polite">
        {show("done")}
      </div>
      <div role="alert">{show("error")}</div>
    </div>
  );
}
