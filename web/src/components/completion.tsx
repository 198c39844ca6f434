import { type Signal, useSignal } from "@preact/signals";
import { useId } from "preact/hooks";

/** One way to go on with what is typed. */
export interface Suggestion {
  /** What the field holds when this is chosen. */
  text: string;
  label: string;
  words: string;
}

/**
 * Suggestions for a text field: Tab takes the marked one, arrows move the mark, Escape lets them go until something else
 * is typed. Enter is left alone: what is typed is what is sent.
 */
export function useCompletion(draft: Signal<string>, suggest: ((text: string) => Suggestion[]) | undefined) {
  const id = useId();
  const marked = useSignal(0);
  const dismissed = useSignal("");
  const list = suggest && dismissed.value !== draft.value ? suggest(draft.value) : [];
  const at = Math.min(marked.value, Math.max(0, list.length - 1));

  function take(suggestion: Suggestion): void {
    marked.value = 0;
    draft.value = suggestion.text;
  }

  /** Whether the key was for the suggestions. */
  function onKey(event: KeyboardEvent): boolean {
    const chosen = list[at];
    if (chosen === undefined) return false;
    if (event.key === "Tab" && !event.shiftKey) take(chosen);
    else if (event.key === "Escape") dismissed.value = draft.peek();
    else if (event.key === "ArrowDown") marked.value = (at + 1) % list.length;
    else if (event.key === "ArrowUp") marked.value = (at + list.length - 1) % list.length;
    else return false;
    event.preventDefault();
    return true;
  }

  const field = suggest && {
    "aria-autocomplete": "list" as const,
    "aria-controls": list.length > 0 ? id : undefined,
    "aria-activedescendant": list.length > 0 ? `${id}-${at}` : undefined,
  };
  return { id, list, at, take, onKey, field };
}

export function Suggestions({ completion }: { completion: ReturnType<typeof useCompletion> }) {
  const { id, list, at, take } = completion;
  if (list.length === 0) return null;
  return (
    <div id={id} class="suggestions" role="listbox" aria-label="commands" data-testid="suggestions">
      {list.map((suggestion, index) => (
        // biome-ignore lint/a11y/useFocusableInteractive: the focus stays in the field, which names the marked one
        // biome-ignore lint/a11y/useKeyWithClickEvents: the field has the keys
        <div
          key={suggestion.text}
          id={`${id}-${index}`}
          role="option"
          aria-selected={index === at}
          class="suggestion"
          // Before the field would lose the focus.
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => take(suggestion)}
        >
          <span class="suggestion-label">{suggestion.label}</span> <span class="dim">{suggestion.words}</span>
        </div>
      ))}
    </div>
  );
}
