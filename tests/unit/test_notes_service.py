"""Notes on the host: both texts are kept first, what loses much is asked about, and every version can come back."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.errors import (
    ConflictError,
    HiveError,
    InvalidInputError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from hyperhive.core.events import EventName
from hyperhive.core.notes import TEXT_LIMIT_BYTES, RewriteDecision
from hyperhive.core.questions import Question, QuestionKind, QuestionStatus
from hyperhive.harness.notes import NotesKeeper
from hyperhive.host.agent_records import get_agent
from hyperhive.host.link.server import LinkServer
from hyperhive.host.notes import REWRITES_PER_HOUR, Notes
from hyperhive.wire.agent_link import SET_NOTES

LONG = "# work\n- [ ] call bob\n" + "- [x] done\n" * 20
SHORT = "# work\n- [ ] call bob\n" + "- [x] done\n" * 5
TINY = "all is done\n"
HOSTILE = ["..", "-x", "a/b", "%2e%2e", ".", "", "A", "operator", "x" * 64, "a\0b"]


@dataclass
class Links:
    """The harnesses that are connected: real keepers of notes on their folders."""

    keepers: dict[str, tuple[NotesKeeper, Path]] = field(default_factory=dict[str, tuple[NotesKeeper, Path]])
    calls: list[str] = field(default_factory=list[str])
    failure: HiveError | None = None

    def get_connection(self, agent: str) -> "Connection":
        if agent not in self.keepers:
            raise UnavailableError(f"{agent} is not connected")
        return Connection(self, *self.keepers[agent])


@dataclass
class Connection:
    links: Links
    keeper: NotesKeeper
    folder: Path

    async def call(self, method: str, params: dict[str, Any], timeout_s: float) -> Any:
        assert (method, timeout_s > 0) == (SET_NOTES, True)
        self.links.calls.append(method)
        answer = self.keeper.take(params)
        hand_over(self.folder / "notes.md", self.folder)
        if self.links.failure is not None:
            raise self.links.failure
        return answer


def hand_over(file: Path, folder: Path) -> None:
    """Gives a file to the folder's owner, as if that had written it."""
    if file.exists() and os.geteuid() == 0:
        os.chown(file, folder.stat().st_uid, folder.stat().st_uid)


class NoMemory:
    def find_meta(self, key: str) -> str | None:
        return None

    def save_meta(self, key: str, value: str | None) -> None:
        pass


@dataclass
class Desk:
    rig: ConfigRig
    notes: Notes
    links: Links

    @property
    def state(self) -> Path:
        return self.rig.roots.state_folder("alice")

    @property
    def file(self) -> Path:
        return self.state / "notes.md"

    def connect(self) -> None:
        unused = cast("Any", None)
        self.links.keepers["alice"] = (NotesKeeper(self.state, NoMemory(), unused, unused), self.state)

    def write(self, text: str) -> None:
        self.file.write_text(text)
        hand_over(self.file, self.state)

    async def rewrite(self, before: str, after: str) -> RewriteDecision:
        return await self.notes.take_rewrite("alice", before, after)

    async def kinds(self) -> list[str]:
        return [version.kind for version in await self.notes.list_versions("alice")]

    async def find_question(self) -> Question:
        [question] = await self.rig.questions.list_questions("open")
        return question

    async def find_commit(self, kind: str) -> str:
        return next(version.commit for version in await self.notes.list_versions("alice") if version.kind == kind)

    def events(self) -> list[dict[str, Any]]:
        return [event.body for event in self.rig.events if event.name is EventName.NOTES_CHANGED]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_config_rig(tmp_path) as rig:
        await rig.spawn("alice")
        links = Links()
        notes = Notes(rig.store, rig.roots)
        notes.attach(cast("LinkServer", links))
        rig.questions.settle_with(QuestionKind.NOTES, notes.settle)
        desk = Desk(rig, notes, links)
        record = await rig.store.read(lambda view: get_agent(view, "alice"))
        if record.uid is not None:
            os.chown(desk.state, record.uid, record.uid)
        yield desk


# -- rewrites ----------------------------------------------------------------------------------------------


