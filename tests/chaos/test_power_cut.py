"""Power cuts of the broker: the real store on a disk that keeps only what was synced, and of the rest what it likes.

`POWER_CUT_SEED` draws other cuts; a broken promise names the seed that repeats its hive:
`scripts/power-cut --cuts 20 --seed SEED`.
"""

import os
from contextlib import closing

import pytest

from cut_run import Outcome, run_cuts

SEED = int(os.environ.get("POWER_CUT_SEED", "1"))
CUTS = 200
# With synchronous=NORMAL the first cut after a commit is enough, unless the disk is so kind as to keep all.
LOSING_CUTS = 20
# How many of the cuts at least are to hit these; about five times as many do.
EXPECTED = {"at start": 6, "in a commit": 24, "in a checkpoint": 4, "with names on their way": 1, "torn": 26}


@pytest.mark.slow
def test_nothing_that_was_confirmed_is_lost_in_200_power_cuts_and_nothing_is_invented() -> None:
    outcome = Outcome()
    with closing(run_cuts(CUTS, SEED)) as run:
        for outcome in run:
            assert not outcome.broken, "\n".join(outcome.broken[:20])
    assert outcome.cuts == CUTS
    # The cuts hit what they are meant to hit.
    assert outcome.sent > 2000 and outcome.acked > 2000, outcome.render()
    for place, least in EXPECTED.items():
        assert outcome.where[place] >= least, outcome.render()


def test_the_same_cuts_lose_confirmed_messages_when_commits_are_not_synced() -> None:
    outcome = Outcome()
    with closing(run_cuts(LOSING_CUTS, SEED, "NORMAL")) as run:
        for outcome in run:
            if any("was confirmed" in broken and "is lost" in broken for broken in outcome.broken):
                return
    pytest.fail(f"nothing was lost: {outcome.render()}")
