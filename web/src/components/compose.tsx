import type { Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { useApp } from "../context.ts";
import { useIdempotency } from "../draft.ts";
import { useAct } from "./act.tsx";
import { type Suggestion, Suggestions, useCompletion } from "./completion.tsx";

interface ComposeProps {
  /** To whom; empty while nobody is chosen. */
  to: string;
  draft: Signal<string>;
  testId: string;
  placeholder: string;
  inReplyTo?: number;
  autoFocus?: boolean;
  /** Handles a text that is a command instead of a message; true when it was one. */
  onCommand?: (text: string) => Promise<string> | null;
  /** What is sent for a text. */
  toBody?: (text: string) => string;
  /** What the text may become, offered while it is typed. */
  complete?: (text: string) => Suggestion[];
  onSent?: () => void;
}

/** Writes one message: Enter sends, Shift+Enter begins a line. What was typed stays until the hive has it. */
export function Compose(props: ComposeProps) {
  const { store } = useApp();
  const field = useRef<HTMLTextAreaElement>(null);
  const idempotency = useIdempotency();
  const { busy, start } = useAct({ run: () => send(props.draft.peek()) });
  const completion = useCompletion(props.draft, props.complete);
  useEffect(() => {
    if (props.autoFocus) field.current?.focus();
  }, [props.autoFocus]);

  async function send(text: string): Promise<string> {
    const command = props.onCommand?.(text);
    if (command) {
      const report = await command;
      clear(text);
      return report;
    }
    const key = idempotency.keyFor(`${props.to}\n${props.inReplyTo ?? ""}\n${text}`);
    const { id } = await store.api.send({
      to: props.to,
      body: props.toBody?.(text) ?? text,
      in_reply_to: props.inReplyTo ?? null,
      idempotency_key: key,
    });
    idempotency.renew();
    clear(text);
    props.onSent?.();
    return `sent to ${props.to} as #${id}`;
  }

  /** Takes away what was sent, unless it was edited while it was on its way. */
  function clear(sent: string): void {
    if (props.draft.peek() === sent) props.draft.value = "";
  }

  const empty = props.draft.value.trim() === "" || props.to === "";
  const submit = () => void (empty ? undefined : start());
  return (
    <div class="compose">
      <Suggestions completion={completion} />
      <textarea
        ref={field}
        rows={Math.min(8, props.draft.value.split("\n").length)}
        placeholder={props.placeholder}
        aria-label={props.placeholder}
        data-testid={`${props.testId}-text`}
        value={props.draft.value}
        {...completion.field}
        onInput={(event) => (props.draft.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (completion.onKey(event)) return;
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          submit();
        }}
      />
      <button
        type="button"
        class="act act-good"
        aria-label={props.to ? `send to ${props.to}` : "send"}
        aria-busy={busy.value}
        aria-disabled={busy.value || empty ? true : undefined}
        data-testid={`${props.testId}-send`}
        onClick={submit}
      >
        {busy.value && <span class="spinner" aria-hidden="true" />}
        send
      </button>
    </div>
  );
}
