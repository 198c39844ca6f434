import { renderVisible, splitHits } from "../text.ts";

/** The place of somebody else's text where what was searched for stands, the words marked. */
export const Hits = ({ text, search }: { text: string; search: string }) => (
  <bdi>
    {splitHits(text, search).map(({ text: part, hit }, index) =>
      hit ? (
        <mark key={index} class="hit">
          {renderVisible(part)}
        </mark>
      ) : (
        renderVisible(part)
      ),
    )}
  </bdi>
);
