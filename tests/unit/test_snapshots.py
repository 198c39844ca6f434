"""Snapshots as files: what is copied of an agent that is hostile, and what is taken of an archive that anybody made."""

import gzip
import io
import json
import os
import shutil
import socket
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError, TooLargeError
from hyperhive.host.snapshots.archive import Staged, open_archive, pack, read_manifest, stage_agent, unpack
from hyperhive.host.snapshots.contents import CLAUDE, LOGIN, STATE, Inbox, Manifest, find_session, parse_manifest
from hyperhive.system.archives import DamagedArchiveError
from hyperhive.system.tree_copies import Room, copy_tree, hand_over_tree

SESSION = "a4d5bee6-b90a-4763-aa53-6d6c4149ae19"
MANIFEST = Manifest(
    agent="alice",
    at="2026-01-02T03:04:05+00:00",
    commit="a" * 40,
    note="before",
    with_credentials=True,
    session=SESSION,
    turns=7,
    inbox=Inbox(90, [80, 81]),
)
CONFIG = {"agent.toml": (b"", False), "bin/tool": (b"#!/bin/sh\n", True)}
CANARY = "of somebody else"

Change = Callable[[tarfile.TarFile, tarfile.TarInfo, bytes], bool]


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    folder = tmp_path / "agent"
    for path, content in (
        ("state/notes.md", "remember"),
        ("state/deep/er/file", "x" * 3000),
        ("claude/projects/-state/session.jsonl", "{}\n"),
        ("claude/.credentials.json", "secret"),
    ):
        folder.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
        folder.joinpath(path).write_text(content)
    (folder / "state/notes.md").chmod(0o640)
    (folder / "state/deep").chmod(0o750)
    (folder / "state/link").symlink_to("/etc/passwd")
    os.link(folder / "state/notes.md", folder / "state/same")
    return folder


def stage(agent: Path, tmp_path: Path, *, with_credentials: bool = False) -> Staged:
    folder = tmp_path / f"staged-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    staged = Staged(folder, CONFIG)
    sources = {STATE: agent / "state", CLAUDE: agent / "claude"}
    stage_agent(staged, sources, with_credentials=with_credentials)
    return staged


def make(agent: Path, tmp_path: Path, *, with_credentials: bool = False) -> Path:
    target = tmp_path / "1.tar.gz"
    manifest = replace(MANIFEST, with_credentials=with_credentials)
    pack(stage(agent, tmp_path, with_credentials=with_credentials), manifest, target)
    return target


def list_tree(folder: Path) -> dict[str, object]:
    def show(path: Path) -> object:
        mode = path.lstat().st_mode & 0o777
        if path.is_symlink():
            return str(path.readlink())
        return (oct(mode), path.read_bytes()) if path.is_file() else oct(mode)

    return {str(path.relative_to(folder)): show(path) for path in sorted(folder.rglob("*"))}


# -- there and back ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_credentials", [False, True])
def test_what_comes_out_is_what_went_in_but_for_the_login(agent: Path, tmp_path: Path, with_credentials: bool) -> None:
    path = make(agent, tmp_path, with_credentials=True)
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("rb") as file:
        opened = unpack(file, tmp_path / "out", with_credentials=with_credentials)
    assert (opened.manifest, opened.config) == (MANIFEST, CONFIG)
    expected = list_tree(agent)
    if not with_credentials:
        del expected["claude/.credentials.json"]
    assert list_tree(tmp_path / "out") == {**expected, "state": "0o700", "claude": "0o700"}
    assert (tmp_path / "out/state/same").samefile(tmp_path / "out/state/notes.md")


def test_without_being_asked_the_login_is_not_even_copied(agent: Path, tmp_path: Path) -> None:
    staged = stage(agent, tmp_path)
    assert not (staged.folder / "claude/.credentials.json").exists()
    assert [path for path, _ in staged.left_out.named] == ["claude/.credentials.json"]
    assert b"secret" not in gzip.decompress(make(agent, tmp_path).read_bytes())


def test_an_agent_that_never_ran_has_an_empty_snapshot(tmp_path: Path) -> None:
    with make(tmp_path / "nothing", tmp_path).open("rb") as file:
        unpack(file, tmp_path / "out", with_credentials=False)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["claude", "state"]


def test_an_archive_that_was_changed_on_the_disk_is_not_opened(agent: Path, tmp_path: Path) -> None:
    path = tmp_path / "1.tar.gz"
    packed = pack(stage(agent, tmp_path), MANIFEST, path)
    with open_archive(path, packed.sha256) as file:
        assert read_manifest(file) == MANIFEST
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DamagedArchiveError, match="not what was written"):
        open_archive(path, packed.sha256)
    path.unlink()
    with pytest.raises(NotFoundError):
        open_archive(path, packed.sha256)


