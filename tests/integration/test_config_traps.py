"""Whatever the manager leaves lying in its folders, no operation of the daemon runs it, follows it or waits for it."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attack_rig import Arena
from git_rig import read_folder
from hive_process import wait_for
from proposer import LinkError, commit_files, git, make_bundle

HOOKS = ("pre-commit", "post-checkout", "post-index-change", "reference-transaction", "update", "pre-receive")
# Every setting by which a repository has git run a program; {mark} is the program.
TRAPS = """\
[core]
	repositoryformatversion = 0
	bare = false
	fsmonitor = {mark}
	hooksPath = {folder}/hooks
	sshCommand = {mark}
	editor = {mark}
	pager = {mark}
[include]
	path = {folder}/included
[includeIf "gitdir:/"]
	path = {folder}/included
[filter "evil"]
	clean = {mark}
	smudge = {mark}
	required = true
[diff]
	external = {mark}
[diff "evil"]
	textconv = {mark}
	command = {mark}
[merge "evil"]
	driver = {mark}
[gpg]
	program = {mark}
[commit]
	gpgSign = true
[credential]
	helper = !{mark}
[uploadpack]
	packObjectsHook = {mark}
[remote "applied"]
	url = ext::{mark}
	uploadpack = {mark}
[protocol]
	allow = always
[alias]
	status = !{mark}
"""


# -- what git would run ------------------------------------------------------------------------------------


@dataclass
class Traps:
    folder: Path

    @property
    def mark(self) -> Path:
        return self.folder / "mark"

    def marks(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "marks").iterdir())

    def forget(self) -> None:
        for path in (self.folder / "marks").iterdir():
            path.unlink()

    def arm(self, arena: Arena, copy: Path) -> None:
        """Puts all traps into a working copy, as the manager could."""
        (copy / ".git/config").write_text(TRAPS.format(mark=self.mark, folder=self.folder))
        for place in (copy / ".git/info/attributes", copy / ".gitattributes"):
            place.parent.mkdir(exist_ok=True)
            place.write_text("* filter=evil diff=evil merge=evil\n")
        (copy / ".git/objects/info").mkdir(exist_ok=True)
        (copy / ".git/objects/info/alternates").write_text(f"{arena.hive.data}/applied/manager/objects\n")
        arena.own(copy)


@pytest.fixture
def traps(arena: Arena) -> Traps:
    folder = arena.folder / "traps"
    (folder / "marks").mkdir(parents=True)
    (folder / "marks").chmod(0o777)
    (folder / "hooks").mkdir()
    (folder / "included").write_text(f"[core]\n\tfsmonitor = {folder}/mark\n")
    mark = folder / "mark"
    mark.write_text(f'#!/bin/sh\necho > {folder}/marks/"$(basename "$0")-$$-$(id -u)"\ncat\n')
    mark.chmod(0o755)
    for hook in HOOKS:
        (folder / "hooks" / hook).symlink_to(mark)
    return Traps(folder)


def test_no_trap_in_a_working_copy_goes_off_in_the_daemon(arena: Arena, traps: Traps) -> None:
    hive = arena.hive
    alice, spawned, discarded = arena.spawn("alice"), arena.draft(), arena.draft()
    clean = {name: arena.manager.clone(name) for name in (alice, spawned)}
    for name in (alice, spawned, discarded):
        traps.arm(arena, arena.proposed(name) / "config")
    shutil.copytree(arena.proposed(alice) / "config", arena.proposed(spawned) / "state/repo", symlinks=True)
    # They are armed: whoever runs git there runs them.
    git(arena.proposed(alice) / "config", "diff", "--ext-diff")
    assert traps.marks()
    traps.forget()
    for name in (alice, spawned):
        arena.own(arena.proposed(name))

    commit = commit_files(clean[alice], {"agent.toml": 'environment = { A = "1" }\n'})
    number = arena.manager.submit(alice, clean[alice], commit)
    denied, _ = arena.manager.propose(alice, {"prompt.md": "no\n"})
    draft_commit = commit_files(clean[spawned], {"prompt.md": "hello\n"})
    draft_number = arena.send_bundle(spawned, draft_commit, make_bundle(clean[spawned], draft_commit), notes="")
    arena.manager.request("request_spawn_draft", {"name": spawned})
    for approval in (number, denied, draft_number):
        assert hive.get(f"/api/approvals/{approval}/review")["comparison"]["files"]
    hive.post(f"/api/approvals/{denied}/deny", {"reason": "no"})
    arena.approve(number)
    arena.approve(draft_number)
    assert {arena.wait_ended(approval)["status"] for approval in (number, draft_number)} == {"deployed"}
    revert = hive.post(f"/api/agent-config/{alice}/revert", {"to": 0})["id"]
    assert arena.wait_ended(revert)["status"] == "deployed"
    for path in (f"/api/agent-config/{alice}", f"/api/agent-config/{alice}/history", "/api/drafts", "/api/kept"):
        assert hive.get(path) is not None
    arena.manager.close()
    assert hive.stop() == 0
    hive.start()
    arena.manager.connect()
    hive.wait_state(alice, "idle")
    hive.post(f"/api/agents/{alice}/restart")
    with hive.client() as client:
        client.delete(f"/api/drafts/{discarded}").raise_for_status()
        client.delete(f"/api/agents/{alice}").raise_for_status()
        assert hive.get("/api/kept")
        client.delete(f"/api/kept/{alice}").raise_for_status()
        client.delete(f"/api/agents/{spawned}?purge=true").raise_for_status()
    assert traps.marks() == []
    for name in (alice, spawned, discarded):
        assert not arena.proposed(name).exists()


# -- links, pipes and crowds -------------------------------------------------------------------------------


@dataclass
class Victim:
    """Folders and a file that are none of the manager's business."""

    folder: Path

    @property
    def empty(self) -> Path:
        return self.folder / "empty"

    @property
    def full(self) -> Path:
        return self.folder / "full"

    def state(self) -> object:
        found = [self.folder, *sorted(self.folder.rglob("*"))]
        return [(path, path.lstat().st_mode, path.lstat().st_uid) for path in found], read_folder(self.folder)


