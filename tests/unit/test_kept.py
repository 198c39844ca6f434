"""Kept state: shown as it is, revived as it was, purged without a trace but for the audit."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.questions import QuestionKind
from hyperhive.host.permissions import Permissions

HOSTILE = ["..", "-x", "a/b", "%2e%2e", ".", "", "A", "operator", "x" * 64, "a\0b"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ConfigRig]:
    async with open_config_rig(tmp_path) as rig:
        yield rig


async def test_what_is_kept_is_listed_with_its_size_and_whether_a_login_is_there(rig: ConfigRig) -> None:
    for name in ("alice", "bob"):
        await rig.spawn(name)
    (rig.roots.state_folder("alice") / "work").write_bytes(b"x" * 1_000_000)
    (rig.roots.claude_folder("alice") / ".credentials.json").write_text("{}")
    assert await rig.kept.list_kept() == []
    for name in ("alice", "bob"):
        await rig.destroy(name)
    alice, bob = await rig.kept.list_kept()
    assert (alice.name, alice.credentials, bob.name, bob.credentials) == ("alice", True, "bob", False)
    # The rest of the two differs by some blocks of the disk.
    assert alice.size_bytes - bob.size_bytes > 900_000
    assert alice.spawned_at <= alice.destroyed_at


async def test_what_an_agent_put_in_the_place_of_a_login_is_none(rig: ConfigRig, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    makers: dict[str, Callable[[Path], object]] = {
        "a-link": lambda place: place.symlink_to(secret),
        "a-hard-link": lambda place: place.hardlink_to(secret),
        "a-folder": Path.mkdir,
        "a-fifo": os.mkfifo,
        "an-empty-file": Path.touch,
    }
    for name, make in makers.items():
        await rig.spawn(name)
        make(rig.roots.claude_folder(name) / ".credentials.json")
        await rig.destroy(name)
    async with asyncio.timeout(10):
        kept = await rig.kept.list_kept()
    assert {row.name: row.credentials for row in kept} == dict.fromkeys(makers, False)


async def test_an_agent_whose_folders_are_gone_is_listed_all_the_same(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.destroy("alice")
    rig.roots.agents_folder.rename(rig.roots.data / "lost")
    [kept] = await rig.kept.list_kept()
    assert (kept.name, kept.credentials) == ("alice", False)


async def test_a_revived_agent_has_its_state_and_its_config_and_is_to_run(rig: ConfigRig) -> None:
    commit = await rig.spawn("alice", {"prompt.md": "be good"})
    notes = rig.roots.state_folder("alice") / "notes.md"
    notes.write_text("remember")
    await rig.destroy("alice")
    row = await rig.kept.revive("alice")
    assert (row.name, row.commit) == ("alice", commit)
    assert notes.read_text() == "remember"
    assert rig.woken == ["alice"]
    assert await rig.kept.list_kept() == []
    assert [event.agent for event in rig.events if event.name is EventName.AGENT_REVIVED] == ["alice"]
    assert (await rig.list_facts())[-1] == {"event": "revived", "agent": "alice"}
    assert (await rig.views.view("alice")).commit == commit


async def test_only_what_is_kept_can_be_revived_or_purged(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.drafts.create("carol", "manager")
    for name in ("alice", "manager"):
        with pytest.raises(ConflictError):
            await rig.kept.revive(name)
        with pytest.raises(ConflictError):
            await rig.kept.purge(name)
    for name in ("nobody", "carol"):
        with pytest.raises(NotFoundError):
            await rig.kept.revive(name)
        with pytest.raises(NotFoundError):
            await rig.kept.purge(name)
    assert rig.roots.state_folder("alice").is_dir()
    assert rig.roots.applied_repo("carol").is_dir()
    assert rig.woken == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_bad_name_revives_and_removes_nothing(rig: ConfigRig, name: str) -> None:
    before = sorted(rig.roots.data.rglob("*"))
    with pytest.raises(InvalidInputError):
        await rig.kept.revive(name)
    with pytest.raises(InvalidInputError):
        await rig.kept.purge(name)
    assert sorted(rig.roots.data.rglob("*")) == before


async def test_a_purge_leaves_nothing_of_the_agent_but_its_approvals(rig: ConfigRig) -> None:
    await rig.spawn("alice", {"prompt.md": "be good"})
    await rig.spawn("bob")
    waiting = await rig.propose("alice", {"prompt.md": "be better"})
    version = rig.roots.versions_folder("alice") / "commit"
    version.mkdir(parents=True)
    await rig.destroy("alice")
    await rig.kept.purge("alice")
    for folder in (
        rig.roots.agent_folder("alice"),
        rig.roots.proposed_folder_of("alice"),
        rig.roots.applied_repo("alice"),
        rig.roots.versions_folder("alice"),
    ):
        assert not folder.exists()
    assert (await rig.status(waiting))[0] is ApprovalStatus.FAILED
    review = await rig.reviews.review(waiting.id)
    assert review.comparison is None
    assert any("cannot be shown" in warning for warning in review.warnings)
    assert rig.roots.state_folder("bob").is_dir()
    assert await rig.kept.list_kept() == []
    with pytest.raises(NotFoundError):
        await rig.kept.revive("alice")


async def test_an_agent_of_a_purged_ones_name_has_no_part_in_its_history(rig: ConfigRig) -> None:
    await rig.spawn("alice", {"prompt.md": "the first alice"})
    await rig.end(await rig.propose("alice", {"prompt.md": "denied"}), ApprovalStatus.DENIED, "no")
    await rig.destroy("alice")
    await rig.kept.purge("alice")
    await rig.spawn("alice")
    assert [version.tag for version in await rig.views.history("alice")] == ["deployed/0"]
    approval = await rig.propose("alice", {"prompt.md": "the second alice"})
    review = await rig.reviews.review(approval.id)
    assert (review.earlier, review.since_earlier) == (None, None)


async def test_a_revival_and_a_purge_at_once_do_one_of_the_two(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    notes = rig.roots.state_folder("alice") / "notes.md"
    notes.write_text("remember")
    await rig.destroy("alice")
    outcomes = await asyncio.gather(rig.kept.revive("alice"), rig.kept.purge("alice"), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError | NotFoundError)]
    assert len(refused) == 1
    assert notes.exists() == bool(rig.woken)


async def test_a_permission_question_ends_with_its_agent(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.destroy("alice")
    # As if it had been asked in the last moment.
    await Permissions(rig.store).ask("alice", "Bash", "ls", "permissions.ask: Bash", 0, "key-12345")
    await rig.kept.purge("alice")
    [question] = await rig.questions.list_questions(None)
    assert (question.kind, question.status.value) == (QuestionKind.PERMISSION, "cancelled")
