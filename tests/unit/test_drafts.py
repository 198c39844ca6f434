"""Drafts: made whole or mended, discarded with all that hangs on them, and never in the way of an agent."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, StorageError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.host.drafts import DRAFTS_LIMIT

HOSTILE = ["..", "-x", "a/b", "%2e%2e", ".", "", "A", "a\n", "manager", "operator", "x" * 64, "é", "a\0b"]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ConfigRig]:
    async with open_config_rig(tmp_path) as rig:
        yield rig


async def list_names(rig: ConfigRig) -> list[str]:
    return [draft.name for draft in await rig.drafts.list_drafts()]


async def test_a_draft_has_a_config_to_edit_and_a_folder_for_notes_and_no_agent(rig: ConfigRig) -> None:
    draft = await rig.drafts.create("carol", "manager")
    assert (draft.name, draft.requested_by) == ("carol", "manager")
    assert draft.size_bytes > 0
    proposed = rig.roots.proposed_folder_of("carol")
    assert (proposed / "config" / "agent.toml").is_file()
    assert (proposed / "state").is_dir()
    assert (proposed / "state").stat().st_uid == proposed.stat().st_uid
    assert await rig.configs.repository("carol").exists()
    assert not rig.roots.agent_folder("carol").exists()
    assert await rig.store.read(lambda view: view.find("get_agent", name="carol")) is None


async def test_asking_again_gives_the_same_draft_and_tells_nobody_twice(rig: ConfigRig) -> None:
    first = await rig.drafts.create("carol", "manager")
    edited = rig.roots.proposed_folder_of("carol") / "config" / "agent.toml"
    edited.write_text("# edited\n")
    again = await rig.drafts.create("carol", "operator")
    assert (again.requested_by, again.created_at) == (first.requested_by, first.created_at)
    assert edited.read_text() == "# edited\n"
    assert [event.name for event in rig.events].count(EventName.DRAFT_CREATED) == 1


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_bad_name_makes_and_removes_nothing(rig: ConfigRig, name: str) -> None:
    before = sorted(rig.roots.data.rglob("*"))
    with pytest.raises(InvalidInputError):
        await rig.drafts.create(name, "manager")
    with pytest.raises(InvalidInputError):
        await rig.drafts.discard(name)
    assert sorted(rig.roots.data.rglob("*")) == before


async def test_a_name_that_is_taken_is_refused(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    with pytest.raises(ConflictError):
        await rig.drafts.create("alice", "manager")
    await rig.destroy("alice")
    with pytest.raises(ConflictError, match="kept"):
        await rig.drafts.create("alice", "manager")
    await rig.approvals.request_spawn("bob", "", "manager")
    with pytest.raises(ConflictError, match="approval"):
        await rig.drafts.create("bob", "manager")
    assert await list_names(rig) == []


async def test_there_are_only_so_many_drafts(rig: ConfigRig) -> None:
    for number in range(DRAFTS_LIMIT):
        await rig.store.write(
            lambda tx, number=number: tx.list("insert_draft", name=f"d{number}", requested_by="manager", at=tx.at_ms)
        )
    with pytest.raises(TooLargeError):
        await rig.drafts.create("carol", "manager")
    await rig.drafts.create("d0", "manager")


async def test_what_a_crash_left_unmade_is_made_at_the_next_start(tmp_path: Path) -> None:
    async with open_config_rig(tmp_path) as rig:
        # The row is there, and the daemon dies before the folders.
        await rig.store.write(lambda tx: tx.list("insert_draft", name="carol", requested_by="manager", at=tx.at_ms))
    async with open_config_rig(tmp_path) as rig:
        await rig.drafts.ensure_folders()
        assert (rig.roots.proposed_folder_of("carol") / "config" / "agent.toml").is_file()
        assert (rig.roots.proposed_folder_of("carol") / "state").is_dir()


async def test_a_link_in_the_way_is_not_followed_and_can_be_mended(rig: ConfigRig, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = rig.roots.proposed_folder_of("carol")
    link.symlink_to(elsewhere)
    with pytest.raises(StorageError):
        await rig.drafts.create("carol", "manager")
    assert list(elsewhere.iterdir()) == []
    await rig.drafts.ensure_folders()
    [draft] = await rig.drafts.list_drafts()
    assert draft.name == "carol"
    link.unlink()
    await rig.drafts.create("carol", "manager")
    assert (link / "state").is_dir()


async def test_a_discard_removes_all_of_the_draft_and_fails_what_waits_of_it(rig: ConfigRig) -> None:
    await rig.drafts.create("carol", "manager")
    approval = await rig.propose_spawn("carol", {"prompt.md": "be good"}, {"notes.md": "remember"})
    await rig.drafts.discard("carol")
    assert await list_names(rig) == []
    assert not rig.roots.proposed_folder_of("carol").exists()
    assert not rig.roots.applied_repo("carol").exists()
    assert await rig.status(approval) == (ApprovalStatus.FAILED, "the draft was discarded")
    assert [event.agent for event in rig.events if event.name is EventName.DRAFT_DISCARDED] == ["carol"]
    facts = await rig.list_facts()
    assert facts[-1] == {"event": "draft_discarded", "agent": "carol"}
    with pytest.raises(ConflictError):
        await rig.approvals.approve(approval.id)


async def test_a_discard_follows_no_link(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.drafts.create("carol", "manager")
    (rig.roots.state_folder("alice") / "notes.md").write_text("alice's")
    state = rig.roots.proposed_folder_of("carol") / "state"
    (state / "link").symlink_to(rig.roots.state_folder("alice"))
    await rig.drafts.discard("carol")
    assert (rig.roots.state_folder("alice") / "notes.md").read_text() == "alice's"


async def test_a_draft_that_was_discarded_can_be_made_anew_and_knows_nothing_of_the_old_one(rig: ConfigRig) -> None:
    await rig.drafts.create("carol", "manager")
    await rig.propose_spawn("carol", {"prompt.md": "the old one"}, {})
    await rig.drafts.discard("carol")
    await rig.drafts.create("carol", "manager")
    assert set(await rig.configs.repository("carol").list_tags()) == {"deployed/0"}
    approval = await rig.propose_spawn("carol", {"prompt.md": "the new one"}, {})
    review = await rig.reviews.review(approval.id)
    assert (review.earlier, review.since_earlier) == (None, None)


async def test_discarding_what_is_no_draft_is_refused(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    for name in ("alice", "nobody"):
        with pytest.raises(NotFoundError):
            await rig.drafts.discard(name)
    assert (rig.roots.proposed_folder_of("alice") / "config").is_dir()
    assert rig.roots.applied_repo("alice").is_dir()


async def test_a_draft_whose_spawn_is_being_carried_out_cannot_be_discarded(rig: ConfigRig) -> None:
    await rig.drafts.create("carol", "manager")
    approval = await rig.propose_spawn("carol", {"prompt.md": "be good"}, {})
    await rig.end(approval, ApprovalStatus.APPROVED)
    with pytest.raises(ConflictError, match="carried out"):
        await rig.drafts.discard("carol")
    assert rig.roots.applied_repo("carol").is_dir()


async def test_an_approved_spawn_ends_the_draft_and_keeps_its_folders(rig: ConfigRig) -> None:
    await rig.drafts.create("carol", "manager")
    approval = await rig.propose_spawn("carol", {"prompt.md": "be good"}, {})
    await rig.approvals.approve(approval.id)
    assert await list_names(rig) == []
    assert (rig.roots.proposed_folder_of("carol") / "config").is_dir()
    with pytest.raises(NotFoundError):
        await rig.drafts.discard("carol")