# -- copies of a hostile agent ---------------------------------------------------------------------------------


def test_no_pipe_is_opened_no_link_followed_and_no_device_copied(agent: Path, tmp_path: Path) -> None:
    os.mkfifo(agent / "state/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(agent / "state/socket"))
        secret = tmp_path / "secret"
        secret.mkdir()
        (secret / "file").write_text(CANARY)
        (agent / "state/way-out").symlink_to(secret)
        staged = stage(agent, tmp_path)
    assert {path for path, _ in staged.left_out.named} >= {"state/pipe", "state/socket"}
    assert (staged.folder / "state/way-out").is_symlink()
    assert CANARY.encode() not in gzip.decompress(make(agent, tmp_path).read_bytes())


def test_a_copy_is_not_the_file_in_which_the_agent_goes_on_writing(agent: Path, tmp_path: Path) -> None:
    staged = stage(agent, tmp_path)
    with (agent / "state/notes.md").open("r+") as file:
        file.write("REMEMBER")
    assert (staged.folder / "state/notes.md").read_text() == "remember"


def test_more_than_there_is_room_for_is_refused(agent: Path, tmp_path: Path) -> None:
    for number, room in enumerate((Room(3000, 100), Room(10_000, 3))):
        with pytest.raises(TooLargeError):
            copy_tree(agent / "state", tmp_path / f"out{number}", room, refuse=lambda _: "", left_out=_ignore)


def test_a_file_of_holes_is_left_out_and_costs_nothing(agent: Path, tmp_path: Path) -> None:
    with (agent / "state/holes").open("wb") as file:
        file.truncate(1 << 40)
    staged = stage(agent, tmp_path)
    assert ("state/holes", "almost all of it is holes") in staged.left_out.named


def test_folders_that_are_swapped_for_links_meanwhile_lead_nowhere(agent: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "er").mkdir()
    (outside / "er/file").write_text(CANARY)
    deep, aside = agent / "state/deep", agent / "state/aside"
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            deep.rename(aside)
            deep.symlink_to(outside)
            deep.unlink()
            aside.rename(deep)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for number in range(100):
            target = tmp_path / f"copy{number}"
            copy_tree(agent / "state", target, Room(1 << 20, 100), refuse=lambda _: "", left_out=_ignore)
            found = [path.read_text() for path in target.rglob("*") if path.is_file() and not path.is_symlink()]
            assert CANARY not in found
            shutil.rmtree(target)
    finally:
        done.set()
        swapper.join()


def test_a_tree_is_handed_over_with_its_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "folder").mkdir(parents=True)
    outside.write_text("")
    (tree / "folder/link").symlink_to(outside)
    uid = 12345 if os.geteuid() == 0 else os.geteuid()
    hand_over_tree(tree, uid)
    assert {path.lstat().st_uid for path in [tree, *tree.rglob("*")]} == {uid}
    assert outside.stat().st_uid == os.geteuid()


def _ignore(path: bytes, reason: str) -> None:
    pass


# -- archives of anybody -----------------------------------------------------------------------------------------


def rewrite(path: Path, change: Change) -> Path:
    """The archive anew: `change` is asked about each entry, and says whether it is to go in as it was."""
    target = path.with_name("hostile.tar.gz")
    with tarfile.open(path) as source, tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT) as out:
        for member in source:
            content = source.extractfile(member) if member.isreg() else None
            data = content.read() if content else b""
            if change(out, member, data):
                out.addfile(member, io.BytesIO(data))
    return target


def add(kind: bytes, name: str, *, link: str = "", content: bytes = b"", at: str = "claude") -> Change:
    """Puts an entry of its own before the one that is called `at`."""

    def change(out: tarfile.TarFile, member: tarfile.TarInfo, data: bytes) -> bool:
        if member.name == at:
            made = tarfile.TarInfo(name)
            made.type, made.linkname, made.size, made.mode = kind, link, len(content), 0o6777
            out.addfile(made, io.BytesIO(content))
        return True

    return change


