"""Needs you: what is in the queue and what is not, in which order, and who is told of its edges."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, OPERATOR
from hyperhive.core.needs import DETAIL_LIMIT_CHARS, Need, NeedKind, sort_needs
from hyperhive.core.parking import EVERYONE, ParkKind
from hyperhive.core.policy import Policy
from hyperhive.core.questions import NOTES_OPTIONS, NOTES_TTL_S, Question, QuestionKind, QuestionStatus
from hyperhive.host.agent_records import insert_agent, mark_destroyed, mark_started
from hyperhive.host.approval_records import insert_approval, resolve
from hyperhive.host.broker import Broker
from hyperhive.host.budgets import Spending
from hyperhive.host.feed import Feed
from hyperhive.host.leases import bury_messages
from hyperhive.host.message_records import queue_message
from hyperhive.host.need_views import view_approval, view_question
from hyperhive.host.needs import LETTERS_LIMIT, Needs
from hyperhive.host.park_records import park_in, release_in
from hyperhive.host.parking import Parking
from hyperhive.host.permissions import Permissions
from hyperhive.host.questions import Questions, open_question
from hyperhive.host.roster import Roster
from hyperhive.host.store.rows import Desired
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now

CLOSE_S = 5.0
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOSTILE = "\x1b[2J approve me\n"


async def get_policy(name: str) -> Policy:
    return Policy()


@dataclass
class Desk:
    """A store with agents, and the queue on it. `told` is what a listener was told: keys that are new, and gone."""

    store: Store
    feed: Feed
    roster: Roster
    parking: Parking
    needs: Needs
    told: list[tuple[list[str], list[str]]] = field(default_factory=list[tuple[list[str], list[str]]])
    _edge: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, new: Sequence[Need], gone: Sequence[str]) -> None:
        self.told.append(([need.key for need in new], list(gone)))
        self._edge.set()

    async def list_keys(self) -> list[str]:
        return [need.key for need in await self.needs.list_needs()]

    async def get(self, key: str) -> Need:
        return next(need for need in await self.needs.list_needs() if need.key == key)

    async def wait_told(self, count: int) -> list[tuple[list[str], list[str]]]:
        async with asyncio.timeout(CLOSE_S):
            while len(self.told) < count:
                self._edge.clear()
                await self._edge.wait()
        return self.told

    async def bury(self, recipient: str = "alice", body: str = "hello", count: int = 1) -> list[int]:
        """Messages of the operator's that were given up."""

        def bury(tx: Transaction) -> list[int]:
            ids = [queue_message(tx, OPERATOR, recipient, body) for _ in range(count)]
            bury_messages(tx, recipient, "it broke")
            return [message.id for message in ids]

        return await self.store.write(bury)

    async def request(self, agent: str = "bob", description: str = "") -> Approval:
        return await self.store.write(lambda tx: insert_approval(tx, ApprovalKind.SPAWN, agent, MANAGER, description))


@contextlib.asynccontextmanager
async def open_desk(folder: Path) -> AsyncGenerator[Desk]:
    """Opened again on the same folder it is the daemon's next start."""
    feed = Feed()
    store = Store(folder / "hive.sqlite", "hive", feed.publish_events)
    parking = Parking(store)
    await parking.load()
    roster = Roster(store, feed, "none", parking, lambda _: Spending(0, 0.0, False, None, None))
    needs = Needs(store, feed, roster, recheck_s=0.1)
    feed.listen(parking.on_event)
    feed.listen(needs.on_event)
    await needs.load()
    desk = Desk(store, feed, roster, parking, needs)
    needs.on_edge(desk.note)
    try:
        yield desk
    finally:
        store.close()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as desk:
        for name in (MANAGER, "alice"):
            await desk.store.write(lambda tx, name=name: insert_agent(tx, name, None))
        yield desk


@contextlib.asynccontextmanager
async def watching(desk: Desk) -> AsyncGenerator[None]:
    """The queue is watched, and what was there at the start is known."""
    looked = asyncio.Event()

    def note_look() -> Sequence[Need]:
        looked.set()
        return ()

    desk.needs.include(note_look)
    task = asyncio.create_task(desk.needs.watch_forever())
    try:
        async with asyncio.timeout(CLOSE_S):
            await looked.wait()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# -- what is in it -----------------------------------------------------------------------------------------


async def ask_approval(desk: Desk) -> Callable[[], Awaitable[object]]:
    approval = await desk.request()
    return lambda: desk.store.write(lambda tx: resolve(tx, approval.id, ApprovalStatus.DENIED, "no"))


