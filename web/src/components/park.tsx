import type { Park, ParkKind } from "../api_types.ts";
import { now, renderClock, renderCountdown } from "../time.ts";
import { Inline } from "./text.tsx";
import { Age } from "./when.tsx";

const KINDS: Record<ParkKind, { words: string; hive: string }> = {
  paused: { words: "paused", hive: "the whole hive is paused" },
  budget: { words: "budget spent", hive: "the hive's budget is spent" },
  limit: { words: "usage limit", hive: "the usage limit of the hive's login is reached" },
  login: { words: "login needed", hive: "the hive's login is not accepted" },
  failing: { words: "keeps failing", hive: "the whole hive keeps failing" },
};

/** Why an agent runs no turns, since when, and when it ends by itself. Of the whole hive the banner tells all that. */
export function ParkChip({ park }: { park: Park }) {
  const { words, hive } = KINDS[park.kind];
  if (park.hive)
    return (
      <span class="chip chip-warn park" data-testid="park" data-kind={park.kind}>
        {hive}
      </span>
    );
  return (
    <span class="chip chip-warn park" data-testid="park" data-kind={park.kind}>
      {words}
      {" · "}
      <Age at={park.since} />
      {park.until !== null && (
        <>
          {" · "}
          <Until at={park.until} />
        </>
      )}
      {park.reason && (
        <>
          {" · "}
          <span class="park-reason">
            <Inline text={park.reason} />
          </span>
        </>
      )}
    </span>
  );
}

/** Why no agent of the hive runs a turn, as a line for the whole page. */
export function ParkLine({ park }: { park: Park }) {
  return (
    <>
      {KINDS[park.kind].hive} since {renderClock(park.since)} (<Age at={park.since} />
      ): {park.kind === "paused" && "running turns go on to their end, "}no new turn begins
      {park.until !== null && (
        <>
          {" "}
          <Until at={park.until} />
        </>
      )}
      {park.reason && (
        <>
          {" · "}
          <Inline text={park.reason} />
        </>
      )}
    </>
  );
}

/** The instant at which something ends by itself, and what is left until then. */
function Until({ at }: { at: string }) {
  const left = Date.parse(at) - now.value;
  return (
    <span class="until" role="timer">
      {left <= 0 ? "ends any moment" : `until ${renderClock(at)}, ${renderCountdown(left)} left`}
    </span>
  );
}
