import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { useApp } from "../context.ts";

/** How long a done act waits for the event that changes its row, before it fetches the rows itself. */
const EVENT_LIMIT_MS = 4_000;

export interface ActOptions {
  /** Does it; resolves to what the toast says, or to nothing when what was done shows by itself. */
  run: () => Promise<string>;
  /** What changes in the row when the act shows: after a success the button stays busy until it differs. */
  until?: string | number;
}

/**
 * One act of the operator, at most once at a time: busy → toast → the row changes by a live event. Resolves to whether
 * it was done; false as well when it was busy already.
 */
export function useAct({ run, until }: ActOptions) {
  const { store, toasts } = useApp();
  const busy = useSignal(false);
  const awaited = useRef<{ from: string | number; timer: ReturnType<typeof setTimeout> } | null>(null);

  const settle = useCallback(() => {
    if (awaited.current) clearTimeout(awaited.current.timer);
    awaited.current = null;
    busy.value = false;
  }, [busy]);

  const latest = useRef(until);
  latest.current = until;
  useEffect(() => {
    if (awaited.current && awaited.current.from !== until) settle();
  }, [until, settle]);
  useEffect(() => () => clearTimeout(awaited.current?.timer), []);

  async function start(): Promise<boolean> {
    // The signal, not the rendered button, decides: a second click comes before the next rendering.
    if (busy.peek()) return false;
    busy.value = true;
    const from = until;
    try {
      const report = await run();
      if (report) toasts.done(report);
    } catch (error) {
      toasts.failed(error);
      settle();
      return false;
    }
    if (from === undefined || latest.current !== from) settle();
    else awaited.current = { from, timer: setTimeout(giveUpWaiting, EVENT_LIMIT_MS) };
    return true;
  }

  function giveUpWaiting(): void {
    void store.load().finally(settle);
  }

  return { busy, start };
}

export interface ActProps extends ActOptions {
  /** The words on the button. */
  children: ComponentChildren;
  /** The whole act for a screen reader, such as "stop alice". */
  label: string;
  testId: string;
  kind?: "plain" | "good" | "danger";
  disabled?: boolean;
  /** Asks this once before it is done. */
  confirm?: string;
  onDone?: () => void;
}

/** For a form with one act: Enter in its field does that. */
export function actOnEnter(event: SubmitEvent): void {
  event.preventDefault();
  (event.currentTarget as HTMLFormElement).querySelector<HTMLButtonElement>("button.act")?.click();
}

/** The button of an act. A destructive one asks once, in place. */
export function Act(props: ActProps) {
  const { busy, start } = useAct(props);
  const asking = useSignal(false);
  const button = useRef<HTMLButtonElement>(null);

  async function go(): Promise<void> {
    if (await start()) props.onDone?.();
  }

  function answer(yes: boolean): void {
    asking.value = false;
    // The question goes away, and the focus with it unless it is given back.
    requestAnimationFrame(() => button.current?.focus());
    if (yes) void go();
  }

  if (asking.value && props.confirm) return <Confirm {...props} question={props.confirm} onAnswer={answer} />;
  return (
    <button
      ref={button}
      type="button"
      class={`act act-${props.kind ?? "plain"}`}
      aria-label={props.label}
      aria-busy={busy.value}
      // aria-disabled and not disabled: the focus must not fall off a button that is only busy.
      aria-disabled={busy.value || props.disabled ? true : undefined}
      data-testid={props.testId}
      onClick={() => {
        if (busy.peek() || props.disabled) return;
        if (props.confirm) asking.value = true;
        else void go();
      }}
    >
      {busy.value && <span class="spinner" aria-hidden="true" />}
      {props.children}
    </button>
  );
}

interface ConfirmProps {
  question: string;
  testId: string;
  children: ComponentChildren;
  onAnswer: (yes: boolean) => void;
}

/** Asks once, in place. */
export function Confirm({ question, testId, children, onAnswer }: ConfirmProps) {
  const no = useRef<HTMLButtonElement>(null);
  // The safe answer has the focus: a second Enter must not confirm.
  useLayoutEffect(() => no.current?.focus(), []);
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset cannot be laid out inline with the buttons beside it
    <span
      class="confirm"
      role="group"
      aria-label={question}
      onKeyDown={(event) => event.key === "Escape" && onAnswer(false)}
    >
      <span class="confirm-question">{question}</span>
      <button
        type="button"
        class="act act-danger"
        data-testid={`${testId}-yes`}
        onClick={() => onAnswer(true)}
      >
        yes, {children}
      </button>
      <button ref={no} type="button" class="act" data-testid={`${testId}-no`} onClick={() => onAnswer(false)}>
        no
      </button>
    </span>
  );
}
