"""The one door for running processes: argv lists, a deadline each, the exit status always looked at."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUT_LIMIT_BYTES = 4 * 1024 * 1024


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

    Raises ProcessError if it cannot be started or is not done within `timeout_s`; it and its children (they share
    a process group of their own) are then killed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise ProcessError(f"{argv[0]} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout_s):
            stdout, stderr = await process.communicate(stdin)
    except TimeoutError as error:
        raise ProcessError(f"{argv[0]} did not end within {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Completed(tuple(argv), process.returncode or 0, stdout[:OUTPUT_LIMIT_BYTES], stderr[:OUTPUT_LIMIT_BYTES])


async def start_detached(
    argv: Sequence[str], *, output: int, pass_fds: Sequence[int], env: Mapping[str, str], timeout_s: float = 10.0
) -> None:
    """Starts a program that outlives this one: in a session of its own and nobody's child.

    It inherits `pass_fds` under the same numbers; standard output and error go to the handle `output`. That
    it could be executed is not known here. Raises ProcessError if not even `setsid` can be.

    It is not a child, as asyncio kills those that are left when its loop ends. What it becomes the child of is a
    second `setsid` that only waits, so that a program that is to die with its parent has one that stays.
    """
    keeper = ("setsid", "--fork", "--", "setsid", "--fork", "--wait", "--")
    try:
        process = await asyncio.create_subprocess_exec(
            *keeper,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
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
