import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Approval, Comparison, Review } from "../api_types.ts";
import { useApp } from "../context.ts";
import { useFetched } from "../fetched.ts";
import { Commit } from "./commit.tsx";
import { DiffFiles, DiffMode } from "./diff.tsx";
import { EffectChip, renderEffect } from "./effect.tsx";
import { FetchNote } from "./fetch_note.tsx";
import { Meaning } from "./meaning.tsx";
import { SystemSection } from "./system_change.tsx";
import { Exact } from "./text.tsx";

interface ReviewViewProps {
  row: Approval;
  /** Called once the change can be read. */
  onShown: () => void;
}

/** All that the operator decides on: warnings, the pinned commit, what it means, what differs, staged notes. */
export function ReviewView({ row, onShown }: ReviewViewProps) {
  const { api, epochs } = useApp().store;
  const fetched = useFetched(`review-${row.id}`, () => api.review(row.id), epochs.of(row.agent));
  const review = fetched.value.value;
  const shown = review !== null && (review.comparison !== null || row.commit === null);
  useEffect(() => {
    if (shown) onShown();
  }, [shown]);
  return (
    <div class="review" data-testid={`review-${row.id}`}>
      <FetchNote fetched={fetched} what="the change" />
      {review && <ReviewBody review={review} />}
    </div>
  );
}

function ReviewBody({ review }: { review: Review }) {
  const { approval, comparison, notes } = review;
  return (
    <>
      {review.warnings.map((warning, index) => (
        <p key={index} class="banner banner-warn" data-testid="review-warning">
          <Exact text={warning} />
        </p>
      ))}
      {comparison !== null && <Compared review={review} whole={comparison} />}
      {comparison === null && (
        <p class="dim" data-testid={`meaning-${approval.id}`}>
          {approval.commit === null
            ? "with the default config, as every agent that is spawned by its name alone"
            : "what it changes is not known"}
        </p>
      )}
      {notes.length > 0 && (
        <section class="review-part" aria-label="staged notes" data-testid={`notes-${approval.id}`}>
          <h3>staged notes</h3>
          <p class="dim">the new agent finds these in its state and reads them in its first turn</p>
          <DiffFiles files={notes} />
        </section>
      )}
    </>
  );
}

/** The whole change, or what of it is new since an earlier proposal. */
function Compared({ review, whole }: { review: Review; whole: Comparison }) {
  const since = useSignal(false);
  const { approval, earlier, since_earlier } = review;
  const comparison = (since.value && since_earlier) || whole;
  const partial = comparison !== whole;
  return (
    <>
      <div class="review-head">
        <span class="dim">
          commit <Commit commit={whole.commit} />
          {whole.base ? (
            <>
              {" "}
              on <Commit commit={whole.base} />
            </>
          ) : (
            ", a first config"
          )}
        </span>
        {whole.base && (
          <span>
            <EffectChip effect={whole.effect} /> <span class="dim">{renderEffect(whole.effect)}</span>
          </span>
        )}
        <span class="acts">
          {since_earlier !== null && (
            <button
              type="button"
              class="act act-quiet"
              aria-pressed={since.value}
              data-testid="since-earlier"
              onClick={() => (since.value = !since.value)}
            >
              what changed since #{earlier}
            </button>
          )}
          <DiffMode />
        </span>
      </div>
      {partial && (
        <p class="banner banner-note" role="status">
          only what differs from #{earlier}, which was not applied
          {approval.status === "pending" && "; you decide on the whole change"}
        </p>
      )}
      <Meaning rows={comparison.meaning} testId={`meaning-${approval.id}`} />
      {review.system && !partial && <SystemSection approval={approval} />}
      <DiffFiles key={partial ? "since" : "whole"} files={comparison.files} />
    </>
  );
}