async def ask_question(desk: Desk) -> Callable[[], Awaitable[object]]:
    questions = Questions(desk.store)
    question = await questions.ask("alice", "which?", ["a", "b"], False, 60, "k")
    return lambda: questions.answer(question.id, ["a"], "")


async def ask_permission(desk: Desk) -> Callable[[], Awaitable[object]]:
    id_, _, _ = await Permissions(desk.store).ask("alice", "Bash", "ls", "permissions.ask: Bash", 0, "k")
    return lambda: Questions(desk.store).cancel(id_)


async def ask_notes(desk: Desk) -> Callable[[], Awaitable[object]]:
    def ask(tx: Transaction) -> Question:
        return open_question(tx, QuestionKind.NOTES, "alice", "shorter?", NOTES_OPTIONS, False, NOTES_TTL_S, "k")

    question = await desk.store.write(ask)
    return lambda: Questions(desk.store).cancel(question.id)


def park_with(agent: str, kind: ParkKind) -> Callable[[Desk], Awaitable[Callable[[], Awaitable[object]]]]:
    async def park(desk: Desk) -> Callable[[], Awaitable[object]]:
        await desk.store.write(lambda tx: park_in(tx, agent, kind, "because"))
        return lambda: desk.store.write(lambda tx: release_in(tx, agent, (kind,)))

    return park


async def fail_start(desk: Desk) -> Callable[[], Awaitable[object]]:
    await desk.store.write(lambda tx: mark_started(tx, "alice", "no such package"))
    return lambda: desk.store.write(lambda tx: mark_started(tx, "alice", ""))


async def kill_letter(desk: Desk) -> Callable[[], Awaitable[object]]:
    [id_] = await desk.bury()
    return lambda: Broker(desk.store, get_policy).requeue_dead(id_)


@pytest.mark.parametrize(
    ("begin", "key", "acts"),
    [
        (ask_approval, "approval-1", ("approve", "deny")),
        (ask_question, "question-1", ("answer",)),
        (ask_permission, "permission-1", ("answer",)),
        (ask_notes, "notes-1", ("answer",)),
        (park_with("alice", ParkKind.LOGIN), "login-alice", ("login",)),
        (park_with(EVERYONE, ParkKind.LOGIN), "login-hyperhive", ("resume",)),
        (park_with("alice", ParkKind.BUDGET), "budget-alice", ("grant",)),
        (park_with(EVERYONE, ParkKind.BUDGET), "budget-hyperhive", ("grant",)),
        (park_with("alice", ParkKind.LIMIT), "limit-alice", ("resume",)),
        (park_with("alice", ParkKind.FAILING), "crash-alice", ("resume",)),
        (fail_start, "crash-alice", ("start",)),
        (kill_letter, "dead_letter-", ("requeue", "dismiss")),
    ],
)
async def test_each_kind_comes_is_told_once_goes_and_is_told_gone(
    desk: Desk,
    begin: Callable[[Desk], Awaitable[Callable[[], Awaitable[object]]]],
    key: str,
    acts: tuple[str, ...],
) -> None:
    async with watching(desk):
        end = await begin(desk)
        [([new], gone)] = await desk.wait_told(1)
        assert (new.startswith(key), gone) == (True, [])
        need = await desk.get(new)
        assert (need.acts, need.link) == (acts, f"/#need-{new}")
        assert need.title
        assert "\n" not in need.title
        assert need.by_default
        await end()
        assert (await desk.wait_told(2))[1:] == [([], [new])]
        assert await desk.list_keys() == []


async def test_a_question_tells_its_deadline_and_what_comes_of_silence(desk: Desk) -> None:
    question = await Questions(desk.store).ask("alice", "which?", [], False, 60, "k")
    need = await desk.get(f"question-{question.id}")
    assert (need.deadline, need.since, need.detail) == (question.expires_at, question.asked_at, "which?")
    assert "nobody answered" in need.by_default


@pytest.mark.parametrize("kind", [ParkKind.PAUSED, ParkKind.LIMIT])
async def test_what_the_operator_wished_or_what_ends_by_itself_needs_nobody(desk: Desk, kind: ParkKind) -> None:
    until = now() + timedelta(hours=1) if kind is ParkKind.LIMIT else None
    await desk.store.write(lambda tx: park_in(tx, "alice", kind, "", until))
    assert await desk.list_keys() == []


