"""What harnesses report parks whom it concerns, as long as it should, and nobody else on one agent's word."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER
from hyperhive.core.parking import EVERYONE, Park, ParkKind
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.feed import Feed
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.parking import Parking
from hyperhive.host.refusals import Refusals
from hyperhive.host.store.store import Store
from hyperhive.host.troubles import Troubles
from hyperhive.system.clock import now
from hyperhive.system.http_types import Application, Receive, Scope, Send

OF_THE_SERVICE = (b"request-id", b"req_1")


@dataclass
class Rig:
    store: Store
    parking: Parking
    refusals: Refusals
    stubborn: set[str] = field(default_factory=set[str])
    parked: list[str | None] = field(default_factory=list[str | None])

    def __post_init__(self) -> None:
        self.troubles = self.make_troubles(shared=False)

    def make_troubles(self, *, shared: bool) -> Troubles:
        return Troubles(
            self.store,
            self.parking,
            self.refusals,
            shared=shared,
            resumes=lambda name: name not in self.stubborn,
            rng=Random(1),
        )

    def own(self, agent: str, kind: ParkKind) -> Park:
        park = self.parking.find_own(agent, kind)
        assert park is not None
        return park

    def refuse(self, agent: str, status: int, *headers: tuple[bytes, bytes]) -> None:
        self.refusals.note(agent, status, [OF_THE_SERVICE, *headers])


@contextlib.asynccontextmanager
async def open_rig(folder: Path) -> AsyncGenerator[Rig]:
    feed = Feed()
    store = Store(folder / "hive.sqlite", "hive", feed.publish_events)
    parking = Parking(store)
    rig = Rig(store, parking, Refusals())
    feed.listen(parking.on_event)
    feed.listen(lambda event: rig.parked.append(event.agent) if event.name is EventName.AGENT_PARKED else None)
    for name in ("alice", "bob", MANAGER):
        await store.write(lambda tx, name=name: insert_agent(tx, name, None))
    try:
        yield rig
    finally:
        store.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def shared(rig: Rig) -> Rig:
    """The agents use the hive's credential."""
    rig.troubles = rig.make_troubles(shared=True)
    return rig


def left_s(park: Park) -> float:
    assert park.until is not None
    return (park.until - now()).total_seconds()


def ended(outcome: str) -> AgentEvent:
    return AgentEvent(seq=1, at="2026-01-01T00:00:00+00:00", kind="turn.ended", body={"outcome": outcome})


# -- an agent's own ----------------------------------------------------------------------------------------


async def test_a_limit_parks_the_agent_until_the_reset_and_some_seconds(rig: Rig) -> None:
    reset_at = now() + timedelta(hours=2)
    park = await rig.troubles.report("alice", "limit", reset_at.isoformat(), "five_hour")
    assert park == rig.own("alice", ParkKind.LIMIT)
    assert park is not None
    assert park.until is not None
    assert 4.9 <= (park.until - reset_at).total_seconds() <= 60
    assert rig.parking.find("bob") is None


async def test_an_agent_that_shall_not_go_on_by_itself_waits_for_the_operator(rig: Rig) -> None:
    rig.stubborn = {"alice"}
    await rig.troubles.report("alice", "limit", (now() + timedelta(hours=2)).isoformat(), "five_hour")
    assert rig.own("alice", ParkKind.LIMIT).until is None
    await rig.troubles.report("alice", "limit", "", "five_hour")
    assert rig.parked == ["alice"]


async def test_limits_without_a_reset_time_wait_longer_each_time_until_a_turn_ends_well(rig: Rig) -> None:
    waits: list[int] = []
    for _ in range(3):
        await rig.troubles.report("alice", "limit", "soon", "429")
        waits.append(round(left_s(rig.own("alice", ParkKind.LIMIT))))
        await rig.parking.release("alice")
    rig.troubles.note_events("alice", [ended("limit")])
    await rig.troubles.report("alice", "limit", "", "429")
    waits.append(round(left_s(rig.own("alice", ParkKind.LIMIT))))
    await rig.parking.release("alice")
    rig.troubles.note_events("alice", [ended("ok")])
    await rig.troubles.report("alice", "limit", "", "429")
    waits.append(round(left_s(rig.own("alice", ParkKind.LIMIT))))
    assert waits == [60, 120, 240, 480, 60]