async def test_both_texts_of_a_rewrite_are_kept_before_it_may_be_written(desk: Desk) -> None:
    assert await desk.rewrite(LONG, SHORT) is RewriteDecision.APPLY
    newest, before = await desk.notes.list_versions("alice")
    assert (newest.kind, newest.size_before, newest.size_after) == ("compacted", len(LONG), len(SHORT))
    assert (before.kind, before.size_before, before.size_after) == ("kept", 0, len(LONG))
    assert desk.events() == [
        {"commit": newest.commit, "kind": "compacted", "size_before": len(LONG), "size_after": len(SHORT)}
    ]
    diff = await desk.notes.diff("alice", newest.commit)
    assert diff.version == newest
    assert [(file.path, file.added, file.removed) for file in diff.files] == [("notes.md", 0, 15)]
    assert await desk.rig.questions.list_questions(None) == []


async def test_what_is_the_newest_version_is_not_kept_twice(desk: Desk) -> None:
    await desk.rewrite(LONG + LONG, LONG)
    await desk.rewrite(LONG, SHORT)
    assert await desk.kinds() == ["compacted", "compacted", "kept"]


@pytest.mark.parametrize("after", ["", "\n", LONG, LONG + "x"])
async def test_a_rewrite_that_is_no_use_leaves_no_trace(desk: Desk, after: str) -> None:
    assert await desk.rewrite(LONG, after) is RewriteDecision.KEEP
    assert await desk.kinds() == []
    assert not desk.rig.roots.notes_repo("alice").exists()


async def test_texts_over_the_limit_and_too_many_rewrites_are_refused(desk: Desk) -> None:
    with pytest.raises(TooLargeError):
        await desk.rewrite("x" * (TEXT_LIMIT_BYTES + 1), "x")
    for _ in range(REWRITES_PER_HOUR):
        await desk.rewrite("x", "")
    with pytest.raises(TooLargeError):
        await desk.rewrite(LONG, SHORT)
    assert await desk.kinds() == []


async def test_half_of_a_surrogate_pair_is_no_obstacle(desk: Desk) -> None:
    assert await desk.rewrite("\ud800" * 100, "\udfff" * 50) is RewriteDecision.APPLY
    assert (await desk.notes.list_versions("alice"))[0].size_after == 50


# -- the question ------------------------------------------------------------------------------------------


async def test_a_rewrite_that_loses_much_is_asked_about_in_numbers_alone(desk: Desk) -> None:
    assert await desk.rewrite(LONG, TINY) is RewriteDecision.ASKED
    question = await desk.find_question()
    assert (question.kind, question.agent, question.options) == (
        QuestionKind.NOTES,
        "alice",
        ("apply", "keep the old"),
    )
    assert "1 of 1 headings and 1 of 1 open tasks" in question.question
    assert "bob" not in question.question
    assert await desk.kinds() == ["asked", "kept"]


@pytest.mark.parametrize("connected", [True, False])
async def test_nothing_is_written_until_the_operator_says_so(desk: Desk, *, connected: bool) -> None:
    if connected:
        desk.connect()
    desk.write(LONG)
    await desk.rewrite(LONG, TINY)
    assert desk.file.read_text() == LONG
    question = await desk.find_question()
    answered = await desk.rig.questions.answer(question.id, ["apply"], "")
    assert (answered.status, answered.answer) == (QuestionStatus.ANSWERED, "apply")
    assert desk.file.read_text() == TINY
    assert await desk.kinds() == ["compacted", "kept", "asked", "kept"]
    assert desk.links.calls == [SET_NOTES] * connected
    # Nobody but the operator decided: the agent is sent nothing.
    rows = await desk.rig.store.read(lambda view: view.list("list_messages", agent="alice", before=2**62, limit=9))
    assert rows == []


@pytest.mark.parametrize(("options", "text"), [(["keep the old"], ""), ([], "apply"), (["keep the old"], "apply")])
async def test_any_other_answer_leaves_the_notes_as_they_are(desk: Desk, options: list[str], text: str) -> None:
    desk.write(LONG)
    await desk.rewrite(LONG, TINY)
    answered = await desk.rig.questions.answer((await desk.find_question()).id, options, text)
    assert (answered.answer or "").startswith("keep the old")
    assert desk.file.read_text() == LONG
    assert await desk.kinds() == ["asked", "kept"]


