import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

interface ModalProps {
  label: string;
  testId: string;
  class?: string;
  onClose: () => void;
  children: ComponentChildren;
}

/** Lies over the page and keeps the focus until it is closed; then the focus is where it was before. */
export function Modal({ label, testId, class: name, onClose, children }: ModalProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    // The browser gives the focus back when it closes, not when it is taken out of the page.
    return () => element?.close();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the keyboard has Escape
    <dialog
      ref={dialog}
      class={name ? `modal ${name}` : "modal"}
      aria-label={label}
      data-testid={testId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      // Beside what it holds there is only the page behind it.
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      <div class="modal-body">{children}</div>
    </dialog>
  );
}
