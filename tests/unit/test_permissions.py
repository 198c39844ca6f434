"""A tool call that waits for the operator: only a plain yes lets it through, and a yes counts for one call."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hyperhive.core.errors import ConflictError, InvalidInputError, TooLargeError
from hyperhive.core.events import Event, EventName
from hyperhive.core.questions import PERMISSION_OPTIONS, PERMISSION_TTL_S, QUESTION_LIMIT_CHARS, Question, QuestionKind
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.feed import Feed
from hyperhive.host.permissions import Permissions, list_options, render_permission_question
from hyperhive.host.questions import OPEN_LIMIT, Questions, cancel_permissions
from hyperhive.host.store.rows import to_question
from hyperhive.host.store.store import Store

KEY = "key-12345"
ONCE, HALF_AN_HOUR, DENY = PERMISSION_OPTIONS
CLOSE_S = 5


@dataclass
class Desk:
    """The operator's questions on a real store, and the events that were published."""

    path: Path
    store: Store
    questions: Questions
    permissions: Permissions
    events: list[Event] = field(default_factory=list[Event])
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if event.name is EventName.QUESTION_ASKED:
            self.asked.set()

    async def ask(self, wait_s: float = 0, key: str = KEY, agent: str = "alice") -> tuple[int, str, str]:
        return await self.permissions.ask(agent, "Bash", "git push", "bash.ask: git push*", wait_s, key)

    async def count_messages(self, agent: str) -> int:
        rows = await self.store.read(lambda view: view.list("list_messages", agent=agent, before=2**62, limit=10))
        return len(rows)

    async def get(self, question_id: int) -> Question:
        return to_question(await self.store.read(lambda view: view.get("get_question", id=question_id)))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    feed = Feed()
    store = Store(tmp_path / "hive.sqlite", "hive", feed.publish_events)
    desk = Desk(tmp_path / "hive.sqlite", store, Questions(store), Permissions(store))
    feed.listen(desk.permissions.on_event)
    feed.listen(desk.on_event)
    for name in ("alice", "bob"):
        await store.write(lambda tx, name=name: insert_agent(tx, name, None))
    yield desk
    store.close()


async def test_without_a_wait_the_call_is_undecided_and_the_operator_has_the_question(desk: Desk) -> None:
    question_id, decision, reason = await desk.ask()
    assert (decision, reason) == ("", "")
    question = await desk.get(question_id)
    assert (question.kind, question.agent, question.options) == (
        QuestionKind.PERMISSION,
        "alice",
        tuple(PERMISSION_OPTIONS),
    )
    assert "Bash" in question.question
    assert "bash.ask: git push*" in question.question
    assert question.question.endswith("\n\ngit push")
    assert (question.expires_at - question.asked_at).total_seconds() == PERMISSION_TTL_S


@pytest.mark.parametrize(("option", "decision"), PERMISSION_OPTIONS.items())
async def test_a_waiting_call_gets_the_operators_decision_and_reason(desk: Desk, option: str, decision: str) -> None:
    waiting = asyncio.ensure_future(desk.ask(wait_s=30))
    async with asyncio.timeout(CLOSE_S):
        await desk.asked.wait()
        [question] = await desk.questions.list_questions("open")
        await desk.questions.answer(question.id, [option], "mind the branch")
        assert await waiting == (question.id, decision, "mind the branch")


async def test_the_same_key_goes_on_waiting_for_the_same_question(desk: Desk) -> None:
    first, _, _ = await desk.ask()
    again = asyncio.ensure_future(desk.ask(wait_s=30))
    await desk.questions.answer(first, [ONCE], "")
    async with asyncio.timeout(CLOSE_S):
        assert await again == (first, "allow_once", "")
    assert await desk.ask() == (first, "allow_once", "")
    assert [event.name for event in desk.events].count(EventName.QUESTION_ASKED) == 1


async def test_words_alone_deny_and_are_the_reason(desk: Desk) -> None:
    question_id, _, _ = await desk.ask()
    answered = await desk.questions.answer(question_id, [], "not on a friday")
    assert answered.answer == f"{DENY}\nnot on a friday"
    assert await desk.ask() == (question_id, "deny", "not on a friday")


@pytest.mark.parametrize("text", [ONCE, f"{HALF_AN_HOUR}\nplease", f" {ONCE} ", "yes"])
async def test_words_that_look_like_an_option_are_words(desk: Desk, text: str) -> None:
    question_id, _, _ = await desk.ask()
    await desk.questions.answer(question_id, [], text)
    assert (await desk.ask())[1] == "deny"


async def test_two_options_are_refused_and_the_question_stays_open(desk: Desk) -> None:
    question_id, _, _ = await desk.ask()
    for options in ([ONCE, DENY], [ONCE, ONCE], ["allow for ever"], []):
        with pytest.raises(InvalidInputError):
            await desk.questions.answer(question_id, options, "")
    assert (await desk.ask())[1] == ""


async def test_a_cancelled_question_denies(desk: Desk) -> None:
    waiting = asyncio.ensure_future(desk.ask(wait_s=30))
    async with asyncio.timeout(CLOSE_S):
        await desk.asked.wait()
        [question] = await desk.questions.list_questions("open")
        await desk.questions.cancel(question.id)
        assert await waiting == (question.id, "deny", "the question was cancelled")


