import { useSignal } from "@preact/signals";
import { renderVisible, splitExact } from "../text.ts";

/** Characters shown at once; more on request, so that one huge result cannot stall the page. */
const CLIP_CHARS = 20_000;

/** Somebody else's text within a line. Isolated, so that its direction cannot reorder what stands around it. */
export const Inline = ({ text }: { text: string }) => <bdi>{renderVisible(text)}</bdi>;

/** Somebody else's text of which every character counts: what is hidden or only looks like another is marked. */
export function Exact({ text, multiline = false }: { text: string; multiline?: boolean }) {
  return (
    <bdi dir="ltr">
      {splitExact(text, multiline).map((piece, index) =>
        piece.title ? (
          <mark key={index} class="marked" title={piece.title}>
            {piece.text}
          </mark>
        ) : (
          piece.text
        ),
      )}
    </bdi>
  );
}

/** Somebody else's text as a block, with its line breaks. */
export function Block({
  text,
  mono = false,
  exact = false,
}: {
  text: string;
  mono?: boolean;
  exact?: boolean;
}) {
  const whole = useSignal(false);
  const clipped = text.length > CLIP_CHARS && !whole.value;
  const shown = clipped ? text.slice(0, CLIP_CHARS) : text;
  return (
    <div class={mono ? "block block-mono" : "block"}>
      {exact ? <Exact text={shown} multiline /> : <span dir="auto">{renderVisible(shown)}</span>}
      {clipped && (
        <button type="button" class="link" onClick={() => (whole.value = true)}>
          … {text.length - CLIP_CHARS} more characters
        </button>
      )}
    </div>
  );
}
