import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { useApp } from "../context.ts";
import { useIdempotency } from "../draft.ts";
import { useSendOptions } from "../send_options.ts";
import { EVERYONE } from "../store.ts";
import { renderVisible } from "../text.ts";
import { Confirm, useAct } from "./act.tsx";
import { type Suggestion, Suggestions, useCompletion } from "./completion.tsx";
import { More } from "./more.tsx";

interface ComposeProps {
  /** To whom; empty while nobody is chosen. */
  to: string;
  draft: Signal<string>;
  testId: string;
  placeholder: string;
  inReplyTo?: number;
  /** Takes the focus whenever this is another number; not for 0. */
  focusAt?: number;
  /** Asked once before it is sent; empty when it is not. */
  confirm?: string;
  /** Offers a priority and a lifetime, folded away. */
  more?: boolean;
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
  const options = useSendOptions(props.testId);
  const asking = useSignal(false);
  useEffect(() => {
    if (props.focusAt) field.current?.focus();
  }, [props.focusAt]);
  // The question was about somebody else.
  useEffect(() => {
    asking.value = false;
  }, [props.to, asking]);

  async function send(text: string): Promise<string> {
    const command = props.onCommand?.(text);
    if (command) {
      const report = await command;
      clear(text);
      return report;
    }
    const request = {
      to: props.to,
      body: props.toBody?.(text) ?? text,
      in_reply_to: props.inReplyTo ?? null,
      ...(props.more && options.request),
    };
    const sent = await store.api.send({
      ...request,
      idempotency_key: idempotency.keyFor(JSON.stringify(request)),
    });
    idempotency.renew();
    clear(text);
    if (props.more) options.clear();
    props.onSent?.();
    return request.to === EVERYONE
      ? `sent to all ${sent.ids.length} as #${sent.id}`
      : `sent to ${request.to} as #${sent.id}`;
  }

  function answer(yes: boolean): void {
    asking.value = false;
    field.current?.focus();
    if (yes) void start();
  }

  /** Takes away what was sent, unless it was edited while it was on its way. */
  function clear(sent: string): void {
    if (props.draft.peek() === sent) props.draft.value = "";
  }

  const empty = props.draft.value.trim() === "" || props.to === "";
  function submit(): void {
    if (empty || asking.peek()) return;
    if (props.confirm) asking.value = true;
    else void start();
  }

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
      {asking.value && props.confirm ? (
        <Confirm question={props.confirm} testId={`${props.testId}-send`} onAnswer={answer}>
          send
        </Confirm>
      ) : (
        <button
          type="button"
          class="act act-good"
          aria-label={props.to ? `send to ${renderVisible(props.to)}` : "send"}
          aria-busy={busy.value}
          aria-disabled={busy.value || empty ? true : undefined}
          data-testid={`${props.testId}-send`}
          onClick={submit}
        >
          {busy.value && <span class="spinner" aria-hidden="true" />}
          send
        </button>
      )}
      {props.more && <More options={options} testId={props.testId} />}
    </div>
  );
}