@pytest.fixture
def victim(arena: Arena) -> Iterator[Victim]:
    victim = Victim(arena.folder / "victim")
    victim.empty.mkdir(parents=True)
    victim.full.mkdir()
    (victim.full / "config").mkdir()
    (victim.full / "secret").write_text("secret")
    before = victim.state()
    yield victim
    assert victim.state() == before
    shutil.rmtree(victim.folder)


def test_a_link_in_the_place_of_an_agents_folder_is_not_followed(arena: Arena, victim: Victim) -> None:
    arena.proposed("trapped").symlink_to(victim.full)
    arena.hive.post("/api/agents", {"name": "trapped"})
    arena.agents.append("trapped")
    row = arena.hive.wait_state("trapped", "failed")
    assert "remove what is in the way" in row["reason"]
    arena.proposed("trapped").unlink()
    arena.hive.post("/api/agents/trapped/start")
    arena.hive.wait_state("trapped", "idle")


@pytest.mark.parametrize("target", ["empty", "full", "full/secret", "nowhere"])
def test_a_link_in_the_place_of_a_working_copy_is_not_written_through(
    arena: Arena, victim: Victim, target: str
) -> None:
    arena.proposed("linked").mkdir()
    arena.proposed("linked").joinpath("config").symlink_to(victim.folder / target)
    arena.own(arena.proposed("linked"))
    arena.spawn("linked")
    assert arena.deploy("linked", {"a": "1"})
    assert arena.hive.get("/api/agent-config/linked")["problem"] == ""


@pytest.mark.parametrize("place", ["", "config", "state"])
def test_a_link_in_the_place_of_a_drafts_folder_is_not_followed(arena: Arena, victim: Victim, place: str) -> None:
    name = f"draft-{place or 'whole'}"
    planted = arena.proposed(name) / place
    planted.parent.mkdir(exist_ok=True)
    planted.symlink_to(victim.empty if place == "config" else victim.full)
    arena.own(arena.proposed(name))
    if place == "config":
        # Nothing is put there: that is the manager's loss.
        arena.manager.request("request_spawn_draft", {"name": name})
    else:
        with pytest.raises(LinkError, match="remove what is in the way"):
            arena.manager.request("request_spawn_draft", {"name": name})
    [draft] = [draft for draft in arena.hive.get("/api/drafts") if draft["name"] == name]
    assert draft["size_bytes"] >= 0
    with arena.hive.client() as client:
        client.delete(f"/api/drafts/{name}").raise_for_status()
    assert not os.path.lexists(arena.proposed(name))


