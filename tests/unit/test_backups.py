"""What is in a backup, what is left out and said, and what a restore refuses: no daemon, a data folder by hand."""

import gzip
import io
import json
import os
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cli_process import call
from hyperhive.cli.backups.contents import (
    DATABASES,
    FILES,
    NOT_KEPT,
    REPOSITORIES,
    SECRET_FILES,
    TREES,
    count_schemas,
)
from hyperhive.cli.backups.restore import restore_backup
from hyperhive.cli.backups.take import Backup, copy_database, take_backup
from hyperhive.core.errors import HiveError
from hyperhive.core.paths import Roots
from hyperhive.host import store

UID = os.geteuid()
MIGRATIONS = Path(store.__path__[0]) / "migrations"


def make_hive(data: Path) -> Path:
    """The least that is a hive; its state folder of `alice`."""
    data.mkdir()
    for name in DATABASES:
        with closing(sqlite3.connect(data / name)) as connection:
            connection.executescript("pragma journal_mode = wal; create table t (x); pragma user_version = 1;")
    state = data / "agents/alice/state"
    state.mkdir(parents=True)
    (data / "agents/alice/claude").mkdir()
    (data / "applied/alice/objects/ab").mkdir(parents=True)
    (data / "applied/alice/HEAD").write_text("ref: refs/heads/main\n")
    (data / "applied/alice/objects/ab/cd").write_text("object")
    return state


def take(data: Path, target: Path, *, with_credentials: bool = False) -> Backup:
    return take_backup(data, target, with_credentials=with_credentials, advance=lambda _: None)


def restore(archive: Path, data: Path) -> None:
    restore_backup(archive, Roots(data, data / "run"), lambda _: None)


def reasons(backup: Backup) -> dict[str, str]:
    return dict(backup.left_out.named)


