"""What a disk has kept after its power was cut, worked out of the log that `power_cut.c` has written.

What is safe: of a file, all that was written before a sync of it was asked for that was then done; of the folder's
names (made, removed, moved), what happened before such a sync of the folder. All later changes are on their way. Of
those, a cut keeps what a seed says (`Mercy`): nothing, all up to some point with the last write torn, or any of them in
any order. A sector of 512 bytes is written whole or not at all, and keeps any one of the states that it had on its way;
one that a write covers wholly may also come out as garbage. Sizes and names change in their order, as a journal of the
file system keeps it.

Kinder than some disks: a sector that was synced and is not written again stays as it is, and a write never harms its
neighbours (SQLite calls that "powersafe overwrite", and counts on it).
"""

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from pathlib import Path
from random import Random

SECTOR_BYTES = 512
GARBAGE_SHARE = 0.02
_HEADER = struct.Struct("<IIQQ")
_SOURCE = Path(__file__).with_name("power_cut.c")
_FOLDER = 0


def compile_disk(folder: Path) -> Path:
    """The library for LD_PRELOAD, made in `folder` by the system's C compiler."""
    library = folder / "power_cut.so"
    flags = ["-std=c11", "-O2", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run(["cc", *flags, "-o", library, _SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def watch_folder(folder: Path, log: Path, sync_limit_us: int, seed: int) -> None:
    """In a process that has the library: logs what happens in the folder from now on. A sync takes up to the limit."""
    power_watch = ctypes.CDLL(None).power_watch
    power_watch(bytes(folder), bytes(log), ctypes.c_uint(sync_limit_us), ctypes.c_uint(seed & 0xFFFFFFFF))


def cut_after(records: int) -> None:
    """In a process that has the library: has it killed once it has logged so many changes more."""
    ctypes.CDLL(None).power_cut_after(ctypes.c_uint64(records))


class Kind(IntEnum):
    """As in power_cut.c."""

    OPEN = 1
    WRITE = 2
    RESIZE = 3
    SYNC_ASKED = 4
    SYNC_DONE = 5
    UNLINK = 6
    RENAME = 7


@dataclass(frozen=True, slots=True)
class Record:
    kind: Kind
    file: int
    value: int
    data: bytes


def read_log(log: Path) -> Iterator[Record]:
    """All records but the last one if its writing was cut short."""
    content = log.read_bytes()
    offset = 0
    while offset + _HEADER.size <= len(content):
        kind, length, file, value = _HEADER.unpack_from(content, offset)
        offset += _HEADER.size
        if offset + length > len(content):
            return
        yield Record(Kind(kind), file, value, content[offset : offset + length])
        offset += length


class Mercy(Enum):
    """What a cut leaves of what was on its way."""

    NOTHING = "nothing"
    BEGINNING = "all up to some point, the last write torn"
    ANY = "any of it"


@dataclass(frozen=True, slots=True)
class Change:
    """A write, or with no data a change of size to `offset`. `number` is its place among all changes of the disk."""

    number: int
    offset: int
    data: bytes | None

    @property
    def size(self) -> int:
        """The least size of the file after it; of a change of size, the size."""
        return self.offset + len(self.data or b"")

    def make(self, content: bytearray) -> None:
        if self.data is None:
            _resize(content, self.offset)
            return
        if len(content) < self.offset:
            _resize(content, self.offset)
        content[self.offset : self.size] = self.data

    def list_sectors(self, size_bytes: int) -> range:
        """The sectors that it touches in a file of at most that size."""
        end = self.size if self.data is not None else max(size_bytes, self.size)
        return range(self.offset // SECTOR_BYTES, -(-end // SECTOR_BYTES))

    def covers(self, sector: int) -> bool:
        start = sector * SECTOR_BYTES
        return self.data is not None and self.offset <= start and start + SECTOR_BYTES <= self.size

    def tear(self, random: Random) -> "Change | None":
        """The write with just its first sectors, or none of it."""
        if self.data is None:
            return None
        kept_bytes = random.choice(self.list_sectors(0)) * SECTOR_BYTES - self.offset
        return replace(self, data=self.data[:kept_bytes]) if kept_bytes > 0 else None


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


@dataclass(slots=True)
class File:
    """`safe` is what no cut takes away; `coming` is on its way, in order."""

    safe: bytearray = field(default_factory=bytearray)
    coming: list[Change] = field(default_factory=list[Change])

    def sync(self, before: int) -> None:
        """Makes safe what was written before change number `before`."""
        count = sum(change.number < before for change in self.coming)
        for change in self.coming[:count]:
            change.make(self.safe)
        del self.coming[:count]

    def render(self) -> bytes:
        """What a program reads now."""
        content = bytearray(self.safe)
        for change in self.coming:
            change.make(content)
        return bytes(content)

    def keep_beginning(self, end: int, random: Random) -> bytes:
        """What is left when all before change number `end` was kept, and of that one the first sectors."""
        content = bytearray(self.safe)
        for change in self.coming:
            left = change if change.number < end else change.tear(random) if change.number == end else None
            if left is not None:
                left.make(content)
        return bytes(content)

    def keep_any(self, random: Random) -> bytes:
        """What is left when each sector kept whatever it liked of what was on its way."""
        if not self.coming:
            return bytes(self.safe)
        kept_sizes = random.randint(0, len(self.coming))
        size = len(self.safe)
        for change in self.coming[:kept_sizes]:
            size = change.offset if change.data is None else max(size, change.size)
        likely = random.choice((0.1, 0.5, 0.9))
        content = bytearray(self.safe)
        for sector, states in self._list_states(kept_sizes).items():
            if len(states) > 1 and random.random() < likely:
                _put_sector(content, sector, random.choice(states[1:]))
            else:
                _put_sector(content, sector, states[0])
            if random.random() < GARBAGE_SHARE and any(change.covers(sector) for change in self.coming):
                _put_sector(content, sector, random.randbytes(SECTOR_BYTES))
        _resize(content, size)
        return bytes(content)

    def _list_states(self, kept_sizes: int) -> dict[int, list[bytes]]:
        """By sector: what it may hold. First what it holds if nothing on its way reaches it.

        A change of size that is kept leaves of the sectors it touches only what comes then; of one that is not kept
        (nor any later one), nothing is seen of what was written after it into the sectors that it freed.
        """
        content = bytearray(self.safe)
        states: dict[int, list[bytes]] = {}
        frozen: set[int] = set()
        for place, change in enumerate(self.coming):
            sectors = change.list_sectors(len(content))
            for sector in sectors:
                states.setdefault(sector, [_get_sector(content, sector)])
            change.make(content)
            is_lost = change.data is None and place >= kept_sizes
            for sector in sectors:
                if is_lost:
                    frozen.add(sector)
                elif sector in frozen:
                    continue
                elif change.data is None:
                    states[sector] = [_get_sector(content, sector)]
                else:
                    states[sector].append(_get_sector(content, sector))
        return states


def _get_sector(content: bytearray, sector: int) -> bytes:
    return bytes(content[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES]).ljust(SECTOR_BYTES, b"\0")


def _put_sector(content: bytearray, sector: int, data: bytes) -> None:
    Change(0, sector * SECTOR_BYTES, data).make(content)


@dataclass(frozen=True, slots=True)
class Naming:
    """A change of the folder: which names are now of which files; None: of nothing."""

    number: int
    names: dict[str, File | None]

    def make(self, names: dict[str, File]) -> None:
        for name, file in self.names.items():
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file


class Disk:
    """One folder of files, from what is in it to the cut."""

    def __init__(self, folder: Path) -> None:
        """All that is in the folder now is safe."""
        self._count = 0
        self._safe_names = {path.name: File(bytearray(path.read_bytes())) for path in sorted(folder.iterdir())}
        self._names = dict(self._safe_names)
        self._coming_names: list[Naming] = []
        self._by_inode: dict[int, File] = {}
        self._asked: dict[int, tuple[int, int]] = {}
        self._newest: tuple[File, Change] | None = None

    def follow(self, records: Iterable[Record]) -> None:
        for record in records:
            self._count += 1
            self._newest = None
            match record.kind:
                case Kind.OPEN:
                    self._open(record)
                case Kind.WRITE | Kind.RESIZE:
                    self._change(record)
                case Kind.SYNC_ASKED:
                    self._asked[record.value] = (record.file, self._count)
                case Kind.SYNC_DONE:
                    self._sync(*self._asked.pop(record.value))
                case Kind.UNLINK:
                    self._name({record.data.decode(): None})
                case Kind.RENAME:
                    old, new = record.data.decode().split("\0")
                    self._name({new: self._names[old], old: None})

    def _open(self, record: Record) -> None:
        name = record.data.decode()
        if record.value:
            self._name({name: File()})
        self._by_inode[record.file] = self._names[name]

    def _change(self, record: Record) -> None:
        file = self._by_inode[record.file]
        change = Change(self._count, record.value, record.data if record.kind is Kind.WRITE else None)
        file.coming.append(change)
        self._newest = file, change

    def _name(self, names: dict[str, File | None]) -> None:
        self._coming_names.append(Naming(self._count, names))
        self._coming_names[-1].make(self._names)

    def _sync(self, inode: int, before: int) -> None:
        if inode != _FOLDER:
            self._by_inode[inode].sync(before)
            return
        while self._coming_names and self._coming_names[0].number < before:
            self._coming_names.pop(0).make(self._safe_names)

    def count_coming(self, name: str) -> int:
        """How many changes of the file are on their way."""
        return len(self._names[name].coming) if name in self._names else 0

    def count_coming_names(self) -> int:
        """How many changes of the folder are on their way."""
        return len(self._coming_names)

    def find_unlogged(self, folder: Path) -> list[str]:
        """The files that are not as the log says: something went past it. The last change may have been half done."""
        real = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
        # A name may have been logged that was not yet changed when the process was killed.
        newest = {name for naming in self._coming_names if naming.number == self._count for name in naming.names}
        names = {*real, *self._names} - newest
        return [name for name in sorted(names) if not self._is_as_logged(name, real.get(name))]

    def _is_as_logged(self, name: str, real: bytes | None) -> bool:
        file = self._names.get(name)
        if file is None or real is None:
            return False
        logged = file.render()
        if self._newest is None or self._newest[0] is not file:
            return logged == real
        newest = self._newest[1]
        if newest.data is None:
            start, end = newest.offset, max(len(logged), len(real))
        else:
            start, end = newest.offset, newest.size
        return logged[:start] == real[:start] and logged[end:] == real[end:]

    def cut(self, random: Random, mercy: Mercy) -> dict[str, bytes]:
        """What is on the disk after the cut, by name."""
        numbers = [change.number for file in self._list_files() for change in file.coming]
        end = random.choice([*sorted(numbers), self._count + 1])
        names = dict(self._safe_names)
        if mercy is Mercy.BEGINNING:
            kept = [naming for naming in self._coming_names if naming.number < end]
        elif mercy is Mercy.ANY:
            kept = self._coming_names[: random.randint(0, len(self._coming_names))]
        else:
            kept = []
        for naming in kept:
            naming.make(names)
        return {name: _keep(file, random, mercy, end) for name, file in sorted(names.items())}

    def _list_files(self) -> list[File]:
        """All that may have a name after a cut."""
        files = list(self._safe_names.values())
        files += [file for naming in self._coming_names for file in naming.names.values() if file is not None]
        return list({id(file): file for file in files}.values())


def _keep(file: File, random: Random, mercy: Mercy, end: int) -> bytes:
    match mercy:
        case Mercy.NOTHING:
            return bytes(file.safe)
        case Mercy.BEGINNING:
            return file.keep_beginning(end, random)
        case Mercy.ANY:
            return file.keep_any(random)


def save_survivors(survivors: dict[str, bytes], folder: Path) -> None:
    """Makes the folder anew with what survived."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in survivors.items():
        (folder / name).write_bytes(content)