async def test_an_agent_that_reports_on_and_on_writes_nothing_new(rig: Rig) -> None:
    for seconds in range(30):
        await rig.troubles.report("alice", "limit", (now() + timedelta(hours=1, seconds=seconds / 10)).isoformat(), "x")
        await rig.troubles.report("alice", "limit", "", f"x{seconds}")
        await rig.troubles.report("alice", "login", "", f"x{seconds}")
        await rig.troubles.report("alice", "failing", "", f"x{seconds}")
    assert rig.parked == ["alice"] * 3


async def test_a_limit_that_turns_out_longer_is_waited_for(rig: Rig) -> None:
    for hours in (5, 100):
        await rig.troubles.report("alice", "limit", (now() + timedelta(hours=hours)).isoformat(), "x")
    assert left_s(rig.own("alice", ParkKind.LIMIT)) > 99 * 3600
    await rig.troubles.report("alice", "limit", (now() + timedelta(hours=5)).isoformat(), "x")
    assert left_s(rig.own("alice", ParkKind.LIMIT)) > 99 * 3600


@pytest.mark.parametrize("kind", ["login", "failing"])
async def test_a_dead_login_and_failures_wait_for_somebody(rig: Rig, kind: str) -> None:
    park = await rig.troubles.report("alice", kind, (now() + timedelta(minutes=1)).isoformat(), "401")
    assert park is not None
    assert (park.agent, park.kind, park.until, park.reason) == ("alice", kind, None, "401")
    assert rig.parking.find("bob") is None


@pytest.mark.parametrize("who", ["alice", EVERYONE])
async def test_a_spent_budget_is_not_a_limit_too(rig: Rig, who: str) -> None:
    await rig.parking.park(who, ParkKind.BUDGET, "5M tokens")
    park = await rig.troubles.report("alice", "limit", "", "402")
    assert park is not None
    assert park.kind is ParkKind.BUDGET
    assert rig.parking.find_own("alice", ParkKind.LIMIT) is None


@pytest.mark.parametrize("kind", ["paused", "budget", "", "LIMIT", "x" * 1000])
async def test_a_harness_cannot_report_what_is_not_its_own_to_say(rig: Rig, kind: str) -> None:
    with pytest.raises(InvalidInputError):
        await rig.troubles.report("alice", kind, "", "")
    assert rig.parking.find("alice") is None


async def test_what_a_harness_tells_is_short_and_controls_nothing(rig: Rig) -> None:
    park = await rig.troubles.report("alice", "failing", "", "a\n\x1b[2J\u202e\ud800" + "x" * 1900)
    assert park is not None
    assert park.reason.startswith("a \\x1b[2J\\u202e\\ud800x")
    assert len(park.reason) == 300


# -- the hive's credential -----------------------------------------------------------------------------------


async def test_a_limit_on_the_shared_credential_parks_everyone_until_the_service_says(shared: Rig) -> None:
    reset_s = int(now().timestamp()) + 3600
    window = b"Anthropic-Ratelimit-Unified-"
    shared.refuse("alice", 429, (window + b"Status", b"rejected"), (window + b"Reset", b"%d" % reset_s))
    # What alice says of the time counts nothing.
    park = await shared.troubles.report("alice", "limit", (now() + timedelta(days=7)).isoformat(), "five_hour")
    assert park is not None
    assert (park.agent, park.kind) == (EVERYONE, ParkKind.LIMIT)
    assert "alice" in park.reason
    assert 3600 <= left_s(park) <= 3661
    assert shared.parking.find("bob") == park
    assert shared.parking.find_own("alice", ParkKind.LIMIT) is None


async def test_whoever_shall_not_go_on_by_itself_is_parked_beside_the_hive(shared: Rig) -> None:
    shared.stubborn = {"bob"}
    for agent in ("alice", "alice"):
        shared.refuse(agent, 429, (b"retry-after", b"120"))
        await shared.troubles.report(agent, "limit", "", "429")
    assert shared.own("bob", ParkKind.LIMIT).until is None
    assert 120 <= left_s(shared.own(EVERYONE, ParkKind.LIMIT)) <= 181
    assert shared.parked == ["bob", None]


