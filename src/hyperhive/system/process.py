"""The one door for running processes: argv lists, a deadline each, the exit status always looked at."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hyperhive.system.children import CHILDREN

OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024
# When the machine is out of memory, what outlives this program goes before it (proc_pid_oom_score_adj(5)).
DETACHED_OOM_SCORE = 300


class ProcessError(Exception):
    """The program could not be started, or did not end within its deadline."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that ended by itself. A non-zero `status` is a result, not an exception."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def error_text(self) -> str:
        """What to show of a failure: the end of standard error, on one line."""
        text = self.stderr.decode("utf-8", "replace").strip()
        return " / ".join(text.splitlines()[-3:])[-500:]


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Runs `argv` to its end and returns status and output (each cut at `OUTPUT_LIMIT_BYTES`).

    It is at its end when nobody can say more: what it left in the background must have ended or closed its output.
    Raises ProcessError if it cannot be started or is not done within `timeout_s`; it is then killed with its
    children (they share a process group of its own), unless it has ended itself.
    """
    loop = asyncio.get_running_loop()
    try:
        with CHILDREN.starting() as note:
            transport, output = await loop.subprocess_exec(
                _Output, *argv, env=env, cwd=cwd, pass_fds=pass_fds, start_new_session=True
            )
            note(transport.get_pid())
    except OSError as error:
        raise ProcessError(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        # Another event loop's is no subclass of it.
        feed = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        # uvloop's is closed already if the program has ended, and says so.
        if not feed.is_closing():
            feed.write(stdin)
            feed.write_eof()
        async with asyncio.timeout(timeout_s):
            await output.complete.wait()
    except TimeoutError as error:
        raise ProcessError(f"{argv[0]} did not end within {timeout_s:g} s") from error
    finally:
        if not output.ended.is_set():
            # Not later: once it is gone, its number may be that of another group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await output.ended.wait()
        CHILDREN.ended(transport.get_pid())
        # The pipes may be held by processes that it left in the background: nobody listens to them any more.
        transport.close()
        await output.complete.wait()
    status = transport.get_returncode() or 0
    return Completed(tuple(argv), status, bytes(output.pieces[1]), bytes(output.pieces[2]))


class _Output(asyncio.SubprocessProtocol):
    """Keeps the beginning of what a program says; the rest is read, too, so that it need not wait, and dropped.

    `ended` is set when the program has ended, `complete` when nothing more can come from its children either.
    """

    def __init__(self) -> None:
        self.pieces = {1: bytearray(), 2: bytearray()}
        self.ended = asyncio.Event()
        self.complete = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        kept = self.pieces[fd]
        kept += data[: OUTPUT_LIMIT_BYTES - len(kept)]

    def process_exited(self) -> None:
        self.ended.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.complete.set()


async def start_detached(
    argv: Sequence[str],
    *,
    output: int,
    errors: int | None = None,
    pass_fds: Sequence[int],
    env: Mapping[str, str],
    timeout_s: float = 10.0,
) -> None:
    """Starts a program that outlives this one: in a session of its own and nobody's child.

    It inherits `pass_fds` under the same numbers; standard output goes to the handle `output`, and so does standard
    error if it has no handle `errors` of its own. That it could be executed is not known here. Raises ProcessError if
    not even `setsid` can be.

    It is not a child, as asyncio kills those that are left when its loop ends. What it becomes the child of is a
    second `setsid` that only waits, so that a program that is to die with its parent has one that stays.
    """
    keeper = ("setsid", "--fork", "--", *_plan_oom_score(), "setsid", "--fork", "--wait", "--")
    try:
        process = await asyncio.create_subprocess_exec(
            *keeper,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output if errors is None else errors,
            pass_fds=pass_fds,
            env=env,
            cwd="/",
        )
    except OSError as error:
        raise ProcessError(f"setsid cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            status = await process.wait()
    except TimeoutError as error:
        process.kill()
        raise ProcessError(f"setsid did not end within {timeout_s:g} s") from error
    if status != 0:
        raise ProcessError(f"setsid failed with status {status}")


def _plan_oom_score() -> tuple[str, ...]:
    """What gives a program a score of its own; nothing if it has a higher one already, which only root may lower."""
    own = int(Path("/proc/self/oom_score_adj").read_text())
    if own >= DETACHED_OOM_SCORE:
        return ()
    return ("choom", "-n", str(DETACHED_OOM_SCORE), "--")
