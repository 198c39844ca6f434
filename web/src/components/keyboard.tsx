import { useEffect } from "preact/hooks";
import { useApp } from "../context.ts";
import { createKeys, isTerminal, isTyping, type KeyAct, moveToRow } from "../keys.ts";
import { overlay } from "../overlay.ts";
import { navigate } from "../route.ts";
import { goToSection, SECTIONS } from "../sections.ts";
import { shortcuts } from "../settings.ts";
import type { Toasts } from "../toasts.ts";
import { Modal } from "./modal.tsx";
import { Palette } from "./palette.tsx";

const close = () => {
  overlay.value = null;
};

/** The keys of every page, and what they put over it. */
export function Keyboard() {
  const { toasts } = useApp();
  useEffect(() => {
    const findAct = createKeys(() => performance.now());
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.isComposing || isTerminal(event.target)) return;
      // A dialog has its own keys; only what opens the palette closes it again.
      const open = document.querySelector("dialog[open]") !== null;
      const act = findAct(event, open || isTyping(event.target), shortcuts.peek());
      if (act !== null && doAct(act, toasts)) event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => {
      window.removeEventListener("keydown", onKey);
      close();
    };
  }, [toasts]);
  if (overlay.value === "palette") return <Palette onClose={close} />;
  return overlay.value === "keys" ? <Keys onClose={close} /> : null;
}

/** Tells whether the key was for something. */
function doAct(act: KeyAct, toasts: Toasts): boolean {
  if (act.kind === "palette") overlay.value = overlay.peek() === "palette" ? null : "palette";
  else if (act.kind === "help") overlay.value = "keys";
  else if (act.kind === "home") navigate("/");
  else if (act.kind === "stats") navigate("/stats/");
  else if (act.kind === "prompt") return focusPrompt();
  else if (act.kind === "move") return moveToRow(act.by, act.onlyFromRow);
  else if (!goToSection(act.id)) toasts.done(`there is nothing under “${renderTitle(act.id)}” now`);
  return true;
}

const renderTitle = (id: string) => SECTIONS.find((one) => one.id === id)?.title ?? id;

/** To where one writes on this page: the prompt line of an agent, or the line above the flow. */
function focusPrompt(): boolean {
  const field = document.querySelector<HTMLElement>("main .compose textarea");
  field?.focus();
  return field !== null;
}

const KEYS: readonly (readonly [string, string])[] = [
  ["ctrl k", "go to or do anything (cmd k on a mac)"],
  ["?", "this list"],
  ["j, k", "next and previous row; ↓ and ↑ when a row has the focus"],
  ["g h", "the hive"],
  ...SECTIONS.map(({ key, title }) => [`g ${key}`, title] as const),
  ["g s", "stats of the hive"],
  ["g p", "where one writes: the prompt line of an agent"],
  ["esc", "closes what lies over the page; answers no"],
];

function Keys({ onClose }: { onClose: () => void }) {
  return (
    <Modal label="keyboard shortcuts" testId="keys" class="keys" onClose={onClose}>
      <div class="keys-head">
        <h2 class="keys-title">keyboard shortcuts</h2>
        <button type="button" class="act" data-testid="keys-close" onClick={onClose}>
          close
        </button>
      </div>
      <dl class="keys-list">
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <SingleKeys />
    </Modal>
  );
}

/** Single keys get in the way of some: of those who speak to their machine, for one. */
export function SingleKeys() {
  return (
    <label class="toggle">
      <input
        type="checkbox"
        checked={shortcuts.value}
        data-testid="shortcuts"
        onChange={(event) => (shortcuts.value = event.currentTarget.checked)}
      />
      single-key shortcuts
    </label>
  );
}
