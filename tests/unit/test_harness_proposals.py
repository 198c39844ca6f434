"""Proposals, made with the real git of what a manager has edited: the commit it named, and nothing else has a part."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError, TooLargeError
from hyperhive.wire.agent_link import BUNDLE_LIMIT_BYTES, COMMIT_REF, NOTES_REF
from proposal_rig import ManagerView, commit, git


@pytest.fixture
def view(tmp_path: Path) -> ManagerView:
    return ManagerView(tmp_path)


def list_references(bundle: bytes) -> tuple[list[str], list[str]]:
    """The refs of a bundle, and the commits that whoever reads it must have."""
    lines = bundle.split(b"\n\n", 1)[0].decode().splitlines()[1:]
    wanted = [line[1:41] for line in lines if line.startswith("-")]
    return [line.split(" ")[1] for line in lines if not line.startswith("-")], wanted


# -- a change of a config ----------------------------------------------------------------------------------


async def test_the_commit_arrives_in_the_applied_repo_and_only_what_that_lacks_is_sent(view: ManagerView) -> None:
    config = view.add("alice")
    wanted = commit(config, {"agent.toml": 'model = "b"\n', "tools/run.py": "print()\n"})
    proposal = await view.proposals().make_apply("alice", "HEAD")
    assert (proposal.commit, proposal.notes, proposal.warning) == (wanted, "", "")
    assert list_references(proposal.bundle) == ([COMMIT_REF], [git(view.applied / "alice", "rev-parse", "main")])
    assert view.receive("alice", proposal.bundle) == wanted
    assert git(view.applied / "alice", "show", f"{wanted}:tools/run.py") == "print()"


async def test_nothing_is_left_behind_and_the_working_copy_stays_as_it_was(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"agent.toml": 'model = "b"\n'})
    (config / "new.txt").write_text("not committed")
    before = {path: path.stat().st_mtime_ns for path in config.rglob("*")}
    await view.proposals().make_apply("alice", "HEAD")
    assert {path: path.stat().st_mtime_ns for path in config.rglob("*")} == before
    assert list(view.scratch.iterdir()) == []


async def test_nothing_is_left_behind_by_a_failure_either(view: ManagerView) -> None:
    view.add("alice")
    with pytest.raises(ConflictError):
        await view.proposals().make_apply("alice", "HEAD")
    assert list(view.scratch.iterdir()) == []


@pytest.mark.parametrize(
    "ref", ["feature/with-slash", "v1", "annotated", "HEAD~0", "@", "refs/heads/feature/with-slash"]
)
async def test_whatever_names_a_commit_will_do(view: ManagerView, ref: str) -> None:
    config = view.add("alice")
    git(config, "checkout", "--quiet", "-b", "feature/with-slash")
    wanted = commit(config, {"prompt.md": "be kind\n"})
    git(config, "tag", "v1")
    git(config, "tag", "-a", "-m", "an annotated tag", "annotated")
    proposal = await view.proposals().make_apply("alice", ref)
    assert proposal.commit == wanted
    assert view.receive("alice", proposal.bundle) == wanted


async def test_a_detached_head_and_a_short_name_will_do(view: ManagerView) -> None:
    config = view.add("alice")
    wanted = commit(config, {"prompt.md": "one\n"})
    commit(config, {"prompt.md": "two\n"})
    git(config, "checkout", "--quiet", "--detach", wanted)
    assert (await view.proposals().make_apply("alice", "HEAD")).commit == wanted
    assert (await view.proposals().make_apply("alice", wanted[:10])).commit == wanted


@pytest.mark.parametrize(
    "ref",
    [
        "", " ", "-x", "--upload-pack=x", "--all", "--git-dir=/", "HEAD:agent.toml", "HEAD^{tree}", "main..HEAD",
        "HEAD^!", "^HEAD", "no-such", "HEAD\nmain", "HEAD\0", "x" * 10_000, "@{u}:", "../../etc/passwd", "*",
        "a" * 40, "\x1b[31m", "HEAD^{/",
    ],
)  # fmt: skip
async def test_what_names_no_commit_is_refused_with_a_hint(view: ManagerView, ref: str) -> None:
    commit(view.add("alice"), {"prompt.md": "one\n"})
    with pytest.raises((InvalidInputError, NotFoundError)) as refusal:
        await view.proposals().make_apply("alice", ref)
    assert refusal.value.hint
    assert len(refusal.value.message) < 1000


@pytest.mark.parametrize("name", ["..", "-x", "a/b", "", ".", "alice/../bob", "operator", "A", "a\n", "*"])
async def test_what_is_no_name_is_refused_before_any_path_is_made(view: ManagerView, name: str) -> None:
    for make in (view.proposals().make_apply, view.proposals().make_spawn):
        with pytest.raises(InvalidInputError, match=r"not an agent name|reserved"):
            await make(name, "HEAD")


async def test_the_managers_own_config_can_be_changed_but_no_draft_of_it_made(view: ManagerView) -> None:
    wanted = commit(view.add("manager"), {"prompt.md": "one\n"})
    assert (await view.proposals().make_apply("manager", "HEAD")).commit == wanted
    with pytest.raises(InvalidInputError, match="reserved"):
        await view.proposals().make_spawn("manager", "HEAD")


async def test_what_is_applied_or_older_is_nothing_to_propose(view: ManagerView) -> None:
    config = view.add("alice")
    view.deploy("alice", commit(config, {"prompt.md": "one\n"}))
    for ref in ("HEAD", "HEAD~1"):
        with pytest.raises(ConflictError, match="nothing to propose"):
            await view.proposals().make_apply("alice", ref)


async def test_a_commit_on_an_older_one_than_the_applied_is_sent_for_the_daemon_to_judge(view: ManagerView) -> None:
    config = view.add("alice")
    view.deploy("alice", commit(config, {"prompt.md": "one\n"}))
    git(config, "checkout", "--quiet", "-b", "other", "HEAD~1")
    wanted = commit(config, {"prompt.md": "two\n"})
    assert view.receive("alice", (await view.proposals().make_apply("alice", "other")).bundle) == wanted


async def test_an_amended_proposal_does_not_depend_on_the_denied_one(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    git(config, "commit", "--quiet", "--amend", "-m", "better")
    proposal = await view.proposals().make_apply("alice", "HEAD")
    assert view.receive("alice", proposal.bundle) == proposal.commit


async def test_what_was_deployed_meanwhile_need_not_be_fetched_first(view: ManagerView) -> None:
    config = view.add("alice")
    wanted = commit(config, {"prompt.md": "mine\n"})
    other = view.scratch / "other"
    git(view.scratch, "clone", "--quiet", str(view.applied / "alice"), str(other))
    deployed = commit(other, {"notes.md": "theirs\n"})
    git(view.applied / "alice", "fetch", "--quiet", str(other), f"{deployed}:refs/heads/main")
    assert view.receive("alice", (await view.proposals().make_apply("alice", "HEAD")).bundle) == wanted


async def test_without_an_applied_repo_all_history_is_sent(view: ManagerView) -> None:
    config = view.add("alice")
    wanted = commit(config, {"prompt.md": "one\n"})
    shutil.rmtree(view.applied / "alice")
    proposal = await view.proposals().make_apply("alice", "HEAD")
    assert list_references(proposal.bundle) == ([COMMIT_REF], [])
    git(view.applied, "init", "--quiet", "--bare", "alice")
    assert view.receive("alice", proposal.bundle) == wanted


async def test_what_is_not_committed_is_told_and_what_is_ignored_is_not(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n", ".gitignore": "*.log\n"})
    for name in ("a.log", "new.txt", "folder/b.txt", "folder/ä \n.txt"):
        (config / name).parent.mkdir(exist_ok=True)
        (config / name).write_text("x")
    (config / "prompt.md").write_text("two\n")
    (config / "agent.toml").unlink()
    proposal = await view.proposals().make_apply("alice", "HEAD")
    assert proposal.warning.startswith("5 files are changed and not committed: they are not part of this proposal (")
    assert "a.log" not in proposal.warning
    assert "\n" not in proposal.warning
    assert "prompt.md" in proposal.warning


async def test_a_change_that_is_only_staged_is_not_committed_either(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    (config / "prompt.md").write_text("two\n")
    git(config, "add", ".")
    proposal = await view.proposals().make_apply("alice", "HEAD")
    assert proposal.warning == "1 file is changed and not committed: it is not part of this proposal (prompt.md)"


async def test_an_unborn_head_is_told_as_what_it_is(view: ManagerView) -> None:
    config = view.agents / "alice/config"
    config.mkdir(parents=True)
    git(config, "init", "--quiet")
    with pytest.raises(NotFoundError, match="nothing is committed"):
        await view.proposals().make_apply("alice", "HEAD")


async def test_a_missing_folder_says_what_to_do(view: ManagerView) -> None:
    with pytest.raises(NotFoundError) as refusal:
        await view.proposals().make_apply("nobody", "HEAD")
    assert "list_agents" in refusal.value.hint
    with pytest.raises(NotFoundError) as refusal:
        await view.proposals().make_spawn("nobody", "HEAD")
    assert refusal.value.hint == "call request_spawn_draft first"
    (view.agents / "bob/config").mkdir(parents=True)
    with pytest.raises(NotFoundError) as refusal:
        await view.proposals().make_apply("bob", "HEAD")
    assert "git clone" in refusal.value.hint


async def test_a_repository_above_the_folder_is_never_taken_for_it(view: ManagerView) -> None:
    git(view.agents, "init", "--quiet")
    (view.agents / "bob/config").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="not a git repository"):
        await view.proposals().make_apply("bob", "HEAD")


# -- size --------------------------------------------------------------------------------------------------


async def test_what_is_too_large_is_told_with_its_size(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"data.bin": random.Random(1).randbytes(BUNDLE_LIMIT_BYTES + 100_000)})
    with pytest.raises(TooLargeError, match=r"too large: 6\d\d KiB packed, and at most 512 KiB fit"):
        await view.proposals().make_apply("alice", "HEAD")
    commit(config, {"data.bin": random.Random(2).randbytes(6_000_000)})
    with pytest.raises(TooLargeError, match="over 4,096 KiB"):
        await view.proposals().make_apply("alice", "HEAD")


async def test_a_large_file_that_is_taken_out_again_is_in_the_history_all_the_same(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"data.bin": random.Random(1).randbytes(BUNDLE_LIMIT_BYTES + 100_000)})
    git(config, "rm", "--quiet", "data.bin")
    git(config, "commit", "--quiet", "-m", "out")
    with pytest.raises(TooLargeError) as refusal:
        await view.proposals().make_apply("alice", "HEAD")
    assert "every commit" in refusal.value.hint


# -- hostile repositories ----------------------------------------------------------------------------------


async def test_nothing_armed_in_the_working_copy_runs(view: ManagerView, tmp_path: Path) -> None:
    config = view.add("alice")
    files = {".gitattributes": "* filter=evil diff=evil\n", "prompt.md": "one\n"}
    wanted = commit(config, {**files})
    marker = tmp_path / "marker"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\necho $0 $* >> {marker}\ncat\n")
    evil.chmod(0o755)
    hooks = config / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "reference-transaction", "pre-commit", "post-checkout", "fsmonitor-watchman"):
        (hooks / hook).symlink_to(evil)
    settings = {
        "core.fsmonitor": str(evil), "core.hooksPath": str(hooks), "filter.evil.clean": str(evil),
        "filter.evil.smudge": str(evil), "filter.evil.process": str(evil), "filter.evil.required": "true",
        "diff.evil.textconv": str(evil), "diff.external": str(evil), "core.pager": str(evil), "core.editor": str(evil),
        "core.sshCommand": str(evil), "uploadpack.packObjectsHook": str(evil), "core.worktree": "/etc",
        "core.alternateRefsCommand": str(evil), "gpg.program": str(evil), "alias.rev-parse": f"!{evil}",
        "alias.status": f"!{evil}", "remote.applied.uploadpack": str(evil), "credential.helper": str(evil),
    }  # fmt: skip
    for key, value in settings.items():
        git(config, "--git-dir=.git", "--work-tree=.", "config", key, value)
    marker.unlink(missing_ok=True)
    (config / "prompt.md").write_text("changed\n")
    (view.agents / "alice/state").mkdir()
    (view.agents / "alice/state/notes.md").write_text("note\n")
    proposal = await view.proposals().make_apply("alice", "HEAD")
    assert proposal.commit == wanted
    assert "1 file is changed" in proposal.warning
    assert (await view.proposals().make_spawn("alice", "HEAD")).commit == wanted
    assert not marker.exists()
    # It was armed: one careless call, and it runs.
    with pytest.raises(AssertionError, match="evil"):
        git(config, "--git-dir=.git", "--work-tree=.", "status")
    assert marker.exists()


async def test_a_repository_that_leaves_objects_elsewhere_starts_no_program(view: ManagerView, tmp_path: Path) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    marker = tmp_path / "marker"
    git(config, "config", "core.repositoryFormatVersion", "1")
    git(config, "config", "extensions.partialClone", "far")
    git(config, "config", "remote.far.url", f"ext::sh -c 'touch {marker}'")
    git(config, "config", "remote.far.promisor", "true")
    git(config, "config", "protocol.ext.allow", "always")
    for path in (config / ".git/objects").glob("??/*"):
        path.unlink()
    with pytest.raises(HiveError):
        await view.proposals().make_apply("alice", "HEAD")
    assert not marker.exists()


async def test_what_stands_in_for_a_commit_is_not_proposed(view: ManagerView) -> None:
    config = view.add("alice")
    shown = commit(config, {"prompt.md": "harmless\n"})
    git(config, "checkout", "--quiet", "-b", "real", "HEAD~1")
    real = commit(config, {"prompt.md": "real\n"})
    git(config, "replace", real, shown)
    proposal = await view.proposals().make_apply("alice", "real")
    assert view.receive("alice", proposal.bundle) == real
    assert git(view.applied / "alice", "show", f"{real}:prompt.md") == "real"


@pytest.mark.parametrize("part", [".git/HEAD", ".git/config", ".git/objects", ".git/refs"])
async def test_a_broken_repository_is_refused_in_words(view: ManagerView, part: str) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    path = config / part
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_text("\0rubbish [")
    with pytest.raises(HiveError) as refusal:
        await view.proposals().make_apply("alice", "HEAD")
    assert refusal.value.message
    assert refusal.value.hint
    assert list(view.scratch.iterdir()) == []


async def test_a_commit_whose_files_are_lost_is_refused(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    blob = git(config, "rev-parse", "HEAD:prompt.md")
    (config / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(InvalidInputError, match="cannot read"):
        await view.proposals().make_apply("alice", "HEAD")


async def test_a_git_that_hangs_is_ended(view: ManagerView) -> None:
    config = view.add("alice")
    commit(config, {"prompt.md": "one\n"})
    (config / ".git/config").unlink()
    os.mkfifo(config / ".git/config")
    with pytest.raises(HiveError, match="did not end"):
        await view.proposals(timeout_s=0.3).make_apply("alice", "HEAD")


async def test_when_git_cannot_tell_what_is_not_committed_the_proposal_says_so(view: ManagerView) -> None:
    config = view.add("alice")
    wanted = commit(config, {"prompt.md": "one\n"})
    os.mkfifo(config / ".gitignore")
    proposal = await view.proposals(timeout_s=1).make_apply("alice", "HEAD")
    assert proposal.commit == wanted
    assert "not known" in proposal.warning


async def test_a_working_copy_of_a_working_copy_will_do(view: ManagerView) -> None:
    config = view.add("alice")
    shutil.move(config, view.scratch / "main")
    git(view.scratch / "main", "worktree", "add", "--quiet", str(config), "-b", "side")
    wanted = commit(config, {"prompt.md": "one\n"})
    assert view.receive("alice", (await view.proposals().make_apply("alice", "HEAD")).bundle) == wanted


# -- two-step spawn ----------------------------------------------------------------------------------------


def stage(view: ManagerView, name: str, files: dict[str, str]) -> Path:
    state = view.agents / name / "state"
    state.mkdir(exist_ok=True)
    for path, content in files.items():
        (state / path).parent.mkdir(parents=True, exist_ok=True)
        (state / path).write_text(content)
    return state


async def test_the_notes_of_a_draft_arrive_as_they_are_beside_its_config(view: ManagerView) -> None:
    wanted = commit(view.add("bob"), {"prompt.md": "one\n"})
    names = {"notes.md": "a\r\nb\r\n", "sub/more.md": "x", 'odd "name" \\.md': "y", ".gitignore": "*\n", "ü.md": "z"}
    state = stage(view, "bob", {**names, ".gitattributes": "* text=auto filter=x ident\n", "id.md": "$Id$"})
    (state / "run.sh").write_text("#!/bin/sh\n")
    (state / "run.sh").chmod(0o755)
    (state / "empty").mkdir()
    proposal = await view.proposals().make_spawn("bob", "HEAD")
    assert (proposal.commit, proposal.staged) == (wanted, 8)
    assert list_references(proposal.bundle)[0] == [COMMIT_REF, NOTES_REF]
    assert view.receive("bob", proposal.bundle) == wanted
    assert view.receive("bob", proposal.bundle, NOTES_REF) == proposal.notes
    repo = view.applied / "bob"
    assert git(repo, "rev-list", "--count", proposal.notes) == "1"
    listed = git(repo, "ls-tree", "-r", "-z", proposal.notes).split("\0")[:-1]
    modes = {line.split("\t")[1]: line.split(" ")[0] for line in listed}
    assert [name for name, mode in modes.items() if mode != "100644"] == ["run.sh"]
    assert set(modes) == {*names, ".gitattributes", "id.md", "run.sh"}
    assert git(repo, "cat-file", "blob", f"{proposal.notes}:notes.md") == "a\r\nb"
    assert git(repo, "cat-file", "blob", f"{proposal.notes}:id.md") == "$Id$"


async def test_the_same_notes_are_the_same_commit_each_time(view: ManagerView) -> None:
    view.add("bob")
    stage(view, "bob", {"notes.md": "a", "b/c.md": "d"})
    first, second = [await view.proposals().make_spawn("bob", "HEAD") for _ in range(2)]
    assert first.notes == second.notes != ""


@pytest.mark.parametrize("exists", [True, False])
async def test_a_draft_without_notes_and_with_the_default_config_is_a_proposal(view: ManagerView, exists: bool) -> None:
    view.add("bob")
    if exists:
        (stage(view, "bob", {}) / "empty").mkdir()
    proposal = await view.proposals().make_spawn("bob", "HEAD")
    assert (proposal.notes, proposal.staged) == ("", 0)
    assert list_references(proposal.bundle) == ([COMMIT_REF], [])
    assert view.receive("bob", proposal.bundle) == proposal.commit


def arm_link(state: Path) -> str:
    (state / "secret").symlink_to("/etc/passwd")
    return "secret"


def arm_folder_link(state: Path) -> str:
    (state / "way").symlink_to("/")
    return "way"


def arm_fifo(state: Path) -> str:
    os.mkfifo(state / "pipe")
    return "pipe"


def arm_repository(state: Path) -> str:
    (state / "sub").mkdir()
    git(state / "sub", "init", "--quiet")
    return "sub/.git"


def arm_name(state: Path) -> str:
    (state / "a\nb").write_text("")
    return "a\\nb"


def arm_bytes(state: Path) -> str:
    (state / os.fsdecode(b"\xff")).write_text("")
    return "udcff"


@pytest.mark.parametrize("arm", [arm_link, arm_folder_link, arm_fifo, arm_repository, arm_name, arm_bytes])
async def test_what_cannot_be_staged_is_named(view: ManagerView, arm: Callable[[Path], str]) -> None:
    view.add("bob")
    name = arm(stage(view, "bob", {"notes.md": "a"}))
    with pytest.raises(InvalidInputError, match="cannot be staged") as refusal:
        await view.proposals().make_spawn("bob", "HEAD")
    assert name in refusal.value.message
    assert refusal.value.hint


async def test_a_state_folder_that_is_none_is_refused(view: ManagerView) -> None:
    view.add("bob")
    (view.agents / "bob/state").symlink_to("/etc")
    with pytest.raises(InvalidInputError, match="symbolic link"):
        await view.proposals().make_spawn("bob", "HEAD")


async def test_too_many_or_too_large_notes_are_refused(view: ManagerView) -> None:
    view.add("bob")
    state = stage(view, "bob", {"notes.md": "a"})
    with (state / "sparse").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(TooLargeError, match="over 4,096 KiB"):
        await view.proposals().make_spawn("bob", "HEAD")
    (state / "sparse").write_bytes(random.Random(1).randbytes(BUNDLE_LIMIT_BYTES + 1))
    with pytest.raises(TooLargeError, match="packed"):
        await view.proposals().make_spawn("bob", "HEAD")
    (state / "sparse").unlink()
    for number in range(1000):
        (state / f"{number}.md").touch()
    with pytest.raises(TooLargeError, match="over 1000 files"):
        await view.proposals().make_spawn("bob", "HEAD")
