"""What is kept of transcripts is bounded in bytes, however long an agent makes its events."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from hyperhive.host.feed import Feed
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.store.store import Store
from hyperhive.host.transcripts import Transcripts


def make_events(first: int, count: int, size: int) -> list[AgentEvent]:
    at = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    return [AgentEvent(seq=seq, at=at, kind="notice", body={"text": "x" * size}) for seq in range(first, first + count)]


async def test_the_oldest_go_while_there_is_too_much(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "telemetry.sqlite", "telemetry")) as store:
        transcripts = Transcripts(store, Feed(), limit_bytes=100_000)
        for first in range(1, 401, 20):
            fresh, newest, come_bytes = await transcripts.append("alice", make_events(first, 20, 1000))
            assert (len(fresh), newest) == (20, first + 19)
            assert come_bytes > 20_000
            assert await transcripts.find_kept_bytes("alice") <= 100_000
        await transcripts.append("bob", make_events(1, 5, 1000))
        kept = await transcripts.after("alice", 0, 1000)
        assert 90 <= len(kept) <= 100
        assert kept[-1].seq == 400
        assert len(await transcripts.after("bob", 0, 1000)) == 5


async def test_one_that_is_too_long_by_itself_stays_as_the_newest(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "telemetry.sqlite", "telemetry")) as store:
        transcripts = Transcripts(store, Feed(), limit_bytes=1000)
        await transcripts.append("alice", make_events(1, 3, 5000))
        assert [entry.seq for entry in await transcripts.after("alice", 0, 10)] == [3]
        assert await transcripts.newest_seq("alice") == 3


async def test_what_is_told_again_costs_but_is_not_kept_twice(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "telemetry.sqlite", "telemetry")) as store:
        transcripts = Transcripts(store, Feed())
        events = make_events(1, 10, 1000)
        await transcripts.append("alice", events)
        kept_bytes = await transcripts.find_kept_bytes("alice")
        fresh, _, come_bytes = await transcripts.append("alice", events)
        assert (fresh, come_bytes > 10_000) == ([], True)
        assert await transcripts.find_kept_bytes("alice") == kept_bytes
        await transcripts.purge("alice")
        assert await transcripts.find_kept_bytes("alice") == 0
