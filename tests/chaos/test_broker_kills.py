"""kill -9 of the daemon and of harnesses at random points, under the load of a hundred agents.

`SWARM_SEED` draws other kills; a broken promise names the seed. Many more: `scripts/broker-kills`.
"""

import os

import pytest

from swarm_kills import run_kills

SEED = int(os.environ.get("SWARM_SEED", "1"))
KILLS = 50
# The daemon has about 80 MiB with this much to do.
PSS_LIMIT_BYTES = 160 * 1024 * 1024


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_out_of_order_in_50_kills_of_daemon_and_harnesses() -> None:
    outcome = run_kills(KILLS, SEED)
    assert outcome.kills.total() == KILLS
    # The kills hit what they are meant to hit.
    assert min(outcome.kills[what] for what in ("daemon", "daemon at start", "daemon and harnesses", "harnesses")) >= 2
    assert outcome.confirmed > 2000 and outcome.came_again > 50 and outcome.repeated_sends > 50, outcome.render()
    assert outcome.pss_bytes < PSS_LIMIT_BYTES, outcome.render()
