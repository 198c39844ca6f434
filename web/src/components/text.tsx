import { useSignal } from "@preact/signals";
import { renderVisible } from "../text.ts";

/** Characters shown at once; more on request, so that one huge result cannot stall the page. */
const CLIP_CHARS = 20_000;

/** Somebody else's text within a line. Isolated, so that its direction cannot reorder what stands around it. */
export const Inline = ({ text }: { text: string }) => <bdi>{renderVisible(text)}</bdi>;

/** Somebody else's text as a block, with its line breaks. */
export function Block({ text, mono = false }: { text: string; mono?: boolean }) {
  const whole = useSignal(false);
  const clipped = text.length > CLIP_CHARS && !whole.value;
  const shown = clipped ? text.slice(0, CLIP_CHARS) : text;
  return (
    <div class={mono ? "block block-mono" : "block"}>
      <span dir="auto">{renderVisible(shown)}</span>
      {clipped && (
        <button type="button" class="link" onClick={() => (whole.value = true)}>
          … {text.length - CLIP_CHARS} more characters
        </button>
      )}
    </div>
  );
}
