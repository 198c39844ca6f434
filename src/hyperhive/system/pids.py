"""Processes that are not our children: told apart from a later one of the same number, signalled and waited for."""

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A pid and when its process started, in the kernel's ticks since boot: together they name one process."""

    pid: int
    started_ticks: int


def find_process(pid: int) -> ProcessId | None:
    """The process that has `pid` now, None if there is none or it is dead already."""
    fields = _read_fields(pid)
    return None if fields is None or fields[0] in "ZX" else ProcessId(pid, int(fields[19]))


def is_alive(process: ProcessId) -> bool:
    return find_process(process.pid) == process


def find_parent(pid: int) -> ProcessId | None:
    fields = _read_fields(pid)
    return None if fields is None else find_process(int(fields[1]))


def find_program_name(pid: int) -> str | None:
    """The first 15 characters of what a process calls itself: its program's file name, until it says otherwise."""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return None


def load_boot_id() -> str:
    """Which start of the machine this is: a ProcessId means something only within one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def list_children(pid: int) -> list[int]:
    """The children of a process, the oldest first; empty if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def send_signal(process: ProcessId, number: signal.Signals) -> None:
    """Signals exactly that process; one that is gone is no error. Raises PermissionError."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(process):
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


async def wait_gone(process: ProcessId, timeout_s: float) -> bool:
    """Waits until that process is dead; False if it lives on after `timeout_s`."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        if not is_alive(process):
            return True
        async with asyncio.timeout(timeout_s):
            await gone.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return True


def _read_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on, see proc_pid_stat(5)."""
    try:
        # The name in parentheses may hold anything; what follows its last ')' are plain fields.
        return Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