async def test_whoever_was_stopped_waits_for_nobody(desk: Desk) -> None:
    await desk.store.write(lambda tx: park_in(tx, "alice", ParkKind.LOGIN, ""))
    await desk.store.write(lambda tx: mark_started(tx, "alice", "no such package"))
    assert sorted(await desk.list_keys()) == ["crash-alice", "login-alice"]
    await desk.store.write(lambda tx: tx.list("set_desired", name="alice", desired=Desired.STOPPED))
    assert await desk.list_keys() == []


async def test_a_container_that_crashed_once_was_started_again_and_one_that_goes_on_crashing_needs_a_look(
    desk: Desk,
) -> None:
    live = desk.roster.live("alice")
    live.crashes = 1
    assert await desk.list_keys() == []
    live.crashes = 2
    need = await desk.get("crash-alice")
    assert ("again" in need.title, need.acts) == (True, ())


async def test_a_crash_is_as_old_as_its_event_also_after_a_restart(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        await desk.store.write(lambda tx: insert_agent(tx, "alice", None))
        await desk.store.write(lambda tx: mark_started(tx, "alice", "no such package"))
        since = (await desk.get("crash-alice")).since
    async with open_desk(tmp_path) as again:
        assert abs((await again.get("crash-alice")).since - since) < timedelta(milliseconds=2)


async def test_the_most_urgent_comes_first(desk: Desk) -> None:
    questions = Questions(desk.store)
    await desk.request()
    await questions.ask("alice", "slow", [], False, 7200, "slow")
    await questions.ask("alice", "quick", [], False, 60, "quick")
    await desk.request("carol")
    await desk.store.write(lambda tx: park_in(tx, "alice", ParkKind.BUDGET, "spent", now() + timedelta(hours=1)))
    assert await desk.list_keys() == ["question-2", "budget-alice", "question-1", "approval-1", "approval-2"]


def test_age_decides_among_those_without_a_deadline_and_the_key_among_equals() -> None:
    def need(ref: str, since: datetime = AT, deadline: datetime | None = None) -> Need:
        return Need(NeedKind.CRASH, ref, None, "", "", since, deadline, "", ())

    late, late_too = need("b", AT + timedelta(seconds=1)), need("a", AT + timedelta(seconds=1))
    soon, old = need("c", AT + timedelta(hours=1), AT + timedelta(days=9)), need("d")
    assert sort_needs([late, old, late_too, soon]) == [soon, old, late_too, late]


def test_what_an_agent_wrote_is_in_the_detail_alone_and_cut() -> None:
    approval = Approval(1, ApprovalKind.APPLY, "alice", ApprovalStatus.PENDING, MANAGER, HOSTILE * 200, AT)
    question = Question(2, QuestionKind.QUESTION, "alice", HOSTILE * 200, (), False, QuestionStatus.OPEN, AT, AT)
    for need in (view_approval(approval), view_question(question)):
        assert "approve me" in need.detail
        assert len(need.detail) == DETAIL_LIMIT_CHARS
        assert "approve me" not in need.title + need.by_default


# -- dead letters ------------------------------------------------------------------------------------------


async def test_a_dismissed_letter_stays_dead_and_needs_nobody_until_it_dies_again(desk: Desk) -> None:
    [id_] = await desk.bury()
    assert await desk.list_keys() == [f"dead_letter-{id_}"]
    await desk.needs.dismiss(id_)
    await desk.needs.dismiss(id_)
    assert await desk.list_keys() == []
    row = await desk.store.read(lambda view: view.get("find_letter", id=id_))
    assert row["state"] == "dead"
    facts = await desk.store.read(lambda view: view.list("list_events_after", after=0, limit=100))
    assert [fact["name"] for fact in facts].count(EventName.MESSAGE_DISMISSED) == 1

    await Broker(desk.store, get_policy).requeue_dead(id_)
    # A later moment: what died is told from what dies by when.
    await wait_later(row["settled_at"])
    await desk.store.write(lambda tx: bury_messages(tx, "alice", "again"))
    assert await desk.list_keys() == [f"dead_letter-{id_}"]


async def wait_later(millis: int) -> None:
    while now().timestamp() * 1000 <= millis + 1:
        await asyncio.sleep(0.001)


async def test_only_what_is_dead_can_be_dismissed(desk: Desk) -> None:
    with pytest.raises(NotFoundError):
        await desk.needs.dismiss(99)
    await desk.store.write(lambda tx: queue_message(tx, OPERATOR, "alice", "hello"))
    with pytest.raises(ConflictError):
        await desk.needs.dismiss(1)


async def test_letters_to_agents_that_are_gone_or_were_not_there_yet_need_nobody(desk: Desk) -> None:
    [first] = await desk.bury()
    row = await desk.store.read(lambda view: view.get("find_letter", id=first))
    await desk.store.write(lambda tx: mark_destroyed(tx, "alice"))
    assert await desk.list_keys() == []
    await desk.store.write(lambda tx: tx.list("delete_agent", name="alice"))
    await wait_later(row["settled_at"])
    await desk.store.write(lambda tx: insert_agent(tx, "alice", None))
    assert await desk.list_keys() == []
    [second] = await desk.bury()
    assert await desk.list_keys() == [f"dead_letter-{second}"]


async def test_what_is_too_much_to_list_is_counted_and_listed_later(desk: Desk) -> None:
    ids = await desk.bury(count=LETTERS_LIMIT + 3)
    needs = await desk.needs.list_needs()
    assert len(needs) == LETTERS_LIMIT + 1
    more = next(need for need in needs if need.key == "dead_letter-more")
    assert (more.title, more.acts) == ("3 more messages were given up", ())
    for id_ in ids[:3]:
        await desk.needs.dismiss(id_)
    keys = await desk.list_keys()
    assert (len(keys), f"dead_letter-{ids[-1]}" in keys, "dead_letter-more" in keys) == (LETTERS_LIMIT, True, False)


# -- its edges ---------------------------------------------------------------------------------------------


async def test_what_is_there_at_the_start_is_never_told_and_its_end_is(desk: Desk) -> None:
    approval = await desk.request()
    async with watching(desk):
        await desk.request("carol")
        assert await desk.wait_told(1) == [(["approval-2"], [])]
        await desk.store.write(lambda tx: resolve(tx, approval.id, ApprovalStatus.DENIED, ""))
        assert (await desk.wait_told(2))[1:] == [([], ["approval-1"])]


async def test_many_changes_are_told_as_one_and_the_streams_are_told_to_look(desk: Desk) -> None:
    async with watching(desk):
        looks = desk.feed.subscribe(lambda item: item.kind == "needs")
        await asyncio.gather(*(desk.request(f"a{number}") for number in range(20)))
        await desk.wait_told(1)
        told = {key for new, _ in desk.told for key in new}
        items = await looks.take(CLOSE_S)
        while len(told) < 20:
            items += await looks.take(CLOSE_S)
            told = {key for new, _ in desk.told for key in new}
        assert len(desk.told) <= 3
        assert len(items) == len(desk.told)
        assert items[0].data == {}


async def test_what_went_and_came_again_is_new_again(desk: Desk) -> None:
    async with watching(desk):
        for count in (1, 3):
            await desk.store.write(lambda tx: park_in(tx, "alice", ParkKind.LOGIN, ""))
            await desk.wait_told(count)
            await desk.store.write(lambda tx: release_in(tx, "alice", (ParkKind.LOGIN,)))
            await desk.wait_told(count + 1)
        assert desk.told == [(["login-alice"], []), ([], ["login-alice"])] * 2


async def test_that_more_of_a_budget_is_spent_is_no_edge(desk: Desk) -> None:
    async with watching(desk):
        looks = desk.feed.subscribe(lambda item: item.kind == "needs")
        for reason in ("10 of 10", "11 of 10"):
            await desk.store.write(lambda tx, reason=reason: park_in(tx, "alice", ParkKind.BUDGET, reason))
            assert await looks.take(CLOSE_S)
        assert desk.told == [(["budget-alice"], [])]
        assert (await desk.get("budget-alice")).detail == "11 of 10"


async def test_what_has_no_event_is_noticed_all_the_same(desk: Desk) -> None:
    async with watching(desk):
        desk.roster.live("alice").crashes = 2
        desk.needs.changed()
        await desk.wait_told(1)
        # It runs steadily again: nobody says so.
        desk.roster.live("alice").crashes = 0
        assert (await desk.wait_told(2))[1:] == [([], ["crash-alice"])]


async def test_messages_that_come_and_go_are_no_reason_to_look(desk: Desk) -> None:
    async with watching(desk):
        looked: list[int] = []
        desk.needs.include(lambda: looked.append(1) or [])
        await desk.store.write(lambda tx: queue_message(tx, OPERATOR, "alice", "hello"))
        await desk.request()
        await desk.wait_told(1)
        assert len(looked) == 1