def swap_folder(folder: Path, victim: Victim) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(victim.full)


def swap_config(folder: Path, victim: Victim) -> None:
    shutil.rmtree(folder / "config")
    (folder / "config").symlink_to(victim.full)


def fill_with_links(folder: Path, victim: Victim) -> None:
    for path, target in (("a", victim.full), ("config/b", victim.full / "secret"), ("config/.git/c", Path("/"))):
        (folder / path).symlink_to(target)


def fill_with_pipes(folder: Path, _: Victim) -> None:
    shutil.rmtree(folder / "config/.git")
    for path in ("pipe", "config/.git", "config/agent.toml.pipe"):
        os.mkfifo(folder / path)


def fill_with_crowds(folder: Path, _: Victim) -> None:
    for number in range(10_000):
        (folder / "config" / f"{number}").touch()
    depth = folder / "config"
    for _level in range(300):
        depth /= "d"
        depth.mkdir()
    with (folder / "config/sparse").open("wb") as file:
        file.truncate(10**12)


SWAPS = (swap_folder, swap_config, fill_with_links, fill_with_pipes, fill_with_crowds)


@pytest.mark.parametrize("swap", SWAPS)
def test_a_draft_whose_folder_was_swapped_is_discarded_and_nothing_else(
    arena: Arena, victim: Victim, swap: Callable[[Path, Victim], None]
) -> None:
    name = arena.draft()
    copy = arena.manager.clone(name)
    commit = commit_files(copy, {"a": "1"})
    number = arena.send_bundle(name, commit, make_bundle(copy, commit), notes="")
    swap(arena.proposed(name), victim)
    arena.own(arena.proposed(name))
    [draft] = [draft for draft in arena.hive.get("/api/drafts") if draft["name"] == name]
    assert draft["size_bytes"] < 10**9
    assert arena.hive.get(f"/api/approvals/{number}/review")["comparison"]["commit"] == commit
    with arena.hive.client() as client:
        client.delete(f"/api/drafts/{name}").raise_for_status()
    assert not os.path.lexists(arena.proposed(name))
    assert not arena.applied(name).exists()
    assert arena.approval(number)["status"] == "failed"


@pytest.mark.parametrize("swap", SWAPS)
def test_a_swapped_folder_keeps_nothing_from_its_end(
    arena: Arena, victim: Victim, swap: Callable[[Path, Victim], None]
) -> None:
    name = arena.spawn()
    number, commit = arena.manager.propose(name, {"prompt.md": "hello\n"})
    swap(arena.proposed(name), victim)
    arena.own(arena.proposed(name))
    arena.approve(number)
    row = arena.wait_ended(number)
    # What was approved is in the applied repo; the manager's folders are not needed for it.
    assert (row["status"], row["reason"], arena.main(name)) == ("deployed", None, commit)
    # Nor to start it anew.
    revert = arena.hive.post(f"/api/agent-config/{name}/revert", {"to": 0})["id"]
    assert arena.wait_ended(revert)["status"] == "deployed"
    arena.hive.post(f"/api/agents/{name}/restart")
    wait_for(lambda: arena.generation(name) == 2, "its restart", hive=arena.hive)
    arena.hive.wait_state(name, "idle")
    with arena.hive.client() as client:
        client.delete(f"/api/agents/{name}").raise_for_status()
        [kept] = [kept for kept in arena.hive.get("/api/kept") if kept["name"] == name]
        assert kept["size_bytes"] < 10**9
        client.delete(f"/api/kept/{name}").raise_for_status()
    for folder in (arena.proposed(name), arena.applied(name), arena.hive.data / "agents" / name):
        assert not os.path.lexists(folder)


def test_a_draft_that_was_spawned_takes_nothing_from_a_swapped_state_folder(arena: Arena, victim: Victim) -> None:
    name = arena.draft()
    copy = arena.manager.clone(name)
    commit = commit_files(copy, {"a": "1"})
    number = arena.send_bundle(name, commit, make_bundle(copy, commit), notes="")
    state = arena.proposed(name) / "state"
    state.rmdir()
    state.symlink_to(victim.full)
    arena.own(state)
    arena.approve(number)
    arena.agents.append(name)
    assert arena.wait_ended(number)["status"] == "deployed"
    arena.hive.wait_state(name, "idle")
    assert not (arena.state(name) / "secret").exists()