@pytest.mark.parametrize("connected", [True, False])
async def test_notes_that_changed_meanwhile_are_not_overwritten_and_the_operator_is_told(
    desk: Desk, *, connected: bool
) -> None:
    if connected:
        desk.connect()
    await desk.rewrite(LONG, TINY)
    desk.write("by the agent")
    question = await desk.find_question()
    with pytest.raises(ConflictError, match="changed since they were rewritten: nothing was written"):
        await desk.rig.questions.answer(question.id, ["apply"], "")
    assert desk.file.read_text() == "by the agent"
    [ended] = await desk.rig.questions.list_questions(None)
    assert ended.status is QuestionStatus.CANCELLED


async def test_a_harness_that_does_not_answer_leaves_the_question_open_and_a_second_try_finds_it_done(
    desk: Desk,
) -> None:
    desk.connect()
    desk.write(LONG)
    await desk.rewrite(LONG, TINY)
    question = await desk.find_question()
    desk.links.failure = UnavailableError("alice did not answer within 10 s")
    with pytest.raises(UnavailableError):
        await desk.rig.questions.answer(question.id, ["apply"], "")
    assert (await desk.find_question()).id == question.id
    desk.links.failure = None
    await desk.rig.questions.answer(question.id, ["apply"], "")
    assert desk.file.read_text() == TINY


async def test_of_two_answers_at_once_one_counts(desk: Desk) -> None:
    desk.write(LONG)
    await desk.rewrite(LONG, TINY)
    question = await desk.find_question()
    answers = [desk.rig.questions.answer(question.id, [option], "") for option in ("apply", "keep the old", "apply")]
    outcomes = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Question, ConflictError, ConflictError]
    assert desk.file.read_text() == TINY


async def test_a_newer_rewrite_takes_the_place_of_the_question_about_an_older_one(desk: Desk) -> None:
    await desk.rewrite(LONG, TINY)
    first = await desk.find_question()
    await desk.rewrite(LONG + "more\n", TINY)
    second = await desk.find_question()
    assert second.id != first.id
    await desk.rewrite(LONG, SHORT)
    assert await desk.rig.questions.list_questions("open") == []


async def test_the_question_ends_with_the_agent(desk: Desk) -> None:
    await desk.rewrite(LONG, TINY)
    await desk.rig.destroy("alice")
    assert await desk.rig.questions.list_questions("open") == []


# -- the way back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connected", [True, False])
async def test_a_version_comes_back_and_what_stood_there_can_too(desk: Desk, *, connected: bool) -> None:
    if connected:
        desk.connect()
    await desk.rewrite(LONG, SHORT)
    desk.write(SHORT + "a new line\n")
    restored = await desk.notes.restore("alice", await desk.find_commit("kept"))
    assert desk.file.read_text() == LONG
    assert (restored.kind, restored.size_after) == ("restored", len(LONG))
    assert await desk.kinds() == ["restored", "kept", "compacted", "kept"]
    assert desk.events()[-1]["commit"] == restored.commit
    await desk.notes.restore("alice", await desk.find_commit("kept"))
    assert desk.file.read_text() == SHORT + "a new line\n"
    assert desk.file.stat().st_uid == desk.state.stat().st_uid
    assert desk.links.calls == [SET_NOTES, SET_NOTES] * connected


async def test_a_version_that_stands_there_already_is_not_restored(desk: Desk) -> None:
    await desk.rewrite(LONG, SHORT)
    desk.write(SHORT)
    with pytest.raises(ConflictError, match="already"):
        await desk.notes.restore("alice", await desk.find_commit("compacted"))
    assert await desk.kinds() == ["compacted", "kept"]


async def test_notes_that_are_gone_come_back(desk: Desk) -> None:
    await desk.rewrite(LONG, SHORT)
    await desk.notes.restore("alice", await desk.find_commit("kept"))
    assert desk.file.read_text() == LONG


