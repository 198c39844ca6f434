"""The long run in short: what `scripts/long-run` shows over 200 turns and a minute's usage limit."""

import pytest

from long_run import Options, open_long_run

COMPRESSED = Options(turns=40, seed=4, compactions=2, limit_ahead_s=4)


@pytest.mark.slow
def test_an_agent_handles_each_message_once_through_all_that_days_bring() -> None:
    with open_long_run(COMPRESSED, print) as long_run:
        assert long_run.run().problems == []