HOSTILE: dict[str, Change] = {
    "a way out by dots": add(tarfile.REGTYPE, "state/../../evil", content=b"x"),
    "a path from the root": add(tarfile.REGTYPE, "/evil", content=b"x"),
    "another folder": add(tarfile.REGTYPE, "applied/HEAD", content=b"x"),
    "the mark of a restore": add(tarfile.DIRTYPE, "ready"),
    "a device": add(tarfile.CHRTYPE, "state/null"),
    "a pipe": add(tarfile.FIFOTYPE, "state/pipe"),
    "a file through a link": add(tarfile.REGTYPE, "state/link/evil", content=b"x"),
    "a name of another's file": add(tarfile.LNKTYPE, "claude/mine", link="state/notes.md", at="claude/projects"),
    "a name of a file elsewhere": add(tarfile.LNKTYPE, "state/mine", link="../../etc/passwd"),
    "a file twice": add(tarfile.REGTYPE, "state/notes.md", content=b"y"),
    "a folder that is a link": add(tarfile.SYMTYPE, "claude", link="/etc"),
    "a config with a link": add(tarfile.SYMTYPE, "config/link", link="/etc/passwd"),
    "a config that hides a file": add(tarfile.REGTYPE, "config/.git/config", content=b"x"),
    "a config with a way out": add(tarfile.REGTYPE, "config/../evil", content=b"x"),
    "a config file that is too large": add(tarfile.REGTYPE, "config/large", content=b"x" * 300_000),
    "an entry after the end": add(tarfile.REGTYPE, "summary.json", content=b'{"entries": 99}', at="state/notes.md"),
    "an entry that is missing": lambda out, member, data: member.name != "state/notes.md",
    "no end": lambda out, member, data: member.name != "summary.json",
    "no manifest": lambda out, member, data: member.name != "manifest.json",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_no_snapshot_holds_is_refused_and_nothing_is_put_elsewhere(case: str, agent: Path, tmp_path: Path) -> None:
    hostile = rewrite(make(agent, tmp_path), HOSTILE[case])
    inside = tmp_path / "inside"
    inside.mkdir()
    before = list_tree(tmp_path)
    with hostile.open("rb") as file, pytest.raises((DamagedArchiveError, TooLargeError, InvalidInputError)):
        unpack(file, inside / "out", with_credentials=False)
    shutil.rmtree(inside / "out")
    assert list_tree(tmp_path) == before


def test_no_file_that_is_unpacked_runs_as_somebody_else(agent: Path, tmp_path: Path) -> None:
    hostile = rewrite(make(agent, tmp_path), add(tarfile.REGTYPE, "state/setuid", content=b"x"))
    # It is one entry more than the archive says: told at the end, when all was unpacked.
    with hostile.open("rb") as file, pytest.raises(DamagedArchiveError):
        unpack(file, tmp_path / "out", with_credentials=False)
    assert (tmp_path / "out/state/setuid").stat().st_mode & 0o7000 == 0


def test_an_archive_that_is_cut_off_anywhere_is_refused(agent: Path, tmp_path: Path) -> None:
    content = make(agent, tmp_path).read_bytes()
    for length in range(0, len(content), max(1, len(content) // 40)):
        with pytest.raises(HiveError):
            unpack(io.BytesIO(content[:length]), tmp_path / f"out{length}", with_credentials=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent", "../evil"),
        ("agent", "operator"),
        ("at", "yesterday"),
        ("at", "2026-01-02T03:04:05"),
        ("commit", "HEAD"),
        ("session", "../../x"),
        ("turns", -1),
        ("turns", True),
        ("inbox", {"newest": 1}),
        ("inbox", {"newest": 1, "waiting": ["x"]}),
        ("inbox", [1]),
        ("program", "other"),
        ("kind", "backup"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    content = MANIFEST.render().decode()
    fields = json.loads(content)
    with pytest.raises(DamagedArchiveError):
        parse_manifest(json.dumps({**fields, field: value}).encode())


def test_a_snapshot_of_a_newer_hive_is_refused() -> None:
    content = MANIFEST.render().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(ConflictError, match="newer"):
        parse_manifest(content)


def test_a_note_is_one_line_without_what_a_terminal_obeys() -> None:
    content = replace(MANIFEST, note="a\x1b[31m\nb").render()
    assert "\x1b" not in parse_manifest(content).note
    assert "\n" not in parse_manifest(content).note


@pytest.mark.parametrize("turn", [None, [], {}, {"session_id": 7}, {"session_id": "../x"}])
def test_the_conversation_of_a_turn_that_names_none_is_none(turn: object) -> None:
    assert find_session(turn) == ""
    assert find_session({"session_id": SESSION}) == SESSION


def test_the_login_is_where_claude_keeps_it() -> None:
    assert LOGIN == b".credentials.json"
