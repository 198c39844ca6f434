"""What the kernel counts of processes: CPU, bytes written, memory."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.names import container_name

_START_TIMEOUT_S = 20.0
_LOG_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Spent:
    """What one process has used up so far."""

    cpu_s: float
    written_bytes: int

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(self.cpu_s - before.cpu_s, self.written_bytes - before.written_bytes)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.cpu_s + other.cpu_s, self.written_bytes + other.written_bytes)


@dataclass(frozen=True, slots=True)
class Memory:
    """`pss_mb` shares pages among those who map them, `own_mb` is what would be free without the process."""

    pss_mb: float
    own_mb: float

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.pss_mb + other.pss_mb, self.own_mb + other.own_mb)

    def __str__(self) -> str:
        return f"{self.pss_mb:.1f} MB (own {self.own_mb:.1f})"


def observe_spent(pid: int) -> Spent:
    """CPU in the scheduler's nanoseconds, of all threads, and bytes that went to a disk."""
    cpu_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            cpu_ns += int((task / "schedstat").read_text().split()[0])
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return Spent(cpu_ns / 1e9, int(counters["write_bytes"]))


def observe_all_spent(pids: Iterable[int]) -> Spent:
    """The same of some processes together. What one of them used that ends meanwhile is not counted."""
    total = Spent(0, 0)
    for pid in pids:
        with contextlib.suppress(OSError):
            total += observe_spent(pid)
    return total


def observe_memory(pids: Iterable[int]) -> Memory:
    """The memory of some processes together, without those that end meanwhile. Raises ProcessLookupError if all do."""
    total = Memory(0, 0)
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes_kb = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        own_kb = sizes_kb["Private_Clean"] + sizes_kb["Private_Dirty"]
        total += Memory(sizes_kb["Pss"] / 1024, own_kb / 1024)
    if not total.pss_mb:
        raise ProcessLookupError("none of the processes is left")
    return total


def list_descendants(pid: int) -> list[int]:
    """`pid` and all below it."""
    found = [pid]
    for parent in found:
        for task in _list_tasks(parent):
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def list_container(run: Path, agent: str) -> list[int]:
    """The processes of an agent's container, with the sandbox around it; empty if it does not run."""
    try:
        record = json.loads((run / "containers" / container_name(agent) / "container.json").read_text())
        top = int(record["init"]["pid"])
        while _read_program(parent := _read_parent(top)) in {"bwrap", "setpriv", "setsid"}:
            top = parent
    except (FileNotFoundError, ProcessLookupError, TypeError):
        return []
    return list_descendants(top)


def find_commands(pids: Iterable[int], needle: str) -> list[int]:
    """Those of `pids` whose command line has `needle` in it."""
    found: list[int] = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if needle.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def start_program(
    argv: list[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> "subprocess.Popen[str]":
    """A child with pipes for its input and output. Its errors go where ours go."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ if environment is None else environment,
        cwd=folder,
    )


def start_server(argv: list[str], log: Path, is_ready: Callable[[], bool]) -> "subprocess.Popen[str]":
    """A child that writes to `log`, once `is_ready`. Raises RuntimeError with the end of the log if it never is."""
    with log.open("a") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise RuntimeError(f"{argv[0]} does not start: {log.read_text()[-_LOG_CHARS:]}")
        time.sleep(0.01)
    return process


def end_program(process: "subprocess.Popen[str]") -> None:
    """Asks a child to end, and insists after ten seconds."""
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _list_tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _read_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _read_program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip() if pid else ""
