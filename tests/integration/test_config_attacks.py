"""What was approved is what is deployed, byte for byte, and each decision counts once: a manager that cheats after it
has proposed, keys used twice, decisions that come too late or a hundred at a time."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import httpx
import pytest

from attack_rig import Arena, open_arena
from git_rig import read_folder
from hive_process import wait_for
from proposer import LinkError, commit_files, git, make_bundle


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    with open_arena(holdable=True) as arena:
        yield arena


@pytest.fixture(autouse=True)
def agents_end(arena: Arena) -> Iterator[None]:
    yield
    arena.purge_agents()


@contextlib.contextmanager
def held(arena: Arena) -> Generator[None]:
    """While this lasts, no container is started: what is being applied stays `building`."""
    hold = arena.folder / "hold"
    hold.touch()
    try:
        yield
    finally:
        hold.unlink()


def wait_status(arena: Arena, number: int, status: str) -> None:
    wait_for(lambda: arena.approval(number)["status"] == status, f"{number} to be {status}", hive=arena.hive)


def count_events(arena: Arena, number: int) -> Counter[str]:
    """The events about one approval, from the audit log."""
    with contextlib.closing(sqlite3.connect(f"file:{arena.hive.data}/hive.sqlite?mode=ro", uri=True)) as database:
        rows = database.execute("select name, body from events where name like 'approval.%'").fetchall()
    return Counter(name for name, body in rows if json.loads(body)["approval"]["id"] == number)


# -- the branch after the submission -----------------------------------------------------------------------


def amend(copy: Path) -> None:
    commit_files(copy, {"agent.toml": 'environment = { EVIL = "1" }\n', "extra": "evil"}, "evil")
    git(copy, "commit", "-q", "--amend", "-m", "more evil")


def rewrite(copy: Path) -> None:
    """The same branch with another history, as a force-push would leave it."""
    git(copy, "checkout", "-q", "--orphan", "other")
    commit_files(copy, {"agent.toml": 'environment = { EVIL = "2" }\n'}, "evil")
    git(copy, "branch", "-M", "other", "main")


def replace_object(copy: Path) -> None:
    """git itself then shows another commit under the name of the approved one."""
    approved = git(copy, "rev-parse", "HEAD").decode().strip()
    evil = commit_files(copy, {"agent.toml": 'environment = { EVIL = "3" }\n'}, "evil")
    git(copy, "replace", approved, evil)


def delete_and_collect(copy: Path) -> None:
    git(copy, "checkout", "-q", "--detach", "refs/remotes/applied/main")
    for ref in git(copy, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/hive").decode().split():
        git(copy, "update-ref", "-d", ref)
    git(copy, "reflog", "expire", "--expire=now", "--all")
    git(copy, "gc", "-q", "--prune=now")


def remove_repository(copy: Path) -> None:
    shutil.rmtree(copy / ".git")


ATTACKS = (amend, rewrite, replace_object, delete_and_collect, remove_repository)


@pytest.mark.parametrize("step", ["pending", "approved", "building"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_the_manager_does_to_its_branch_later_changes_nothing(
    arena: Arena, attack: Callable[[Path], None], step: str
) -> None:
    name, other = arena.spawn(), arena.spawn()
    copy = arena.proposed(name) / "config"
    # What the manager reads as /applied, the test has elsewhere.
    git(copy, "config", "remote.applied.url", str(arena.applied(name)))
    files = {"agent.toml": 'environment = { GOOD = "1" }\n', "prompt.md": "be good\n", "sub/data": uuid.uuid4().hex}
    approved = {path: text.encode() for path, text in files.items()}
    commit = commit_files(copy, files)
    number = arena.manager.submit(name, copy, commit)
    plug, _ = arena.manager.propose(other, {"agent.toml": 'environment = { PLUG = "1" }\n'})
    reviewed = arena.hive.get(f"/api/approvals/{number}/review")["comparison"]
    with held(arena):
        if step == "pending":
            attack(copy)
        if step == "approved":
            # The one build queue is busy with this.
            arena.approve(plug)
            wait_status(arena, plug, "building")
        arena.approve(number)
        if step != "pending":
            wait_status(arena, number, step)
            attack(copy)
            assert arena.approval(number)["status"] == step
        evil_copy = arena.manager.clone(name)
        evil = commit_files(evil_copy, {"agent.toml": 'environment = { EVIL = "1" }\n'})
        late = arena.manager.submit(name, evil_copy, evil)
    row = arena.wait_ended(number)
    assert (row["status"], row["commit"]) == ("deployed", commit)
    arena.hive.wait_state(name, "idle")
    assert arena.files_in_use(name) == approved
    assert read_folder(arena.hive.data / "versions" / name / commit) == approved
    assert arena.main(name) == commit == arena.hive.agent(name)["commit"]
    assert {arena.refs(name)[f"refs/proposals/{number}"]} == {commit} == {reviewed["commit"]}
    shown = arena.hive.get(f"/api/approvals/{number}/review")["comparison"]
    assert (shown["files"], shown["meaning"]) == (reviewed["files"], reviewed["meaning"])
    # The one that came in meanwhile is of what was deployed before.
    assert arena.wait_ended(late)["status"] == "failed"


def test_the_notes_of_a_spawn_are_those_that_were_shown(arena: Arena) -> None:
    name = arena.draft()
    copy = arena.manager.clone(name)
    commit = commit_files(copy, {"agent.toml": "warm_s = 3\n"})
    git(copy, "checkout", "-q", "--orphan", "notes")
    git(copy, "rm", "-q", "-rf", ".")
    notes = commit_files(copy, {"notes.md": "as shown\n"})
    number = arena.send_bundle(name, commit, make_bundle(copy, commit, notes), notes=notes)
    [shown] = arena.hive.get(f"/api/approvals/{number}/review")["notes"]
    assert shown["path"] == "notes.md"
    state = arena.proposed(name) / "state"
    (state / "notes.md").write_text("something else\n")
    (state / "extra.md").write_text("and more\n")
    (state / "link").symlink_to("/etc/shadow")
    arena.approve(number)
    assert arena.wait_ended(number)["status"] == "deployed"
    arena.hive.wait_state(name, "idle")
    # Beside them is what the harness itself keeps there.
    assert {path.name.partition("-")[0] for path in arena.state(name).iterdir()} == {"notes.md", "hyperhive"}
    assert (arena.state(name) / "notes.md").read_text() == "as shown\n"
    assert arena.files_in_use(name)["agent.toml"] == b"warm_s = 3\n"


# -- keys, bases, decisions --------------------------------------------------------------------------------


def test_a_key_is_good_for_one_proposal(arena: Arena) -> None:
    name, other, draft = arena.spawn(), arena.spawn(), arena.draft()
    copy = arena.manager.clone(name)
    first, key = commit_files(copy, {"a": "1"}), uuid.uuid4().hex
    number = arena.manager.submit(name, copy, first, key=key)
    before = arena.refs(name)
    assert arena.manager.submit(name, copy, first, key=key) == number
    second = commit_files(copy, {"a": "2"})
    with pytest.raises(LinkError, match="key") as caught:
        arena.manager.submit(name, copy, second, key=key)
    assert caught.value.code == "conflict"
    for target, notes in ((other, None), (draft, "")):
        with pytest.raises(LinkError, match="key"):
            arena.send_bundle(target, first, make_bundle(copy, first), key=key, notes=notes)
    assert [row["id"] for row in arena.approvals_of(name)] == [number]
    assert arena.approval(number)["commit"] == first
    wait_for(lambda: f"refs/tags/proposal/{number}" in arena.refs(name), "its tag", hive=arena.hive)
    assert not [ref for ref in arena.refs(name) if ref.startswith("refs/incoming")]
    assert {ref for ref in before if ref.startswith("refs/heads")} == {"refs/heads/main"}


@pytest.mark.parametrize("both_before", [True, False])
def test_of_two_proposals_on_one_base_only_the_first_is_applied(arena: Arena, both_before: bool) -> None:
    name = arena.spawn()
    first, commit = arena.manager.propose(name, {"agent.toml": 'environment = { N = "1" }\n'})
    second, _ = arena.manager.propose(name, {"agent.toml": 'environment = { N = "2" }\n'})
    assert any("approval" in text for text in arena.hive.get(f"/api/approvals/{first}/review")["warnings"])
    with held(arena):
        arena.approve(first)
        if both_before:
            arena.approve(second)
            wait_status(arena, first, "building")
    assert arena.wait_ended(first)["status"] == "deployed"
    row = arena.wait_ended(second)
    assert (row["status"], commit[:12] in row["reason"]) == ("failed", True)
    with arena.hive.client() as client:
        assert client.post(f"/api/approvals/{second}/approve").status_code == 409
    arena.hive.wait_state(name, "idle")
    assert arena.main(name) == commit == arena.hive.agent(name)["commit"]
    assert arena.files_in_use(name)["agent.toml"] == b'environment = { N = "1" }\n'
    messages = arena.hive.get("/api/messages?agent=manager&limit=50")
    facts = [json.loads(message["body"]) for message in messages if message["sender"] == "system"]
    [fact] = [fact for fact in facts if fact.get("approval") == second]
    assert (fact["status"], "propose it again" in fact["reason"]) == ("failed", True)


def test_an_approval_after_a_denial_is_too_late(arena: Arena) -> None:
    name = arena.spawn()
    number, commit = arena.manager.propose(name, {"agent.toml": 'environment = { N = "1" }\n'})
    before = (arena.main(name), arena.generation(name))
    arena.hive.post(f"/api/approvals/{number}/deny", {"reason": "no"})
    with arena.hive.client() as client:
        for act in ("approve", "deny"):
            refused = client.post(f"/api/approvals/{number}/{act}", json={"reason": "yes"})
            assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    row = arena.wait_ended(number)
    assert (row["status"], row["reason"]) == ("denied", "no")
    assert (arena.main(name), arena.generation(name)) == before
    assert commit != arena.hive.agent(name)["commit"]
    assert count_events(arena, number) == {"approval.requested": 1, "approval.denied": 1}


@pytest.mark.parametrize("first", ["approve", "deny"])
async def test_a_hundred_decisions_at_once_have_one_effect(arena: Arena, first: str) -> None:
    name = await asyncio.to_thread(arena.spawn)
    number, commit = await asyncio.to_thread(arena.manager.propose, name, {"agent.toml": 'environment = { N = "1" }\n'})
    generation = arena.generation(name)
    second = "deny" if first == "approve" else "approve"
    cookies = await asyncio.to_thread(arena.hive.session_cookies)
    local = httpx.AsyncHTTPTransport(uds=str(arena.hive.run / "hive.sock"))
    origin = arena.hive.origin
    async with (
        httpx.AsyncClient(transport=local, base_url="http://hive", timeout=60) as socket,
        httpx.AsyncClient(base_url=origin, headers={"origin": origin}, cookies=cookies, timeout=60) as page,
    ):
        answers = await asyncio.gather(
            *(
                (socket, page)[index // 2 % 2].post(
                    f"/api/approvals/{number}/{(first, second)[index % 2]}", json={"reason": f"{index}"}
                )
                for index in range(100)
            )
        )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 99}
    [won] = [answer.json()["status"] for answer in answers if answer.status_code == 200]
    row = await asyncio.to_thread(arena.wait_ended, number)
    assert row["status"] == {"approved": "deployed", "denied": "denied"}[won]
    events = count_events(arena, number)
    assert events["approval.approved"] + events["approval.denied"] == 1
    assert set(events.values()) == {1}
    started = 1 if won == "approved" else 0
    assert arena.generation(name) == generation + started
    assert (arena.main(name) == commit) == bool(started)
