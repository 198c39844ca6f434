"""The rehearsal's model: the Messages API stand-in as a child process, on a free port of the loopback."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator

from hyperhive.core.errors import UnavailableError

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
_READY = b"listening: "


@contextlib.asynccontextmanager
async def run_stand_in() -> AsyncGenerator[str]:
    """Runs the stand-in for as long as the context lasts and gives its base URL. It ends with this process."""
    command = ("-I", "-m", "hyperhive.testing.messages_api", "--port", "0", "--rules", "rehearsal", "--until-eof")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        # It reads its standard input: the end of ours, even by KILL, is the end of it.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await process.stdout.readline()
        if not line.startswith(_READY):
            raise UnavailableError("the rehearsal's stand-in does not start", "see the lines above")
        yield line[len(_READY) :].decode().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
