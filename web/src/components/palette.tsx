import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { useApp } from "../context.ts";
import { useDraft } from "../draft.ts";
import { overlay } from "../overlay.ts";
import { findItems, listItems, type PaletteAct, type PaletteItem } from "../palette.ts";
import { navigate } from "../route.ts";
import { findSections, goToSection, showSection } from "../sections.ts";
import { plainTitles, shortcuts, THEMES, theme } from "../settings.ts";
import { Confirm } from "./act.tsx";
import { Compose } from "./compose.tsx";
import { Modal } from "./modal.tsx";
import { Inline } from "./text.tsx";

type Asked = { item: PaletteItem; act: Extract<PaletteAct, { kind: "write" | "run" }> };

/** Goes anywhere and does anything by a few letters. What it does is told by a toast, and asked about if it hurts. */
export function Palette({ onClose }: { onClose: () => void }) {
  const asked = useSignal<Asked | null>(null);
  const { toasts } = useApp();

  async function start(act: Extract<PaletteAct, { kind: "run" }>): Promise<void> {
    onClose();
    try {
      toasts.done(await act.run());
    } catch (error) {
      toasts.failed(error);
    }
  }

  function choose(item: PaletteItem): void {
    const { act } = item;
    if (act.kind === "write" || (act.kind === "run" && act.confirm)) {
      asked.value = { item, act };
    } else if (act.kind === "run") {
      void start(act);
    } else if (act.kind === "call") {
      onClose();
      act.call();
    } else {
      leave(() => {
        if (act.kind === "go") navigate(act.to);
        else if (!goToSection(act.id)) toasts.done(`there is nothing under “${item.words}” now`);
      });
    }
  }

  /** The focus comes back first, and leaves what was being typed: whoever goes somewhere wants to be there. */
  function leave(go: () => void): void {
    onClose();
    requestAnimationFrame(() => {
      if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
      go();
    });
  }

  const act = asked.value?.act;
  return (
    <Modal label="go to or do" testId="palette" class="palette" onClose={onClose}>
      {act === undefined && <Choice onChoose={choose} onGo={leave} />}
      {act?.kind === "run" && (
        <Confirm
          question={act.confirm ?? ""}
          testId="palette-confirm"
          onAnswer={(yes) => (yes ? void start(act) : onClose())}
        >
          do it
        </Confirm>
      )}
      {act?.kind === "write" && <Write to={act.to} onSent={onClose} />}
    </Modal>
  );
}

function Write({ to, onSent }: { to: string; onSent: () => void }) {
  const draft = useDraft(`palette-${to}`);
  return (
    <div class="palette-write">
      <p class="dim">
        to <Inline text={to} />
      </p>
      <Compose
        to={to}
        draft={draft}
        testId="palette"
        placeholder={`write to ${to}`}
        focusAt={1}
        onSent={onSent}
      />
    </div>
  );
}

interface ChoiceProps {
  onChoose: (item: PaletteItem) => void;
  onGo: (go: () => void) => void;
}

/** The field and what fits what is typed in it. What is chosen stays chosen when others come and go around it. */
function Choice({ onChoose, onGo }: ChoiceProps) {
  const { store } = useApp();
  const query = useSignal("");
  const chosen = useSignal("");
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => field.current?.focus(), []);
  const items = [...listItems(store, query.value), ...listHere(onGo), ...listSettings()];
  const { shown, count } = findItems(query.value, items);
  const index = Math.max(
    0,
    shown.findIndex((item) => item.key === chosen.value),
  );
  const current = shown[index];

  function onKey(event: KeyboardEvent): void {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by !== undefined && shown.length > 0) {
      event.preventDefault();
      chosen.value = shown[(index + by + shown.length) % shown.length]?.key ?? "";
    } else if (event.key === "Enter" && !event.isComposing && current !== undefined) {
      event.preventDefault();
      onChoose(current);
    }
  }

  return (
    <>
      <input
        ref={field}
        type="text"
        role="combobox"
        autocomplete="off"
        autocapitalize="none"
        spellcheck={false}
        maxLength={200}
        placeholder="go to or do…"
        aria-label="go to or do"
        aria-expanded="true"
        aria-controls="palette-list"
        aria-autocomplete="list"
        aria-activedescendant={current && `palette-${index}`}
        data-testid="palette-query"
        value={query.value}
        onInput={(event) => {
          query.value = event.currentTarget.value;
          chosen.value = "";
        }}
        onKeyDown={onKey}
      />
      <Items shown={shown} index={index} chosen={chosen} onChoose={onChoose} />
      <p class="dim palette-count" role="status">
        {renderCount(count, shown.length)}
      </p>
    </>
  );
}

interface ItemsProps {
  shown: readonly PaletteItem[];
  index: number;
  chosen: Signal<string>;
  onChoose: (item: PaletteItem) => void;
}

function Items({ shown, index, chosen, onChoose }: ItemsProps) {
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    list.current?.children[index]?.scrollIntoView({ block: "nearest" });
  }, [index]);
  return (
    // The list takes no focus of its own: the field has it, and says which item is meant.
    <div
      id="palette-list"
      class="palette-list"
      role="listbox"
      aria-label="what fits"
      ref={list}
      tabIndex={-1}
    >
      {shown.map((item, at) => (
        // biome-ignore lint/a11y/useKeyWithClickEvents: the keys are the field's
        <div
          key={item.key}
          id={`palette-${at}`}
          role="option"
          tabIndex={-1}
          class="palette-item"
          aria-selected={at === index}
          data-testid={`palette-item-${item.key}`}
          onPointerMove={() => (chosen.value = item.key)}
          onClick={() => onChoose(item)}
        >
          <span class="palette-words">
            <Inline text={item.words} />
          </span>
          <span class="dim">{item.note}</span>
        </div>
      ))}
    </div>
  );
}

function renderCount(count: number, shown: number): string {
  if (count === 0) return "nothing fits";
  return count > shown ? `${count}, the first ${shown} shown` : `${count}`;
}

/** The parts of the page that is shown now, other than those of the dashboard, which are always there. */
function listHere(onGo: (go: () => void) => void): PaletteItem[] {
  if (location.pathname === "/") return [];
  return findSections().map(({ id, title }) => ({
    key: `here-${id}`,
    words: title,
    note: "on this page",
    act: { kind: "call", call: () => onGo(() => showSection(id)) },
  }));
}

function listSettings(): PaletteItem[] {
  const call = (key: string, words: string, change: () => void): PaletteItem => ({
    key,
    words,
    note: "setting",
    act: { kind: "call", call: change },
  });
  const spawn: PaletteItem = {
    key: "spawn",
    words: "spawn an agent",
    note: "dashboard",
    act: { kind: "go", to: "/#spawn-name" },
  };
  return [
    spawn,
    call("keys", "keyboard shortcuts", () => {
      overlay.value = "keys";
    }),
    ...THEMES.filter((one) => one !== theme.value).map((one) =>
      call(`theme-${one}`, `colours: ${one === "system" ? "as the system has them" : one}`, () => {
        theme.value = one;
      }),
    ),
    call("plain", plainTitles.value ? "leetspeak titles" : "plain titles", () => {
      plainTitles.value = !plainTitles.peek();
    }),
    call("shortcuts", shortcuts.value ? "single-key shortcuts off" : "single-key shortcuts on", () => {
      shortcuts.value = !shortcuts.peek();
    }),
  ];
}
