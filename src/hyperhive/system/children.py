"""The children of this process: those that it started, and strays, which others left behind and it adopted.

After `adopt_orphans` a descendant whose parent ends becomes a child of this process, whatever sessions and groups it
made. No process can join a session. So what has another session than ours is a stray, unless it was started here in a
session of its own: that is what `starting` notes. What a person started in a terminal is theirs as long as its shell
is there, also when it lost its parent: such a session is `starting(whole_session=True)`.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

from hyperhive.system.pids import list_children

log = logging.getLogger("hive.children")

# include/uapi/linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
# A harness that is told to stop has 5 s for everything.
END_DEADLINE_S = 1.5
_POLL_S = 0.002
_POLL_LIMIT_S = 0.1


class Children:
    """The kernel keeps one list of children for a process: so there is one of these, CHILDREN."""

    def __init__(self) -> None:
        self._leaders: set[int] = set()
        self._sessions: set[int] = set()
        self._starts = 0
        self._adopts = False
        self._ending = asyncio.Lock()

    @contextlib.contextmanager
    def starting(self, *, whole_session: bool = False) -> Generator[Callable[[int], None]]:
        """To be held while a process is started that leads a session of its own: what it gives takes the pid.

        With `whole_session` nothing of that session is a stray until the process has ended.
        """

        def note(pid: int) -> None:
            self._leaders.add(pid)
            if whole_session:
                self._sessions.add(pid)

        self._starts += 1
        try:
            yield note
        finally:
            self._starts -= 1

    def ended(self, pid: int) -> None:
        """A process that was noted has ended, and its status was taken."""
        self._leaders.discard(pid)
        self._sessions.discard(pid)

    def adopt_orphans(self) -> None:
        """Adopts from now on, and takes the status of the strays that end. Must be called on the event loop.

        Where the kernel refuses, what is left behind stays with the first process of the container.
        """
        if self._adopts:
            return
        self._adopts = True
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            log.warning("orphans cannot be adopted: %s", os.strerror(ctypes.get_errno()))
        # asyncio waits for each process that it started by itself, not for this signal.
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    async def end_strays(self, are_wanted: Callable[[], bool], deadline_s: float = END_DEADLINE_S) -> None:
        """Kills the strays and what they leave behind, until nothing is left or `are_wanted` says that it may stay."""
        if not self._adopts:
            return
        async with self._ending:
            poll_s, end_s = _POLL_S, asyncio.get_running_loop().time() + deadline_s
            while not are_wanted() and (strays := self._list_strays()):
                for pid in _list_descendants(strays):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                if asyncio.get_running_loop().time() > end_s:
                    log.warning("processes that were left behind cannot be ended: %s", strays)
                    return
                await asyncio.sleep(poll_s)
                poll_s = min(poll_s * 2, _POLL_LIMIT_S)
                self._reap()

    def _reap(self) -> None:
        for pid in self._list_orphans():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)

    def _list_strays(self) -> list[int]:
        return [pid for pid in self._list_orphans() if _find_session(pid) not in self._sessions]

    def _list_orphans(self) -> list[int]:
        """Strays, and what lost its parent in a session that is kept whole."""
        if self._starts:
            # One of the children may be it, not noted yet.
            return []
        ours = os.getsid(0)
        return [pid for pid in _list_own() if pid not in self._leaders and _find_session(pid) not in {ours, None}]


CHILDREN = Children()


def _list_own() -> list[int]:
    """All children, whichever thread they belong to."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def _list_descendants(pids: list[int]) -> list[int]:
    found = list(pids)
    for pid in found:
        found += [child for child in list_children(pid) if child not in found]
    return found


def _find_session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
