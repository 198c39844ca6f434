"""The door for processes: status and output come back, deadlines are kept, nobody fills our memory or our handles."""

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from hyperhive.system.process import DETACHED_OOM_SCORE, OUTPUT_LIMIT_BYTES, ProcessError, run, start_detached

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def count_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_status_and_output_come_back() -> None:
    done = await run(["sh", "-c", "cat; echo err >&2; exit 3"], timeout_s=10, stdin=b"in")
    assert (done.status, done.stdout, done.stderr, done.ok) == (3, b"in", b"err\n", False)
    assert (await run(["sh", "-c", "kill -KILL $$"], timeout_s=10)).status == -9
    assert (await run(["true"], timeout_s=10)).ok


async def test_environment_and_folder_are_the_given_ones(tmp_path: Path) -> None:
    done = await run(["sh", "-c", "pwd; echo $HOME-$WORD"], timeout_s=10, env={"WORD": "x"}, cwd=tmp_path)
    assert done.stdout.decode() == f"{tmp_path}\n-x\n"


async def test_only_the_handles_that_are_passed_are_inherited() -> None:
    first, second = os.pipe()
    os.set_inheritable(first, True)
    try:
        done = await run(["sh", "-c", "ls /proc/$$/fd"], timeout_s=10, pass_fds=(second,))
        assert {int(handle) for handle in done.stdout.split()} == {0, 1, 2, second}
    finally:
        os.close(first)
        os.close(second)


async def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(ProcessError, match="no-such-program cannot be started"):
        await run(["no-such-program"], timeout_s=10)


async def test_the_end_of_an_error_is_one_line() -> None:
    done = await run(["sh", "-c", "seq 10 >&2; false"], timeout_s=10)
    assert done.error_text == "8 / 9 / 10"


async def test_a_program_that_reads_nothing_and_one_that_reads_all_both_end() -> None:
    content = os.urandom(3_000_000)
    assert (await run(["true"], timeout_s=10, stdin=content)).ok
    assert (await run(["cat"], timeout_s=10, stdin=content)).stdout == content


async def test_what_is_said_beyond_the_limit_is_dropped_and_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = await run(["head", "-c", "200000000", "/dev/zero"], timeout_s=30)
    assert (done.ok, len(done.stdout)) == (True, OUTPUT_LIMIT_BYTES)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


async def test_at_the_deadline_the_program_and_its_children_are_killed() -> None:
    seconds = f"{os.getpid()}.5"
    with pytest.raises(ProcessError, match=r"did not end within 0\.2 s"):
        await run(["sh", "-c", f"sleep {seconds} | sleep {seconds}"], timeout_s=0.2)
    wait_until(lambda: not find(seconds))


async def test_what_got_away_in_the_background_costs_nothing_after_the_deadline() -> None:
    before = count_handles()
    seconds = f"{os.getpid()}.25"
    for _ in range(3):
        with pytest.raises(ProcessError, match=r"did not end"):
            await run(["sh", "-c", f"setsid sleep {seconds} &"], timeout_s=0.2)
    left = find(seconds)
    for pid in left:
        os.kill(pid, 9)
    assert (len(left), count_handles()) == (3, before)


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_run_can_be_cancelled_at_any_step_of_its_start(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    seconds = f"{os.getpid()}.75"

    async def cancel_after(steps: int) -> None:
        running = asyncio.create_task(run(["sleep", seconds], timeout_s=60))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await running
        assert not find(seconds)

    async def cancel_all() -> None:
        for steps in range(12):
            await cancel_after(steps)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(cancel_all())


def find(argument: str) -> list[int]:
    done = subprocess.run(["pgrep", "-f", f"sleep {argument}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in done.stdout.split()]


async def test_a_detached_program_is_nobodys_child_and_outlives_this_loop(tmp_path: Path) -> None:
    handle = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)
    given, kept = os.pipe()
    script = f"echo $$ >&{kept}; echo $WORD; pwd; sleep 1000"
    try:
        # bash, as sh may know only handles of one digit.
        await start_detached(["bash", "-c", script], output=handle, pass_fds=(kept,), env={**ENVIRONMENT, "WORD": "x"})
        pid = int(os.read(given, 100))
        wait_until(lambda: (tmp_path / "output").read_text() == "x\n/\n")
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"PPid:\t{os.getpid()}\n" not in status
        assert os.getsid(pid) != os.getsid(0)
        os.kill(pid, 9)
    finally:
        for opened in (handle, given, kept):
            os.close(opened)


async def test_a_detached_program_goes_before_this_one_when_memory_runs_out(tmp_path: Path) -> None:
    score = Path("/proc/self/oom_score_adj")
    with (tmp_path / "output").open("wb") as output:
        await start_detached(["cat", str(score)], output=output.fileno(), pass_fds=(), env=ENVIRONMENT)
    wait_until(lambda: (tmp_path / "output").read_text().endswith("\n"))
    assert int((tmp_path / "output").read_text()) == max(DETACHED_OOM_SCORE, int(score.read_text()))


async def test_a_detached_program_that_is_not_there_is_said_in_its_output(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        await start_detached(["no-such-program"], output=output.fileno(), pass_fds=(), env=ENVIRONMENT)
    wait_until(lambda: "no-such-program" in (tmp_path / "output").read_text())
