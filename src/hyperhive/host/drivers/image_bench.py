"""Where images are built: each program alone in a room (see `image_room`), all of them in one control group.

What package scripts start ends with their room, and again with the group; both bound what it may cost the host.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.limits import Limits
from hyperhive.host.drivers import image_room
from hyperhive.host.drivers.container_groups import ContainerGroups
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.cgroups import Group
from hyperhive.system.process import Completed, ProcessError, run

# Programs that build images get nothing of the daemon's environment: it may hold a key.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
LIMITS = Limits(memory_bytes=4 * 1024**3, tasks=2048)
_GROUP = "image"
# What systemd answers for as long as it has not noticed that the program before has ended, and with it its scope.
_SCOPE_IS_THERE = b"Failed to start transient scope unit: Unit "
_NOTICED_WITHIN_S = 20.0
# The child of setpriv is killed with the daemon; and with that child, which is its first process, the pid namespace.
_ALONE = (
    "setpriv",
    "--pdeathsig=KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
    "--",
)


@dataclass(frozen=True, slots=True)
class Bench:
    """`lock` is an open file that every program holds open, too: who waits for the lock on it waits for all of them."""

    lock: int
    group: Group

    async def run(self, room: Sequence[str], command: Sequence[str], *, timeout_s: float) -> Completed:
        """Runs `command` in a room, `room` being its mode and places; nothing that it started is left afterwards.

        Raises DriverError if the room cannot be made or the deadline passed.
        """
        program = [*_ALONE, sys.executable, "-I", "-S", image_room.__file__, *room, "--", *command]
        try:
            done = await self._run_in_group(program, timeout_s)
        except ProcessError as error:
            hint = "is the network slow? try it again"
            raise DriverError(f"an image cannot be built: {command[0]}: {error}", hint) from error
        if done.status == image_room.CANNOT_MAKE and image_room.COMPLAINT.encode() in done.stderr:
            hint = "images need Linux 5.19 or later, and a disk with id-mapped mounts, such as ext4, xfs or btrfs"
            raise DriverError(f"an image cannot be built: {done.error_text}", hint)
        return done

    async def _run_in_group(self, program: Sequence[str], timeout_s: float) -> Completed:
        """Raises ProcessError."""
        deadline = time.monotonic() + _NOTICED_WITHIN_S
        while True:
            argv = self.group.wrap(program)
            done = await run(argv, timeout_s=timeout_s, env=ENVIRONMENT, cwd=Path("/"), pass_fds=(self.lock,))
            if not done.stderr.startswith(_SCOPE_IS_THERE) or time.monotonic() > deadline:
                return done
            await asyncio.sleep(0.1)


class Benches:
    """Benches with control groups of their own. `folder` is the builders'."""

    def __init__(self, folder: Path) -> None:
        self._groups = ContainerGroups(folder, as_root=True)

    async def open(self, lock: int) -> Bench:
        """One at a time: what an earlier one left at work is ended first. Raises DriverError."""
        return Bench(lock, await self._groups.make(_GROUP, LIMITS))

    async def close(self) -> None:
        """Raises DriverError if something cannot be ended."""
        await self._groups.remove(_GROUP)