async def test_a_question_that_nobody_answered_denies(desk: Desk) -> None:
    question_id, _, _ = await desk.ask()
    waiting = asyncio.ensure_future(desk.ask(wait_s=30))
    # As if its time had passed: nothing in the past is due earlier.
    with contextlib.closing(sqlite3.connect(desk.path)) as connection:
        connection.execute("update questions set expires_at = 1 where id = ?", (question_id,))
        connection.commit()
    expiring = asyncio.ensure_future(desk.questions.expire_forever())
    try:
        async with asyncio.timeout(CLOSE_S):
            assert await waiting == (question_id, "deny", "the operator did not answer within 10 minutes")
    finally:
        expiring.cancel()


async def test_no_message_is_sent_for_a_permission_however_it_ends(desk: Desk) -> None:
    for number, end in enumerate((ONCE, DENY, None)):
        question_id, _, _ = await desk.ask(key=f"key-1234{number}")
        if end is None:
            await desk.questions.cancel(question_id)
        else:
            await desk.questions.answer(question_id, [end], "because")
    assert await desk.count_messages("alice") == 0
    ordinary = await desk.questions.ask("alice", "which?", ["a"], False, None, "key-ordinary")
    await desk.questions.answer(ordinary.id, ["a"], "")
    assert await desk.count_messages("alice") == 1


async def test_a_key_gives_no_other_call_the_answer_of_this_one(desk: Desk) -> None:
    question_id, _, _ = await desk.ask()
    await desk.questions.answer(question_id, [HALF_AN_HOUR], "")
    with pytest.raises(ConflictError):
        await desk.permissions.ask("alice", "Bash", "rm -rf /", "bash.ask: git push*", 0, KEY)
    assert (await desk.ask(agent="bob"))[1] == ""


async def test_a_key_of_an_ordinary_question_is_no_permission_and_the_other_way_round(desk: Desk) -> None:
    ordinary = await desk.questions.ask("alice", "may I?", [ONCE], False, None, KEY)
    await desk.questions.answer(ordinary.id, [ONCE], "")
    with pytest.raises(ConflictError):
        await desk.ask()
    await desk.ask(key="key-other")
    with pytest.raises(ConflictError):
        await desk.questions.ask("alice", "may I?", [], False, None, "key-other")


async def test_only_so_many_calls_wait_at_once_and_ordinary_questions_are_not_in_their_way(desk: Desk) -> None:
    for number in range(OPEN_LIMIT):
        await desk.ask(key=f"key-{number:05}")
    with pytest.raises(TooLargeError):
        await desk.ask(key="key-more")
    assert (await desk.ask(key="key-00000"))[1] == ""
    await desk.ask(agent="bob")
    await desk.questions.ask("alice", "which?", [], False, None, "key-ordinary")


async def test_a_harness_that_is_gone_leaves_no_question_open(desk: Desk) -> None:
    mine, _, _ = await desk.ask()
    his, _, _ = await desk.ask(agent="bob")
    ordinary = await desk.questions.ask("alice", "which?", [], False, None, "key-ordinary")
    await desk.store.write(lambda tx: cancel_permissions(tx, "alice"))
    assert {question.id for question in await desk.questions.list_questions("open")} == {his, ordinary.id}
    assert await desk.ask() == (mine, "deny", "the question was cancelled")


@pytest.mark.parametrize("wait_s", [-1.0, float("nan")])
async def test_a_wait_that_is_none_returns_at_once(desk: Desk, wait_s: float) -> None:
    async with asyncio.timeout(CLOSE_S):
        assert (await desk.ask(wait_s=wait_s))[1] == ""


async def test_a_wait_that_was_given_up_leaves_nothing_behind(desk: Desk) -> None:
    waiting = asyncio.ensure_future(desk.ask(wait_s=30))
    await desk.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await desk.ask(wait_s=0.01)
    assert not vars(desk.permissions)["_waiters"]


async def test_a_call_without_a_tool_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidInputError):
        await desk.permissions.ask("alice", " ", "x", "", 0, KEY)


def test_the_operator_reads_what_a_call_would_hide() -> None:
    text = render_permission_question("Ba\nsh", "echo \x1b[2K\u202egnp.exe\nrule: none", "bash.ask: \x07*")
    assert "Ba sh" in text
    assert "\\x1b[2K\\u202egnp.exe" in text
    assert "\\x07" in text
    # The hive's own words come first: nothing that an agent writes can stand in their place.
    assert text.index("Without an answer") < text.index("rule: none")


def test_a_long_call_says_that_it_is_cut_before_it_is_shown() -> None:
    text = render_permission_question("T" * 5000, "x" * 50_000, "r" * 5000)
    assert len(text) <= QUESTION_LIMIT_CHARS
    assert text.index("Only the first 3000 of its 50000 characters are shown") < text.index("xxx")


def test_what_is_not_understood_can_be_granted_only_once() -> None:
    assert list_options("bash.ask: git push*") == (ONCE, HALF_AN_HOUR, DENY)
    assert list_options("permissions.ask: Bash; bash.ask: what is not understood, curl *") == (ONCE, DENY)
