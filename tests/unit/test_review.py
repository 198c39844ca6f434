"""What the operator decides on: the pinned commit against what runs, what it means, and what to beware of."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.effects import Effect
from hyperhive.core.errors import NotFoundError
from hyperhive.wire.operator.configs import FileDiff, Review
from proposer import git


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ConfigRig]:
    async with open_config_rig(tmp_path) as rig:
        yield rig


def paths(files: list[FileDiff]) -> dict[str, str]:
    return {file.path: file.change for file in files}


def subjects(review: Review) -> set[tuple[str, str, str]]:
    assert review.comparison is not None
    return {(row.area, row.change, row.subject) for row in review.comparison.meaning}


def added_text(files: list[FileDiff]) -> str:
    lines = [line for file in files for hunk in file.hunks for line in hunk.lines]
    return "\n".join(line.text for line in lines if line.kind == "added")


def warned(review: Review, needle: str) -> bool:
    return any(needle in warning for warning in review.warnings)


async def test_a_proposal_is_shown_against_what_is_deployed_with_its_meaning(rig: ConfigRig) -> None:
    deployed = await rig.spawn("alice", {"agent.toml": 'allowed_tools = ["Read"]\n'})
    approval = await rig.propose(
        "alice", {"agent.toml": 'allowed_tools = ["Read", "Bash"]\n', "prompt.md": "be good\n"}
    )
    review = await rig.reviews.review(approval.id)
    assert review.comparison is not None
    assert (review.comparison.base, review.comparison.commit) == (deployed, approval.commit)
    assert paths(review.comparison.files) == {"agent.toml": "changed", "prompt.md": "changed"}
    assert ("allowed_tools", "added", "Bash") in subjects(review)
    assert review.comparison.effect is Effect.NEXT_TURN
    assert (review.earlier, review.since_earlier, review.notes, review.warnings) == (None, None, [], [])


async def test_what_is_reviewed_is_the_pinned_commit_whatever_the_branch_does_later(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    first = await rig.propose("alice", {"prompt.md": "one\n"})
    before = await rig.reviews.review(first.id)
    second = await rig.propose("alice", {"prompt.md": "two\n"}, on=first.commit or "")
    assert second.id != first.id
    after = await rig.reviews.review(first.id)
    assert after.comparison == before.comparison


async def test_a_later_proposal_shows_what_changed_since_the_one_before(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    first = await rig.propose("alice", {"agent.toml": 'packages = ["jq", "gh"]\n', "prompt.md": "be good\n"})
    await rig.end(first, ApprovalStatus.DENIED, "no gh")
    second = await rig.propose("alice", {"agent.toml": 'packages = ["jq"]\n', "prompt.md": "be good\n"})
    review = await rig.reviews.review(second.id)
    assert review.earlier == first.id
    assert review.since_earlier is not None
    assert paths(review.since_earlier.files) == {"agent.toml": "changed"}
    assert [(row.change, row.subject) for row in review.since_earlier.meaning] == [("removed", "gh")]


async def test_once_another_one_is_deployed_a_denied_one_is_of_the_past(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    await rig.end(await rig.propose("alice", {"prompt.md": "no\n"}), ApprovalStatus.DENIED, "no")
    await rig.deploy(await rig.propose("alice", {"prompt.md": "yes\n"}))
    third = await rig.propose("alice", {"prompt.md": "more\n"})
    assert (await rig.reviews.review(third.id)).earlier is None


async def test_one_that_no_longer_follows_what_is_deployed_says_that_it_cannot_be_applied(rig: ConfigRig) -> None:
    base = await rig.spawn("alice")
    stale = await rig.propose("alice", {"prompt.md": "stale\n"})
    winner = await rig.propose("alice", {"prompt.md": "winner\n"})
    assert warned(await rig.reviews.review(stale.id), f"approval {winner.id} waits, too")
    await rig.deploy(winner)
    review = await rig.reviews.review(stale.id)
    assert warned(review, "cannot be applied: it does not follow")
    assert review.comparison is not None
    assert review.comparison.base == base


async def test_a_proposal_on_top_of_another_says_that_it_contains_it(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    first = await rig.propose("alice", {"agent.toml": 'packages = ["jq"]\n'})
    second = await rig.propose("alice", {"prompt.md": "more\n"}, on=first.commit or "")
    assert warned(await rig.reviews.review(second.id), f"contains what approval {first.id} waits with")
    assert not warned(await rig.reviews.review(first.id), str(second.id))
    # What the first one brings is part of what the second one would bring.
    assert ("packages", "added", "jq") in subjects(await rig.reviews.review(second.id))


async def test_a_decided_one_is_shown_against_what_was_deployed_when_it_was_asked_for(rig: ConfigRig) -> None:
    base = await rig.spawn("alice")
    first = await rig.deploy(await rig.propose("alice", {"prompt.md": "one\n"}))
    await rig.deploy(await rig.propose("alice", {"prompt.md": "two\n"}))
    review = await rig.reviews.review(first.id)
    assert review.comparison is not None
    assert (review.comparison.base, review.comparison.commit) == (base, first.commit)
    assert added_text(review.comparison.files) == "one"
    assert review.warnings == []


async def test_a_revert_shows_what_it_takes_back(rig: ConfigRig) -> None:
    await rig.spawn("alice", {"agent.toml": 'packages = ["jq"]\n'})
    approval = await rig.approvals.revert("alice", 0)
    review = await rig.reviews.review(approval.id)
    assert ("packages", "removed", "jq") in subjects(review)
    assert review.earlier is None


async def test_a_drafted_agent_is_shown_whole_with_its_staged_notes(rig: ConfigRig) -> None:
    await rig.drafts.create("carol", "manager")
    approval = await rig.propose_spawn(
        "carol", {"agent.toml": 'packages = ["jq"]\n'}, {"notes.md": "remember me\n", "more/plan.md": "and this\n"}
    )
    review = await rig.reviews.review(approval.id)
    assert review.comparison is not None
    assert review.comparison.base == ""
    # The prompt is the default one, and shown all the same: it is part of what begins to run.
    assert paths(review.comparison.files) == {"agent.toml": "added", "prompt.md": "added"}
    assert paths(review.notes) == {"notes.md": "added", "more/plan.md": "added"}
    assert "remember me" in added_text(review.notes)
    assert review.warnings == []


async def test_a_spawn_with_the_default_config_has_nothing_to_compare(rig: ConfigRig) -> None:
    approval = await rig.approvals.request_spawn("dave", "to help", "manager")
    review = await rig.reviews.review(approval.id)
    assert (review.approval.id, review.comparison, review.warnings) == (approval.id, None, [])


async def test_lists_that_become_empty_are_pointed_out(rig: ConfigRig) -> None:
    await rig.spawn(
        "alice",
        {"agent.toml": 'allowed_recipients = ["bob"]\nallowed_tools = ["Bash"]\n[bash]\nallow = ["git *"]\n'},
    )
    review = await rig.reviews.review((await rig.propose("alice", {"agent.toml": ""})).id)
    assert warned(review, "allowed_recipients becomes empty: it may send to anyone")
    assert warned(review, "allowed_tools becomes empty: it may call any tool")
    assert warned(review, "bash.allow becomes empty: it may run any command")


async def test_a_removed_prompt_is_pointed_out(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    review = await rig.reviews.review((await rig.propose("alice", {}, remove=("prompt.md",))).id)
    assert warned(review, "prompt.md is removed")


async def test_what_a_diff_does_not_show_as_it_is_is_pointed_out(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    files = {
        "bidi.md": "safe \u202e txet\n",
        "escape.sh": "\x1b[2Khello\n",
        "windows.txt": "one\r\ntwo\tthree\r\n",
        "data.bin": "a\0b",
        # The last one by its name: what comes after it would have no room left.
        "zlong.txt": "x\n" * 20_000,
    }
    review = await rig.reviews.review((await rig.propose("alice", files)).id)
    assert warned(review, "bidi.md has characters that hide")
    assert warned(review, "escape.sh has characters that hide")
    assert not warned(review, "windows.txt")
    assert warned(review, "data.bin is binary")
    assert warned(review, "zlong.txt is not shown in full")


async def test_a_program_among_the_files_is_pointed_out(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    folder = rig.clone("alice")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    git(folder, "add", "-A")
    git(folder, "update-index", "--chmod=+x", "run.sh")
    review = await rig.reviews.review((await rig.propose_folder("alice", folder)).id)
    assert warned(review, "run.sh may be executed")


async def test_a_proposal_for_the_manager_itself_says_so(rig: ConfigRig) -> None:
    review = await rig.reviews.review((await rig.propose("manager", {"prompt.md": "obey\n"})).id)
    assert warned(review, "the config of the manager")


async def test_one_whose_agent_was_destroyed_meanwhile_is_still_shown(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    approval = await rig.propose("alice", {"prompt.md": "one\n"})
    await rig.destroy("alice")
    review = await rig.reviews.review(approval.id)
    assert review.approval.status is ApprovalStatus.FAILED
    assert review.comparison is not None


async def test_one_whose_repository_is_gone_says_so_and_is_not_an_error(rig: ConfigRig) -> None:
    await rig.spawn("alice")
    approval = await rig.propose("alice", {"prompt.md": "one\n"})
    rig.roots.applied_repo("alice").rename(rig.roots.data / "lost")
    review = await rig.reviews.review(approval.id)
    assert review.comparison is None
    assert warned(review, "cannot be shown")


@pytest.mark.parametrize("number", [0, 99, 2**63 - 1])
async def test_what_is_no_approval_has_no_review(rig: ConfigRig, number: int) -> None:
    with pytest.raises(NotFoundError):
        await rig.reviews.review(number)