async def test_bytes_that_are_no_text_come_back_exactly(desk: Desk) -> None:
    desk.connect()
    await desk.rewrite(LONG, SHORT)
    desk.write("")
    desk.file.write_bytes(b"\xff\0\r\n")
    await desk.notes.restore("alice", await desk.find_commit("kept"))
    await desk.notes.restore("alice", (await desk.notes.list_versions("alice"))[1].commit)
    assert desk.file.read_bytes() == b"\xff\0\r\n"


async def test_a_text_too_long_for_a_line_of_the_link_comes_back_all_the_same(desk: Desk) -> None:
    desk.connect()
    controls = "\x01" * (TEXT_LIMIT_BYTES - 1)
    await desk.rewrite(controls, "x" * (TEXT_LIMIT_BYTES - 2))
    await desk.notes.restore("alice", await desk.find_commit("kept"))
    assert desk.file.read_text() == controls
    assert desk.links.calls == []


async def test_an_answer_that_was_waited_for_has_no_question_after_a_restore(desk: Desk) -> None:
    await desk.rewrite(LONG, TINY)
    desk.write("other")
    await desk.notes.restore("alice", await desk.find_commit("kept"))
    assert await desk.rig.questions.list_questions("open") == []


PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda place, secret: place.symlink_to(secret),
    "a hard link": lambda place, secret: place.hardlink_to(secret),
    "a FIFO": lambda place, _: os.mkfifo(place),
    "a folder": lambda place, _: place.mkdir(),
    "too much": lambda place, _: place.write_bytes(bytes(TEXT_LIMIT_BYTES + 1)),
}


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("connected", [True, False])
async def test_what_could_not_be_kept_is_not_replaced(
    desk: Desk, tmp_path: Path, plant: str, *, connected: bool
) -> None:
    if connected:
        desk.connect()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    await desk.rewrite(LONG, SHORT)
    PLANTS[plant](desk.file, secret)
    async with asyncio.timeout(10):
        with pytest.raises(ConflictError):
            await desk.notes.restore("alice", await desk.find_commit("kept"))
    assert secret.read_text() == "secret"
    assert await desk.kinds() == ["compacted", "kept"]


async def test_of_two_restores_at_once_both_are_in_the_history(desk: Desk) -> None:
    await desk.rewrite(LONG, SHORT)
    desk.write("now\n")
    commits = [await desk.find_commit("kept"), await desk.find_commit("compacted")]
    await asyncio.gather(*(desk.notes.restore("alice", commit) for commit in commits))
    assert await desk.kinds() == ["restored", "restored", "kept", "compacted", "kept"]
    assert desk.file.read_text() == SHORT


# -- whose ------------------------------------------------------------------------------------------------


async def test_a_version_of_another_agent_is_none(desk: Desk) -> None:
    await desk.rig.spawn("bob")
    await desk.rewrite(LONG, SHORT)
    await desk.notes.take_rewrite("bob", SHORT, "# work\n- [ ] call bob\n- [x] done\n")
    commit = await desk.find_commit("kept")
    for act in (desk.notes.diff, desk.notes.restore):
        with pytest.raises(NotFoundError):
            await act("bob", commit)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_bad_name_leads_nowhere(desk: Desk, name: str) -> None:
    before = sorted(desk.rig.roots.data.rglob("*"))
    for act in (desk.notes.list_versions(name), desk.notes.diff(name, "a" * 40), desk.notes.restore(name, "a" * 40)):
        with pytest.raises(InvalidInputError):
            await act
    assert sorted(desk.rig.roots.data.rglob("*")) == before


async def test_the_versions_stay_with_a_destroyed_agent_and_go_with_a_purge(desk: Desk) -> None:
    await desk.rewrite(LONG, SHORT)
    await desk.rig.destroy("alice")
    assert await desk.kinds() == ["compacted", "kept"]
    with pytest.raises(NotFoundError):
        await desk.notes.restore("alice", await desk.find_commit("kept"))
    await desk.rig.kept.revive("alice")
    await desk.notes.restore("alice", await desk.find_commit("kept"))
    await desk.rig.destroy("alice")
    await desk.rig.kept.purge("alice")
    assert not desk.rig.roots.notes_repo("alice").exists()
    with pytest.raises(NotFoundError):
        await desk.notes.list_versions("alice")
