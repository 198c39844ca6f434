"""A driver under test, with folders for containers to mount: what the checks of drivers are written with.

Nothing but the standard library and the program itself: unprivileged, it runs with the system's Python.
"""

import asyncio
import importlib
import json
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperhive.core.uids import FIRST_RANGED_UID, RANGE_WIDTH
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.gvisor import GvisorDriver
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.host.drivers.nspawn_trials import Trials
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Driver, Mount, Observation

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/home/agent", "LANG": "C.UTF-8"}
# Some way behind those of a hive on this machine.
FIRST_UID = FIRST_RANGED_UID + 1000 * RANGE_WIDTH
NAMES = ("alice", "bob")
DEADLINE_S = 15.0
# What may come on top of a deadline, on a machine under load.
MOMENT_S = 5.0

Wrap = Callable[[Driver], Driver]


@dataclass
class Rig:
    """`driver` is the one under test; `another` is what a restarted daemon would have.

    With `has_image` its containers have a system of their own, else the host's /usr. With `has_own_kernel` what runs
    inside is no process of this machine.
    """

    folder: Path
    driver: Driver
    another: Driver
    uids: Mapping[str, int | None]
    has_image: bool = False
    has_own_kernel: bool = False
    sockets: list[Any] = field(default_factory=list[Any])

    def state(self, name: str = "alice") -> Path:
        """What the container sees as /state."""
        return self._owned(name, "state")

    def hive(self, name: str = "alice") -> Path:
        """What the container sees as /run/hive, read-only."""
        return self._owned(name, "hive")

    def uid_outside(self, name: str = "alice") -> int:
        uid = self.uids[name]
        return os.geteuid() if uid is None else uid

    def spec(self, *command: str, name: str = "alice", environment: Mapping[str, str] = ENVIRONMENT) -> ContainerSpec:
        mounts = (
            Mount(self.state(name), Path("/state"), writable=True),
            Mount(self._owned(name, "claude"), Path("/home/agent/.claude"), writable=True),
            Mount(self.hive(name), Path("/run/hive")),
        )
        return ContainerSpec(name, command, environment, mounts, self.uids[name])

    async def run(self, script: str, name: str = "alice") -> ContainerSpec:
        """Makes and starts a container whose command is `script` for sh."""
        spec = self.spec("sh", "-c", script, name=name)
        await self.driver.create(spec)
        await self.driver.start(spec)
        return spec

    async def run_to_end(self, script: str, name: str = "alice") -> str:
        """Runs `script` and returns all that the container said."""
        await self.run(script, name)
        await self.wait_state(ContainerState.EXITED, name)
        return await self.log(name)

    async def log(self, name: str = "alice") -> str:
        text, _ = await self.driver.logs(name, 0, 1024 * 1024)
        return text.decode()

    async def ask(self, *command: str, name: str = "alice") -> str:
        """Standard output of a command run inside, which has to succeed."""
        done = await self.driver.exec(name, command, DEADLINE_S)
        assert done.ok, done
        return done.stdout.decode()

    async def wait_state(self, state: ContainerState, name: str = "alice") -> Observation:
        async def seen() -> bool:
            return (await self.driver.observe(name)).state is state

        await wait_until(seen, f"{name} is {state}")
        return await self.driver.observe(name)

    async def wait_file(self, name: str, agent: str = "alice") -> str:
        """The content of a file that the container is to write to /state, once it is complete (ends a line)."""
        path = self.state(agent) / name

        async def written() -> bool:
            return path.exists() and path.read_text().endswith("\n")

        await wait_until(written, f"{name} is written")
        return path.read_text()

    async def wait_json(self, name: str, agent: str = "alice") -> Any:
        return json.loads(await self.wait_file(name, agent))

    def _owned(self, name: str, what: str) -> Path:
        folder = self.folder / "agents" / name / what
        if not folder.exists():
            folder.mkdir(parents=True)
            uid = self.uids[name]
            if uid is not None:
                os.chown(folder, uid, uid)
        return folder


async def wait_until(is_so: Callable[[], Awaitable[bool]], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Polls until `is_so`; an AssertionError that says `what` if that does not come."""
    end = time.monotonic() + deadline_s
    while not await is_so():
        assert time.monotonic() < end, f"after {deadline_s:g} s it is still not so that {what}"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def open_rig(folder: Path, wrap: Wrap = lambda driver: driver, kind: str = "bubblewrap") -> AsyncGenerator[Rig]:
    """A rig of the driver `kind` below `folder`, as root or not; all of its containers end with it."""
    folder.chmod(0o755)
    as_root = os.geteuid() == 0
    uids = {name: FIRST_UID + number * RANGE_WIDTH if as_root else None for number, name in enumerate(NAMES)}
    make = await _choose_driver(kind)
    honest = make(folder / "containers")
    await honest.prepare()
    another = make(folder / "containers")
    rig = Rig(folder, wrap(honest), another, uids, has_image=kind != "bubblewrap", has_own_kernel=kind == "gvisor")
    try:
        yield rig
    finally:
        for name in NAMES:
            await honest.destroy(name)
        for opened in rig.sockets:
            opened.close()


async def _choose_driver(kind: str) -> Callable[[Path], Driver]:
    if kind == "bubblewrap":
        return BubblewrapDriver
    # Unprivileged, these checks run without what building images needs.
    cache = importlib.import_module("image_cache")
    images = await cache.get_images()
    # Tried once for all rigs: a container for that costs as much as any other.
    trials = Trials(cache.find_folder().parent / f"{kind}-trials.json")
    driver = GvisorDriver if kind == "gvisor" else NspawnDriver
    return lambda folder: driver(folder, images, trials)