def pack(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def read_members(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(path) as tar:
        files = ((member, tar.extractfile(member) if member.isreg() else None) for member in tar)
        return [(member, file.read() if file else b"") for member, file in files]


def add(members: list[tuple[tarfile.TarInfo, bytes]], *more: tarfile.TarInfo) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The entries with others before the end, and the end saying how many there are now."""
    (summary, content) = members[-1]
    fields = json.loads(content)
    fields["entries"] += len(more)
    return [*members[:-1], *((member, b"") for member in more), (summary, json.dumps(fields).encode())]


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **more: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.uid, member.gid = kind, target, UID, UID
    for key, value in more.items():
        setattr(member, key, value)
    return member


def test_everything_of_a_data_folder_is_decided_about() -> None:
    roots = Roots(Path("/data"), Path("/run"))
    names = [name for name in dir(Roots) if isinstance(getattr(Roots, name), property)]
    kept = {getattr(roots, name).name for name in names if getattr(roots, name).parent == roots.data}
    kept |= {roots.notes_repo("a").parent.name, roots.versions_folder("a").parent.name, "run"}
    assert kept == {*DATABASES, *REPOSITORIES, *TREES, *FILES, *SECRET_FILES, *NOT_KEPT}


def test_the_schemas_that_are_known_are_those_of_the_daemon() -> None:
    assert count_schemas("hive.sqlite") == len(list((MIGRATIONS / "hive").glob("*.sql"))) > 0
    assert count_schemas("telemetry.sqlite") == len(list((MIGRATIONS / "telemetry").glob("*.sql"))) > 0
    assert count_schemas("other.sqlite") == 0


def test_what_an_agent_left_neither_breaks_a_backup_nor_its_restore(tmp_path: Path) -> None:
    data = tmp_path / "data"
    state = make_hive(data)
    names = [b"\xff\xfe", b"a\nb", b" ", b"-rf", "ü=ö".encode(), b"x" * 255, b"%s", b"GNUSparseFile.0"]
    for name in names:
        Path(os.fsdecode(os.fsencode(state) + b"/" + name)).write_bytes(name)
    (state / "up").symlink_to("../../../../../../etc/shadow")
    (state / "loop").symlink_to("loop")
    Path(os.fsdecode(os.fsencode(state) + b"/\xfe")).symlink_to(os.fsdecode(b"\xff" * 200))
    os.mkfifo(state / "pipe")
    (state / "late").touch()
    os.utime(state / "late", (2**33, 2**33))
    (state / "early").touch()
    os.utime(state / "early", (-5, -5))
    with (state / "holes").open("wb") as file:
        file.truncate(2**40)
    with (state / "small holes").open("wb") as file:
        file.truncate(2**20)
    taken = take(data, tmp_path / "b.tar.gz")
    left_out = reasons(taken)
    assert left_out["agents/alice/state/pipe"] == "no file, folder or link"
    assert left_out["agents/alice/state/holes"] == "almost all of it is holes"
    restore(tmp_path / "b.tar.gz", tmp_path / "copy")
    restored = os.fsencode(tmp_path / "copy/agents/alice/state")
    for name in names:
        assert Path(os.fsdecode(restored + b"/" + name)).read_bytes() == name
    assert Path(os.fsdecode(restored + b"/up")).readlink() == Path("../../../../../../etc/shadow")
    assert Path(os.fsdecode(restored + b"/\xfe")).readlink() == Path(os.fsdecode(b"\xff" * 200))
    assert (tmp_path / "copy/agents/alice/state/small holes").stat().st_size == 2**20


@pytest.fixture
def deep() -> Iterator[Path]:
    """A folder with a hive whose agent nested folders deeper than a path reaches.

    Not in pytest's own folder: should this be killed, pytest could not remove them again.
    """
    folder = Path(tempfile.mkdtemp(prefix="hive-deep-"))
    try:
        handle = os.open(make_hive(folder / "data"), os.O_RDONLY)
        for _ in range(2500):
            os.mkdir("d", dir_fd=handle)
            inner = os.open("d", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = inner
        os.close(handle)
        yield folder
    finally:
        subprocess.run(["rm", "-rf", "--", str(folder)], check=True)


def test_folders_deeper_than_a_path_reaches_are_left_out_from_there(deep: Path) -> None:
    taken = take(deep / "data", deep / "b.tar.gz")
    assert "too long" in "".join(reasons(taken).values())
    restore(deep / "b.tar.gz", deep / "copy")
    assert (deep / "copy/agents/alice/state" / "/".join(["d"] * 1900)).is_dir()
    # What was unpacked is removed as deep as it is.
    cut = deep / "cut.tar.gz"
    cut.write_bytes((deep / "b.tar.gz").read_bytes()[:-5])
    refuse(cut, "cut off")


def test_what_a_restore_would_refuse_is_left_out_and_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    state = make_hive(data)
    elsewhere = tmp_path / "big-disk"
    elsewhere.mkdir()
    (data / "agents/bob").mkdir()
    (data / "agents/bob/state").symlink_to(elsewhere)
    (data / "my notes").write_text("of the operator")
    (data / "agents/carol/state").mkdir(parents=True)
    (state / "shared").write_text("one file")
    os.link(state / "shared", data / "agents/carol/state/shared")
    taken = take(data, tmp_path / "b.tar.gz")
    assert set(reasons(taken)) == {"agents/bob/state", "my notes"}
    restore(tmp_path / "b.tar.gz", tmp_path / "copy")
    copy = tmp_path / "copy/agents"
    assert (copy / "carol/state/shared").read_text() == (copy / "alice/state/shared").read_text() == "one file"
    assert (copy / "carol/state/shared").stat().st_nlink == 1


@pytest.mark.parametrize("with_credentials", [True, False])
def test_secrets_are_in_a_backup_only_if_they_were_asked_for(tmp_path: Path, with_credentials: bool) -> None:
    data = tmp_path / "data"
    make_hive(data)
    secrets = [*SECRET_FILES, "agents/alice/claude/.credentials.json"]
    for name in secrets:
        (data / name).write_text("secret")
    (data / "prices.toml").write_text("")
    taken = take(data, tmp_path / "b.tar.gz", with_credentials=with_credentials)
    assert set(reasons(taken)) == (set() if with_credentials else set(secrets))
    restore(tmp_path / "b.tar.gz", tmp_path / "copy")
    assert [(tmp_path / "copy" / name).exists() for name in secrets] == [with_credentials] * len(secrets)
    assert (tmp_path / "copy/prices.toml").exists()


def test_a_copy_of_a_database_is_of_one_moment_and_has_what_only_the_log_has(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)) as writer:
        writer.executescript("pragma journal_mode = wal; create table t (x); insert into t values (1);")
        copy_database(tmp_path / "a.sqlite", tmp_path / "b.sqlite")
        writer.execute("insert into t values (2)")
    with closing(sqlite3.connect(tmp_path / "b.sqlite")) as copy:
        assert copy.execute("select x from t").fetchall() == [(1,)]


def test_an_object_that_is_packed_during_the_backup_is_in_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_hive(data)
    objects = data / "applied/alice/objects"
    repacked: list[int] = []

    def repack(size: int) -> None:
        # Between the refs and the objects, and while they are read: what was loose is in a pack then.
        if not repacked and (objects / "ab/cd").exists() and size == len("object"):
            (objects / "pack").mkdir()
            (objects / "pack/p.pack").write_text("packed")
            (objects / "ab/cd").unlink()
            repacked.append(size)

    take_backup(data, tmp_path / "b.tar.gz", with_credentials=False, advance=repack)
    assert repacked
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        assert "data/applied/alice/objects/pack/p.pack" in tar.getnames()


async def test_each_refusal_of_a_backup_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    absent = await call(data, "backup", str(tmp_path / "b.tar.gz"))
    assert (absent.status, b"there is no hive in" in absent.stderr) == (1, True)
    make_hive(data)
    inside = await call(data, "backup", str(data / "b.tar.gz"))
    assert (inside.status, b"would be lost with it" in inside.stderr) == (1, True)
    nowhere = await call(data, "backup", str(tmp_path / "none/b.tar.gz"))
    assert (nowhere.status, b"there is no folder" in nowhere.stderr) == (1, True)
    (tmp_path / "b.tar.gz").write_text("mine")
    there = await call(data, "backup", str(tmp_path / "b.tar.gz"))
    assert (there.status, b"is there already" in there.stderr) == (1, True)
    assert (tmp_path / "b.tar.gz").read_text() == "mine"
    (data / "hive.sqlite").write_bytes(b"no database" * 1000)
    damaged = await call(data, "backup", str(tmp_path / "c.tar.gz"))
    assert (damaged.status, b"cannot be copied" in damaged.stderr) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "data"]


async def test_a_hive_of_another_user_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_hive(data)
    take(data, tmp_path / "b.tar.gz")
    if UID == 0:
        os.chown(data, 12345, 12345)
    else:
        data = Path("/usr")
    refused = await call(data, "backup", str(tmp_path / "c.tar.gz"))
    assert (refused.status, b"belongs to another user" in refused.stderr) == (1, True)
    refused = await call(data, "restore", str(tmp_path / "b.tar.gz"))
    assert (refused.status, b"belongs to another user" in refused.stderr) == (1, True)


def refuse(archive: Path, words: str) -> None:
    """Restores to a new folder: that fails with `words`, and nothing is left."""
    target = archive.parent / "target/copy"
    with pytest.raises(HiveError, match=words) as error:
        restore(archive, target)
    assert error.value.hint or words
    assert not target.parent.exists() or list(target.parent.iterdir()) == []


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    state = make_hive(tmp_path / "data")
    (state / "big").write_bytes(os.urandom(300_000))
    take(tmp_path / "data", tmp_path / "b.tar.gz")
    return tmp_path / "b.tar.gz"


def test_an_archive_that_is_cut_off_or_damaged_anywhere_restores_nothing(whole: Path) -> None:
    content = whole.read_bytes()
    cut = whole.with_name("cut")
    for length in (0, 5, 100, 600, len(content) // 2, len(content) - 9, len(content) - 1):
        cut.write_bytes(content[:length])
        refuse(cut, "cut off|damaged|no backup")
    middle = len(content) // 2
    cut.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    refuse(cut, "cut off|damaged")
    # Cut between two entries and packed again: each is whole, but the end is missing.
    pack(cut, read_members(whole)[:-1])
    refuse(cut, "not whole")
    tar = gzip.decompress(content)
    cut.write_bytes(gzip.compress(tar[: len(tar) // 1024 * 512]))
    refuse(cut, "cut off|not whole|damaged")


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("a text\n")
    refuse(other, "no archive")
    refuse(pack(other, [(entry("a"), b"a")]), "no backup of a hive")
    refuse(pack(other, [(entry("manifest.json"), b"{}")]), "no backup of a hive")
    refuse(pack(other, [(entry("manifest.json"), b"[" * 100_000)]), "damaged")
    with pytest.raises(HiveError, match="cannot be read"):
        restore(tmp_path / "none", tmp_path / "copy")


def with_manifest(whole: Path, **changes: Any) -> Path:
    (member, content), *rest = read_members(whole)
    return pack(whole.with_name("changed"), [(member, json.dumps(json.loads(content) | changes).encode()), *rest])


def test_a_backup_of_a_newer_hyperhive_or_of_another_kind_of_user_is_refused(whole: Path) -> None:
    refuse(with_manifest(whole, schemas={"hive.sqlite": 9999}), "newer hyperhive")
    refuse(with_manifest(whole, schemas={"new.sqlite": 1}), "newer hyperhive")
    refuse(with_manifest(whole, format=2), "newer hyperhive")
    refuse(with_manifest(whole, uid=1000 if UID == 0 else 0), "agents' files would not be theirs")
    refuse(with_manifest(whole, agents=7), "manifest of the backup is damaged")


HOSTILE = {
    "absolute": lambda: [entry("/tmp/evil")],
    "above": lambda: [entry("data/../../evil")],
    "above in a state": lambda: [entry("data/agents/alice/state/../../../../evil")],
    "dot": lambda: [entry("data/agents/./evil")],
    "outside": lambda: [entry("evil")],
    "device": lambda: [entry("data/agents/alice/state/null", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "fifo": lambda: [entry("data/agents/alice/state/pipe", tarfile.FIFOTYPE)],
    "twice": lambda: [entry("data/agents/alice/state/big")],
    "no folder": lambda: [entry("data/agents/alice/state/none/file")],
    "below a file": lambda: [entry("data/agents/alice/state/big/file")],
    "unknown file": lambda: [entry("data/evil.sqlite")],
    "link for a folder": lambda: [entry("data/versions", tarfile.SYMTYPE, "/etc")],
    "link for a file": lambda: [entry("data/credential", tarfile.SYMTYPE, "/etc/shadow")],
    "link for a state": lambda: [
        entry("data/agents/eve", tarfile.DIRTYPE),
        entry("data/agents/eve/state", tarfile.SYMTYPE, "/etc"),
    ],
    "link in a repository": lambda: [entry("data/applied/alice/config", tarfile.SYMTYPE, "/etc/passwd")],
    "through a link": lambda: [
        entry("data/agents/alice/state/out", tarfile.SYMTYPE, "/tmp"),
        entry("data/agents/alice/state/out/evil"),
    ],
    "through a link in it": lambda: [
        entry("data/agents/alice/state/out", tarfile.SYMTYPE, "../../.."),
        entry("data/agents/alice/state/out/evil"),
    ],
    "over a link": lambda: [
        entry("data/agents/alice/state/out", tarfile.SYMTYPE, "/tmp/evil"),
        entry("data/agents/alice/state/out"),
    ],
    "name of another's": lambda: [entry("data/agents/alice/state/h", tarfile.LNKTYPE, "data/hive.sqlite")],
    "name outside": lambda: [entry("data/agents/alice/state/h", tarfile.LNKTYPE, "/etc/passwd")],
    "name above": lambda: [
        entry("data/agents/alice/state/h", tarfile.LNKTYPE, "data/agents/alice/state/../../../hive.sqlite")
    ],
    "name of a link": lambda: [
        entry("data/agents/alice/state/out", tarfile.SYMTYPE, "/etc/passwd"),
        entry("data/agents/alice/state/h", tarfile.LNKTYPE, "data/agents/alice/state/out"),
    ],
    "owner": lambda: [entry("data/agents/alice/state/o", uid=2**40)],
    "time": lambda: [entry("data/agents/alice/state/t", mtime=float(2**60))],
    "no name": lambda: [entry("")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_entry_is_refused(whole: Path, members: Callable[[], list[tarfile.TarInfo]]) -> None:
    hostile = pack(whole.with_name("hostile"), add(read_members(whole), *members()))
    refuse(hostile, "archive has|no archive")
    assert not Path("/tmp/evil").exists()


def test_only_agents_keep_their_owners_and_nobody_a_setuid_bit(whole: Path) -> None:
    members = add(
        read_members(whole),
        entry("data/agents/alice/state/s", mode=0o6755, uid=12345, gid=12345),
        entry("data/notify.urls", mode=0o4666, uid=12345, gid=12345),
    )
    restore(pack(whole.with_name("odd"), members), whole.parent / "copy")
    theirs = (whole.parent / "copy/agents/alice/state/s").stat()
    ours = (whole.parent / "copy/notify.urls").stat()
    assert (theirs.st_mode & 0o7777, theirs.st_uid) == (0o755, 12345 if UID == 0 else UID)
    assert (ours.st_mode & 0o7777, ours.st_uid) == (0o644, UID)
