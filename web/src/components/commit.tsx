import { renderCommit } from "../text.ts";
import { Inline } from "./text.tsx";

/** A commit by the start of its name; the whole name on hover. */
export function Commit({ commit }: { commit: string }) {
  return (
    <code class="commit" title={commit}>
      <Inline text={renderCommit(commit)} />
    </code>
  );
}
