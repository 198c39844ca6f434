"""An agent's files are shown as they are, whatever it puts into its folder and whenever it changes it."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.errors import (
    ConflictError,
    HiveError,
    InvalidInputError,
    NotFoundError,
    RefusedError,
    TooLargeError,
)
from hyperhive.host.state_files import (
    DOWNLOAD_LIMIT_BYTES,
    ENTRIES_LIMIT,
    TEXT_LIMIT_BYTES,
    StateFiles,
    decode_text,
)
from hyperhive.wire.operator.records import StateEntry

SECRET = "the operator's secret"
DEADLINE_S = 60


@dataclass
class Bench:
    rig: ConfigRig
    files: StateFiles
    state: Path

    async def entries(self, path: str = "") -> dict[str, StateEntry]:
        folder = await self.files.list_folder("alice", path)
        return {entry.name: entry for entry in folder.entries}

    async def text(self, path: str) -> str:
        return (await self.files.read_text("alice", path)).text

    async def refusal(self, path: str) -> HiveError:
        """What reading `path` is answered with; saving it is answered with the same."""
        with pytest.raises(HiveError) as read:
            await asyncio.wait_for(self.files.read_text("alice", path), DEADLINE_S)
        with pytest.raises(HiveError) as saved:
            await asyncio.wait_for(self.files.open_file("alice", path), DEADLINE_S)
        assert (type(saved.value), saved.value.message) == (type(read.value), read.value.message)
        assert SECRET not in read.value.message
        return read.value

    async def save(self, path: str) -> bytes:
        opened = await self.files.open_file("alice", path)
        with os.fdopen(opened.handle, "rb") as file:
            return file.read()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_config_rig(tmp_path) as rig:
        await rig.spawn("alice")
        state = rig.roots.state_folder("alice")
        state.mkdir(parents=True, exist_ok=True)
        (state.parent / "secret").write_text(SECRET)
        yield Bench(rig, StateFiles(rig.store, rig.roots), state)


def count_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_folder_is_listed_by_name_with_what_each_entry_is(bench: Bench) -> None:
    (bench.state / "notes.md").write_text("hello\n")
    (bench.state / "logs").mkdir()
    (bench.state / "logs/today").write_text("x")
    (bench.state / "link").symlink_to("notes.md")
    os.mkfifo(bench.state / "pipe")
    entries = await bench.entries()
    assert {name: entry.kind for name, entry in entries.items()} == {
        "link": "link", "logs": "folder", "notes.md": "file", "pipe": "other",
    }  # fmt: skip
    assert list(entries) == sorted(entries)
    assert entries["notes.md"].size_bytes == 6
    assert entries["notes.md"].changed_at is not None
    assert list(await bench.entries("logs")) == ["today"]
    assert await bench.text("logs/today") == "x"
    assert await bench.text("./logs//today") == "x"
    assert (await bench.files.read_text("alice", "./logs//today")).path == "logs/today"
    assert await bench.save("notes.md") == b"hello\n"


async def test_an_agent_that_never_started_has_an_empty_folder(bench: Bench) -> None:
    bench.state.rmdir()
    assert await bench.entries() == {}
    assert isinstance(await bench.refusal("notes.md"), NotFoundError)


@pytest.mark.parametrize("name", ["nobody", "..", "a/b", "operator"])
async def test_who_is_no_agent_has_no_files(bench: Bench, name: str) -> None:
    for look in (bench.files.list_folder, bench.files.read_text, bench.files.open_file):
        with pytest.raises((NotFoundError, InvalidInputError)):
            await look(name, "notes.md")


async def test_links_are_shown_and_lead_nowhere(bench: Bench) -> None:
    (bench.state / "real").mkdir()
    (bench.state / "real/file").write_text("own")
    for name, target in {
        "passwd": "/etc/passwd", "secret": "../secret", "own": "real/file", "up": "..", "folder": "real",
        "self": "self", "gone": "nothing", "magic": "/proc/self/environ",
    }.items():  # fmt: skip
        (bench.state / name).symlink_to(target)
    for path in ("passwd", "secret", "own", "gone", "magic", "self", "folder/file", "up/secret", "up"):
        refusal = await bench.refusal(path)
        assert isinstance(refusal, RefusedError), path
        assert "is a link" in refusal.message
    for path in ("folder", "up", "passwd", "folder/x", "gone"):
        with pytest.raises(RefusedError, match="is a link"):
            await bench.files.list_folder("alice", path)


async def test_pipes_sockets_and_devices_are_shown_and_never_opened(bench: Bench) -> None:
    os.mkfifo(bench.state / "pipe")
    # The whole path is longer than a socket's may be.
    folder = os.open(bench.state, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
        names = ["pipe", "socket"]
        if os.geteuid() == 0:
            os.mknod(bench.state / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
            names.append("device")
        for name in names:
            assert "is no plain file" in (await bench.refusal(name)).message
            with pytest.raises(RefusedError, match="is no plain file"):
                await bench.files.list_folder("alice", name)
        assert {entry.kind for entry in (await bench.entries()).values()} == {"other"}


async def test_a_hard_link_is_not_read(bench: Bench) -> None:
    os.link(bench.state.parent / "secret", bench.state / "hard")
    refusal = await bench.refusal("hard")
    assert isinstance(refusal, RefusedError)
    assert "several names" in refusal.message


async def test_the_file_of_another_owner_is_not_read(bench: Bench) -> None:
    (bench.state / "other").write_text(SECRET)
    if os.geteuid() == 0:
        os.chown(bench.state / "other", 12345, 12345)
        assert "another owner" in (await bench.refusal("other")).message


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("../secret", InvalidInputError),
        ("logs/../../secret", InvalidInputError),
        ("\\x2e\\x2e/secret", InvalidInputError),
        ("/etc/passwd", InvalidInputError),
        ("{state}/notes.md", InvalidInputError),
        ("notes.md\0", InvalidInputError),
        ("\\x00", InvalidInputError),
        ("%2e%2e/secret", NotFoundError),
        ("nothing", NotFoundError),
        ("notes.md/below", NotFoundError),
        ("notes.md/", None),
        ("x" * 300, InvalidInputError),
        ("x/" * 5000, InvalidInputError),
        ("", ConflictError),
        ("logs", ConflictError),
    ],
)
async def test_a_path_is_below_the_folder_or_refused(bench: Bench, path: str, kind: type[HiveError] | None) -> None:
    (bench.state / "notes.md").write_text("own")
    (bench.state / "logs").mkdir()
    path = path.format(state=bench.state)
    if kind is None:
        assert await bench.text(path) == "own"
    else:
        assert type(await bench.refusal(path)) is kind


async def test_a_file_is_not_listed(bench: Bench) -> None:
    (bench.state / "notes.md").write_text("own")
    with pytest.raises(ConflictError, match=r"notes\.md is a file"):
        await bench.files.list_folder("alice", "notes.md")
    with pytest.raises(NotFoundError):
        await bench.files.list_folder("alice", "notes.md/below")


async def test_of_a_huge_folder_the_first_names_are_listed(bench: Bench) -> None:
    for number in range(5000):
        (bench.state / f"{number:04}").touch()
    folder = await bench.files.list_folder("alice", "")
    assert [entry.name for entry in folder.entries] == [f"{number:04}" for number in range(ENTRIES_LIMIT)]
    assert folder.more


async def test_a_folder_that_is_just_full_has_no_more(bench: Bench) -> None:
    for number in range(ENTRIES_LIMIT):
        (bench.state / f"{number}").touch()
    folder = await bench.files.list_folder("alice", "")
    assert (len(folder.entries), folder.more) == (ENTRIES_LIMIT, False)


async def test_of_a_large_file_the_beginning_is_shown_and_all_is_saved(bench: Bench) -> None:
    (bench.state / "large").write_bytes(b"x" * 2 * TEXT_LIMIT_BYTES)
    file = await bench.files.read_text("alice", "large")
    assert (len(file.text), file.cut, file.size_bytes, file.binary) == (
        TEXT_LIMIT_BYTES, True, 2 * TEXT_LIMIT_BYTES, False,
    )  # fmt: skip
    assert len(await bench.save("large")) == 2 * TEXT_LIMIT_BYTES
    (bench.state / "just").write_bytes(b"x" * TEXT_LIMIT_BYTES)
    file = await bench.files.read_text("alice", "just")
    assert (len(file.text), file.cut) == (TEXT_LIMIT_BYTES, False)


async def test_a_file_that_is_too_large_to_be_saved_is_refused_and_closed(bench: Bench) -> None:
    with (bench.state / "huge").open("wb") as file:
        file.truncate(DOWNLOAD_LIMIT_BYTES + 1)
    before = count_handles()
    with pytest.raises(TooLargeError, match="huge has 67,108,865 bytes"):
        await bench.files.open_file("alice", "huge")
    assert count_handles() == before
    assert (await bench.files.read_text("alice", "huge")).binary


NAMES = [
    b"new\nline",
    b"\x1b[2Jcleared",
    "exe.\u202egpj".encode(),
    b"\xff\xfe",
    b"\\xff",
    b" ",
    b"-rf",
    b"%2e",
    b"a?b#c",
]


async def test_any_name_is_shown_safely_and_can_be_asked_for(bench: Bench) -> None:
    for name in NAMES:
        (bench.state / os.fsdecode(name)).write_bytes(b"of " + name)
    entries = await bench.entries()
    assert len(entries) == len(NAMES)
    for spelling in entries:
        assert spelling.isprintable()
    assert sorted([await bench.save(spelling) for spelling in entries]) == sorted(b"of " + name for name in NAMES)
    assert await bench.text("new\\x0aline") == "of new\nline"


async def test_a_time_that_no_calendar_has_is_unknown(bench: Bench) -> None:
    (bench.state / "old").touch()
    (bench.state / "far").touch()
    os.utime(bench.state / "old", (-2_000_000_000, -2_000_000_000))
    os.utime(bench.state / "far", (2**33, 2**33))
    entries = await bench.entries()
    assert entries["old"].changed_at is None or entries["old"].changed_at.year < 1970
    assert all(entry.model_dump_json() for entry in entries.values())


@pytest.mark.parametrize(
    ("content", "cut", "text"),
    [
        (b"", False, ""),
        ("größe\n".encode(), False, "größe\n"),
        (b"\x1b[31mred\x1b[0m\r\n", False, "\x1b[31mred\x1b[0m\r\n"),
        (b"caf\xe9 and enough of other letters", False, "caf\ufffd and enough of other letters"),
        ("aü".encode()[:-1], True, "a"),
        ("aü".encode()[:-1], False, None),
        (b"a\0b", False, None),
        (bytes(range(1, 256)), False, None),
        ("text".encode("utf-16"), False, None),
        (b"\x01\x02\x03\x04", False, None),
    ],
)
def test_what_is_text_is_shown_and_nothing_else(content: bytes, cut: bool, text: str | None) -> None:
    assert decode_text(content, cut=cut) == text


@contextmanager
def meanwhile(act: Callable[[], None]) -> Generator[None]:
    """Another thread does `act` again and again, as fast as it can."""
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            act()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_a_growing_file_is_read_up_to_the_limit(bench: Bench) -> None:
    path = bench.state / "log"
    path.write_bytes(b"")

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"x" * 65536)
        if path.stat().st_size > 4 * TEXT_LIMIT_BYTES:
            os.truncate(path, 0)

    with meanwhile(grow):
        for _ in range(50):
            file = await asyncio.wait_for(bench.files.read_text("alice", "log"), DEADLINE_S)
            assert len(file.text) <= TEXT_LIMIT_BYTES
            assert file.size_bytes >= len(file.text)


async def test_a_folder_swapped_for_a_link_at_any_moment_never_shows_the_other(bench: Bench) -> None:
    """Also while it is listed, and while what stands at its place is explained."""
    place, own, link = bench.state / "place", bench.state / "own", bench.state / "link"
    own.mkdir()
    (own / "secret").write_text("own")
    link.symlink_to("..")

    def swap() -> None:
        own.rename(place)
        place.rename(own)
        link.rename(place)
        place.rename(link)

    seen: set[str] = set()
    before = count_handles()
    with meanwhile(swap):
        for tries in range(20_000):
            if tries >= 500 and "own" in seen:
                break
            for look in (look_text, look_names):
                try:
                    seen |= await asyncio.wait_for(look(bench), DEADLINE_S)
                except (NotFoundError, RefusedError, ConflictError):
                    seen.add("")
    assert seen == {"", "own", "secret"}
    assert count_handles() == before


async def look_text(bench: Bench) -> set[str]:
    return {await bench.text("place/secret")}


async def look_names(bench: Bench) -> set[str]:
    return set(await bench.entries("place"))


async def test_entries_that_vanish_while_they_are_listed_are_no_failure(bench: Bench) -> None:
    def churn() -> None:
        for number in range(50):
            (bench.state / f"{number}").touch()
        for number in range(50):
            (bench.state / f"{number}").unlink()

    with meanwhile(churn):
        for _ in range(100):
            assert len(await asyncio.wait_for(bench.entries(), DEADLINE_S)) <= 50


async def test_the_files_of_a_destroyed_agent_are_shown_until_it_is_purged(bench: Bench) -> None:
    (bench.state / "notes.md").write_text("kept")
    await bench.rig.destroy("alice")
    assert await bench.text("notes.md") == "kept"
