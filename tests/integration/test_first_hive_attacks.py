"""`hive import-first-hive` from folders in which hostile agents have left what they could, or the disk its damage."""

import os
import shutil
from contextlib import closing
from pathlib import Path

from cli_process import call
from first_hive import SENT_S, FirstHive, git
from first_hive_rig import agents, query, reasons, refuse, take_over
from hyperhive.system.files import folder_size_bytes


async def test_names_that_cannot_be_are_told(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    for name in ("Upper", "operator", "a-very-long-name", "hm1nd", "manager"):
        first.add_agent(name)
    (first.folder / "agents" / "no\x1b[2Jname").mkdir()
    (first.folder / "agents" / "a file").touch()
    (first.folder / "forge").mkdir()
    report = await take_over(folder, first)
    found = agents(report)
    assert "is not an agent name" in found["Upper"]["left"]
    assert "reserved" in found["operator"]["left"]
    assert found["manager"]["left"] == "hm1nd is manager as well"
    assert found["hm1nd"]["taken"]
    assert any("longer than 9" in note for note in found["a-very-long-name"]["notes"])
    assert any("not an agent name" in (agent["left"] or "") for name, agent in found.items() if "2J" in name)
    assert {left["path"] for left in report["left"]} >= {"agents/a file", "forge"}
    shown = await call(folder / "other", "import-first-hive", str(first.folder), "--dry-run")
    assert b"\x1b" not in shown.stdout


async def test_no_git_of_the_first_hives_is_obeyed(folder: Path, first: FirstHive) -> None:
    canary = folder / "canary"
    script = f"#!/bin/sh\ntouch {canary}\n"
    for repository in (first.folder / "applied/alice/.git", first.folder / "agents/alice/config/.git"):
        for name in ("post-checkout", "pre-push", "reference-transaction", "post-index-change"):
            hook = repository / "hooks" / name
            hook.parent.mkdir(exist_ok=True)
            hook.write_text(script)
            hook.chmod(0o755)
        command = str(repository / "hooks/pre-push")
        with (repository / "config").open("a") as config:
            config.write(
                f"[core]\n\tfsmonitor = {command}\n\tsshCommand = {command}\n\talternateRefsCommand = {command}\n"
            )
            config.write(f"[uploadpack]\n\tpackObjectsHook = {command}\n[include]\n\tpath = {command}\n")
    assert agents(await take_over(folder, first))["alice"]["taken"]
    assert not canary.exists()
    kept = {path.name for path in (folder / "data/applied/alice").iterdir()}
    assert kept == {"HEAD", "config", "objects", "refs"}


async def test_links_devices_and_what_is_huge_stay_behind(folder: Path, first: FirstHive) -> None:
    (folder / "secret").write_text("secret")
    state = first.folder / "agents/alice/state"
    (state / "link").symlink_to(folder / "secret")
    os.mkfifo(state / "fifo")
    with (state / "huge").open("wb") as huge:
        huge.truncate(1 << 42)
    (first.folder / "agents/eve").symlink_to(folder)
    (first.folder / "agents/mallory").mkdir()
    (first.folder / "applied/mallory").symlink_to(first.folder / "applied/alice")
    first.add_agent("trent", first=9)
    shutil.rmtree(first.folder / "agents/trent/state")
    (first.folder / "agents/trent/state").symlink_to(folder)
    report = await take_over(folder, first)
    found = agents(report)
    left = {entry["path"]: entry["reason"] for entry in found["alice"]["left_out"]}
    assert left["state/fifo"] == "no file, folder or link"
    assert left["state/huge"] == "almost all of it is holes"
    assert (folder / "data/agents/alice/state/link").readlink() == folder / "secret"
    assert "cannot be read" in found["mallory"]["left"]
    assert {entry["path"] for entry in report["left"]} >= {"agents/eve", "applied/mallory"}
    assert list((folder / "data/agents/trent/state").iterdir()) == []
    assert folder_size_bytes(folder / "data") < 64 * 1024**2


async def test_repositories_that_are_damaged_or_borrow_leave_their_agent(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    for index, name in enumerate(("borrower", "damaged", "linked", "missing", "packed", "pointer")):
        first.add_agent(name, first=1 + 4 * index)
    applied = first.folder / "applied"
    (applied / "borrower/.git/objects/info").mkdir(exist_ok=True)
    (applied / "borrower/.git/objects/info/alternates").write_text(f"{applied}/missing/.git/objects\n")
    tree = git(applied / "damaged", "rev-parse", "main^{tree}")
    for repository in (applied / "damaged/.git", first.folder / "agents/damaged/config/.git"):
        (repository / f"objects/{tree[:2]}/{tree[2:]}").chmod(0o644)
        (repository / f"objects/{tree[:2]}/{tree[2:]}").write_bytes(b"x" * 100)
    config = first.folder / "agents/linked/config"
    (config / "passwd").symlink_to("/etc/passwd")
    git(config, "add", "--all")
    git(config, "commit", "--quiet", "-m", "a link")
    git(config, "push", "--quiet", str(applied / "linked"), "HEAD:refs/heads/other")
    git(applied / "linked", "update-ref", "refs/heads/main", "refs/heads/other")
    shutil.rmtree(applied / "missing")
    git(applied / "packed", "gc", "--quiet")
    [pack] = (applied / "packed/.git/objects/pack").glob("*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:-30])
    shutil.rmtree(applied / "pointer/.git")
    (applied / "pointer/.git").write_text(f"gitdir: {applied}/damaged/.git\n")
    found = agents(await take_over(folder, first))
    assert not any(agent["taken"] for agent in found.values())
    assert "borrows objects" in found["borrower"]["left"]
    assert "not whole" in found["damaged"]["left"]
    assert "symbolic link" in found["linked"]["left"]
    assert "no applied repository" in found["missing"]["left"]
    assert "pack of its repository is damaged" in found["packed"]["left"]
    assert "no applied repository" in found["pointer"]["left"]


async def test_packed_repositories_come_over(folder: Path) -> None:
    first = FirstHive(folder / "first").make()
    first.add_agent("alice")
    for repository in (first.folder / "applied/alice", first.folder / "agents/alice/config"):
        git(repository, "gc", "--quiet", "--prune=now")
    alice = agents(await take_over(folder, first))["alice"]
    assert (alice["commit"], alice["tags"]) == (first.commits["alice"]["main"], 7)
    git(folder / "data/applied/alice", "fsck", "--strict")


async def test_a_damaged_proposed_repository_costs_only_what_is_proposed(folder: Path, first: FirstHive) -> None:
    objects = first.folder / "agents/alice/config/.git/objects"
    (objects / "pack" / f"pack-{'0' * 40}.pack").write_bytes(b"PACK")
    report = await take_over(folder, first)
    alice = agents(report)["alice"]
    assert alice["taken"]
    assert any(note.startswith("its proposed repository is left") for note in alice["notes"])


async def test_databases_that_are_none_are_refused_and_nothing_is_taken(folder: Path, first: FirstHive) -> None:
    for end in ("-wal", "-shm"):
        (first.folder / f"broker.sqlite{end}").unlink(missing_ok=True)
    whole = first.database.read_bytes()
    first.database.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    assert "cannot be read" in await refuse(folder, first.folder)
    first.database.unlink()
    os.mkfifo(first.database)
    assert "broker.sqlite cannot be read" in await refuse(folder, first.folder)
    first.database.unlink()
    first.database.symlink_to("/etc/passwd")
    assert "broker.sqlite cannot be read" in await refuse(folder, first.folder)
    assert query(folder, "select count(*) from agents") == [(0,)]


async def test_rows_that_cannot_be_ours_are_left_with_the_reason(folder: Path, first: FirstHive) -> None:
    values = {"sender": "alice", "recipient": "operator", "sent_at": SENT_S}
    for body in (b"\xff\xfe", "", "x" * 70_000):
        first.insert("messages", **values, body=body)
    first.insert("messages", **{**values, "sender": b"\x00", "recipient": "*"}, body="to all")
    first.insert("messages", **{**values, "sent_at": 12345}, body="when?")
    with closing(first.connect()) as database:
        database.execute("alter table operator_questions rename to kept")
        database.execute("create view operator_questions as select * from kept")
    report = await take_over(folder, first)
    found = reasons(report, "messages")
    assert found["its body is no UTF-8 text"] == 1
    assert found["its body is empty"] == 1
    assert found["its body is longer than one may be here"] == 1
    assert found["its sent_at is no instant that is understood"] == 1
    assert report["questions"]["problem"] == "operator_questions is no plain table"
