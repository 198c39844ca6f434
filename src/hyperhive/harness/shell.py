"""A shell on a terminal of its own: a PTY, a session that is led by the shell, and the end of all that is in it."""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping
from pathlib import Path

from hyperhive.core.errors import UnavailableError
from hyperhive.system.children import CHILDREN

TERM = "xterm-256color"
READ_LIMIT_BYTES = 64 * 1024
_DEFAULT_SHELL = "/bin/sh"
# The first terminal that the leader of a session opens is the one that controls it: that of $1.
_TAKE_TERMINAL = 'exec "$0" <>"$1" >&0 2>&0'
# For programs to save their work; all of a harness's end takes less than 5 s.
HANGUP_S = 1.0
_KILL_S = 1.5
_POLL_S = 0.01
# Of one read of a PTY more is not to be had.
_PTY_BYTES = 4096


class Shell:
    """Made by `start`. `terminal` is our end of the PTY, which does not block; it is open until `close`."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self._process = process
        self.terminal = terminal

    @classmethod
    async def start(cls, folder: Path, columns: int, rows: int, environment: Mapping[str, str]) -> "Shell":
        """The agent's shell, in `folder`. Raises UnavailableError."""
        try:
            ours, theirs = os.openpty()
        except OSError as error:
            raise UnavailableError(f"there is no terminal to be had: {error.strerror}") from error
        try:
            _set_size(ours, columns, rows)
            os.set_blocking(ours, False)
            with CHILDREN.starting(whole_session=True) as note:
                process = await asyncio.create_subprocess_exec(
                    _DEFAULT_SHELL, "-c", _TAKE_TERMINAL, _find_shell(environment), os.ttyname(theirs),
                    stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, start_new_session=True,
                    env={**environment, "TERM": TERM, "COLORTERM": "truecolor", "PWD": str(folder)},
                )  # fmt: skip
                note(process.pid)
        except OSError as error:
            os.close(ours)
            raise UnavailableError(f"the shell cannot be started: {error.strerror}") from error
        finally:
            os.close(theirs)
        return cls(process, ours)

    async def wait(self) -> int:
        """The shell's exit status; 128 and the signal on top if one ended it."""
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(OSError):
            _set_size(self.terminal, columns, rows)

    def read(self) -> bytes | None:
        """What was written, up to READ_LIMIT_BYTES of it; empty for nothing yet, None for nothing any more."""
        pieces: list[bytes] = []
        size = 0
        while size < READ_LIMIT_BYTES:
            try:
                piece = os.read(self.terminal, _PTY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                piece = b""
            if not piece:
                # Nobody has the other end open. What was read before counts first.
                return b"".join(pieces) or None
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def write(self, data: bytes) -> int:
        """How many bytes were taken."""
        try:
            return os.write(self.terminal, data)
        except BlockingIOError:
            return 0
        except OSError:
            # Nobody is there to read it.
            return len(data)

    def hang_up(self) -> None:
        """As when a terminal is switched off: the shell and its programs are told."""
        for pid in self._list_members():
            _send(pid, signal.SIGHUP)
            _send(pid, signal.SIGCONT)

    async def wait_hung_up(self, deadline_s: float = HANGUP_S) -> None:
        """Returns once the shell has ended, or not in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._process.wait()

    async def close(self) -> None:
        """Kills what is left of the session. Nothing of the shell is there afterwards."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_S):
                    while members := self._list_members():
                        for pid in members:
                            _send(pid, signal.SIGKILL)
                        await asyncio.sleep(_POLL_S)
                    await self._process.wait()
        finally:
            CHILDREN.ended(self._process.pid)
            os.close(self.terminal)

    def _list_members(self) -> list[int]:
        """The living processes of the session; nobody else can join it, and its number is not used again before."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdecimal() and _is_in_session(entry, self._process.pid)
        ]


def _find_shell(environment: Mapping[str, str]) -> str:
    shell = environment.get("SHELL", "")
    return shell if Path(shell).is_absolute() and os.access(shell, os.X_OK) else _DEFAULT_SHELL


def _set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _is_in_session(entry: Path, session: int) -> bool:
    try:
        # The name in parentheses may hold anything; see proc_pid_stat(5).
        fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return fields[0] not in {b"Z", b"X"} and int(fields[3]) == session


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
