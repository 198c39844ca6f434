"""Processes that are not our children: told apart from a later one of the same number, signalled, waited for."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hyperhive.system.pids import (
    ProcessId,
    find_parent,
    find_process,
    find_program_name,
    is_alive,
    list_children,
    load_boot_id,
    send_signal,
    wait_gone,
)

Sleeper = subprocess.Popen[bytes]
# Above what any kernel gives.
NOBODYS_PID = 2**22 + 1


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def count_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def get_process(pid: int) -> ProcessId:
    process = find_process(pid)
    assert process is not None
    return process


def test_a_process_is_found_and_told_apart_from_another_of_its_number(sleeper: Sleeper) -> None:
    process = get_process(sleeper.pid)
    assert process == get_process(sleeper.pid)
    assert is_alive(process)
    assert not is_alive(replace(process, started_ticks=process.started_ticks - 1))


def test_a_dead_process_is_not_found_even_before_it_is_waited_for(sleeper: Sleeper) -> None:
    process = get_process(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert Path(f"/proc/{sleeper.pid}").exists()
    assert find_process(sleeper.pid) is None
    assert not is_alive(process)
    sleeper.wait()
    assert find_process(sleeper.pid) is None
    assert find_process(NOBODYS_PID) is None


@pytest.mark.parametrize("name", [") Z 1 (", "a b\n) S 7", "\xff\xfe", "()"])
def test_a_process_may_call_itself_what_it_likes(name: str) -> None:
    encoded = name.encode("latin-1")
    code = f"import ctypes, sys; ctypes.CDLL(None).prctl(15, {encoded!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_alive(get_process(process.pid))
        assert find_parent(process.pid) == get_process(os.getpid())
        assert find_program_name(process.pid) == encoded.decode("utf-8", "replace").rstrip("\n")
        process.communicate()


def test_children_are_listed_the_oldest_first() -> None:
    script = "sleep 1000 & echo $!; sleep 1000 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as shell:
        assert shell.stdout is not None
        children = [int(shell.stdout.readline()) for _ in range(2)]
        assert list_children(shell.pid) == children
        assert find_parent(children[0]) == get_process(shell.pid)
        os.killpg(shell.pid, signal.SIGKILL)
    assert list_children(shell.pid) == []
    assert list_children(NOBODYS_PID) == []
    assert find_parent(NOBODYS_PID) is None
    assert find_program_name(NOBODYS_PID) is None


def test_only_the_process_that_is_meant_is_signalled(sleeper: Sleeper) -> None:
    process = get_process(sleeper.pid)
    send_signal(replace(process, started_ticks=process.started_ticks + 1), signal.SIGKILL)
    assert is_alive(process)
    send_signal(process, signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM
    send_signal(process, signal.SIGKILL)
    send_signal(ProcessId(NOBODYS_PID, 1), signal.SIGKILL)


async def test_waiting_ends_with_the_process(sleeper: Sleeper) -> None:
    process = get_process(sleeper.pid)
    waiting = asyncio.create_task(wait_gone(process, 30))
    # It must be under way, not only planned.
    await asyncio.sleep(0)
    assert not waiting.done()
    started = time.monotonic()
    sleeper.kill()
    assert await waiting
    assert time.monotonic() - started < 5


async def test_waiting_for_what_is_gone_or_another_ends_at_once(sleeper: Sleeper) -> None:
    process = get_process(sleeper.pid)
    assert await wait_gone(replace(process, started_ticks=1), 30)
    assert await wait_gone(ProcessId(NOBODYS_PID, 1), 30)
    sleeper.kill()
    await asyncio.to_thread(os.waitid, os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert await wait_gone(process, 30)


async def test_waiting_has_a_deadline_and_leaks_no_handle(sleeper: Sleeper) -> None:
    process = get_process(sleeper.pid)
    before = count_handles()
    for _ in range(5):
        assert not await wait_gone(process, 0.01)
    assert count_handles() == before
    assert is_alive(process)


def test_the_boot_id_is_the_same_for_everybody() -> None:
    found = subprocess.run(["cat", "/proc/sys/kernel/random/boot_id"], capture_output=True, text=True, check=True)
    assert load_boot_id() == found.stdout.strip()