async def test_a_hundred_reports_of_one_limit_are_one(shared: Rig) -> None:
    for agent in ("alice", "bob"):
        shared.refuse(agent, 429)
    await asyncio.gather(*(shared.troubles.report(agent, "limit", "", "429") for agent in ("alice", "bob") * 50))
    assert 55 < left_s(shared.own(EVERYONE, ParkKind.LIMIT)) <= 60
    await shared.parking.release(EVERYONE)
    await shared.troubles.report("bob", "limit", "", "429")
    assert 115 < left_s(shared.own(EVERYONE, ParkKind.LIMIT)) <= 120
    assert shared.parked == [None, None]


async def test_one_agents_word_does_not_stop_the_hive(shared: Rig) -> None:
    shared.refuse("bob", 429)
    for kind in ("limit", "login"):
        await shared.troubles.report("alice", kind, "", "believe me")
    # The gateway's own refusal has no number of the service's.
    shared.refusals.note("alice", 429, [(b"retry-after", b"3600")])
    await shared.parking.release("alice")
    await shared.troubles.report("alice", "limit", "", "believe me")
    assert set(shared.parked) == {"alice"}
    assert shared.parking.find("bob") is None


async def test_a_refusal_that_was_followed_by_an_answer_is_past(shared: Rig) -> None:
    for status in (429, 401):
        shared.refuse("alice", status)
        shared.refusals.note("alice", 200, [])
        assert shared.refusals.find("alice", status) is None
    shared.refuse("alice", 401)
    await shared.troubles.report("alice", "limit", "", "429")
    assert shared.parked == ["alice"]


async def test_a_dead_shared_credential_parks_everyone_until_the_next_daemon(shared: Rig) -> None:
    shared.refuse("alice", 401)
    shared.refuse("bob", 401)
    for agent in ("alice", "bob"):
        park = await shared.troubles.report(agent, "login", "", "401")
        assert park is not None
        assert (park.agent, park.kind, park.until) == (EVERYONE, ParkKind.LOGIN, None)
    assert shared.parked == [None]
    await shared.parking.park("bob", ParkKind.LOGIN, "its own")
    await shared.make_troubles(shared=True).begin()
    assert shared.parking.find("alice") is None
    assert shared.own("bob", ParkKind.LOGIN).reason == "its own"


# -- answers that pass the gateway ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "after_s"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": "99999999999999999999"}, None),
        ({"retry-after": "9999999999"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 18:56:35 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "9999999999"}, None),
        # A window that is far from full is not what refused this request.
        ({"anthropic-ratelimit-unified-status": "allowed", "anthropic-ratelimit-unified-reset": "{later}"}, None),
        ({"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "{later}"}, 7200),
        ({}, None),
    ],
)
def test_only_a_reset_time_of_the_service_that_can_be_true_is_kept(
    headers: dict[str, str], after_s: int | None
) -> None:
    refusals, before = Refusals(), now()
    later = str(int(before.timestamp()) + 7200)
    named = [(name.encode(), value.replace("{later}", later).encode()) for name, value in headers.items()]
    refusals.note("alice", 429, [OF_THE_SERVICE, *named])
    refusal = refusals.find("alice", 429)
    assert refusal is not None
    assert (refusal.reset_at is None) == (after_s is None)
    if refusal.reset_at is not None and after_s is not None:
        assert abs((refusal.reset_at - before).total_seconds() - after_s) < 5


@pytest.mark.parametrize(("path", "seen"), [("/v1/messages", True), ("/v1/models", False)])
async def test_answers_are_looked_at_and_pass_unchanged(path: str, seen: bool) -> None:
    messages = [
        {"type": "http.response.start", "status": 401, "headers": [OF_THE_SERVICE]},
        {"type": "http.response.body", "body": b"{}"},
    ]

    def gateway(agent: str) -> Application:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            for message in messages:
                await send(dict(message))

        return serve

    passed: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read")

    async def send(message: MutableMapping[str, Any]) -> None:
        passed.append(message)

    refusals = Refusals()
    await refusals.watch(gateway)("alice")({"type": "http", "path": path}, receive, send)
    assert passed == messages
    assert (refusals.find("alice", 401) is not None) == seen
    assert refusals.find("bob", 401) is None
