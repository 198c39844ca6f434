"""One claude, as the engine sees it before anything is said to it: a process that takes and gives lines. Light."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Self

from hyperhive.core.errors import TooLargeError, UnavailableError
from hyperhive.harness.claude_command import plan_argv, plan_environment
from hyperhive.harness.engine_wire import OpenParams

# One event of claude, such as a tool result with pictures. What the harness is told of it is an excerpt.
EVENT_LIMIT_BYTES = 64 * 1024 * 1024
_READ_BYTES = 64 * 1024
# For each step of its end. The harness insists sooner, by ending the engine's whole group.
_END_DEADLINE_S = 5.0


class ClaudeProcess:
    """Made by `start`. It waits for the handshake, and does nothing before that."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    @classmethod
    async def start(cls, params: OpenParams) -> Self:
        """A new process; its errors go where the engine's go. Raises UnavailableError."""
        argv = plan_argv(params)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=params["working_folder"],
                env=plan_environment(os.environ, params["working_folder"]),
            )
        except OSError as error:
            raise UnavailableError(f"claude cannot be started: {error}") from error
        return cls(process)

    @property
    def exit_status(self) -> int | None:
        """None while it runs; minus the signal if one ended it."""
        return self._process.returncode

    async def write(self, text: str) -> None:
        """Returns when it is on its way. Raises OSError if claude reads no more."""
        self._stdin.write(text.encode())
        await self._stdin.drain()

    async def read_lines(self) -> AsyncIterator[bytes]:
        """Each whole line until the end of its output: one without an end was cut off. Raises TooLargeError."""
        begun: list[bytes] = []
        begun_bytes = 0
        while chunk := await self._stdout.read(_READ_BYTES):
            end, *lines = chunk.split(b"\n")
            begun.append(end)
            begun_bytes += len(end)
            if begun_bytes > EVENT_LIMIT_BYTES:
                raise TooLargeError(f"claude wrote a line of over {EVENT_LIMIT_BYTES} bytes")
            for line in lines:
                yield b"".join(begun)
                begun, begun_bytes = [line], len(line)

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        return await self._process.wait()

    def end_input(self) -> None:
        self._stdin.close()

    async def close(self) -> None:
        """Ends it: end of input, so that it finishes what it writes, then TERM, then KILL. Nobody may read any more."""
        # It would not end while what it writes goes nowhere.
        draining = asyncio.create_task(self._drain())
        self.end_input()
        for insist in (self._process.terminate, self._process.kill):
            if await self._ends():
                break
            with contextlib.suppress(ProcessLookupError):
                insist()
        await self._ends()
        # Also if somebody else has its output still open.
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)

    async def _drain(self) -> None:
        while await self._stdout.read(_READ_BYTES):
            pass

    async def _ends(self) -> bool:
        try:
            await asyncio.wait_for(self._process.wait(), _END_DEADLINE_S)
        except TimeoutError:
            return False
        return True
