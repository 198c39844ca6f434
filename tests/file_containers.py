"""A driver whose containers are files: each outlives the daemon, and is gone with the machine.

In each that runs there is a harness of a kind: a task of the daemon's own loop that knows nothing but what the
container has, its variables and its mounts. It says hello on the agent's real socket and writes down which config it
was told.

A container's fate is its variable FATE: `refused` cannot be started, `dies` ends at once, `mute` never says hello. A
package called `no-such-…` cannot be had.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, DriverError, Observation
from hyperhive.host.link.server import HIVE_SOCKET
from hyperhive.system.cgroups import Usage
from hyperhive.system.process import Completed
from hyperhive.wire.agent_link import HELLO, PROTOCOL_VERSION, SET_CONFIG, HelloParams
from hyperhive.wire.jsonrpc import Request, Response, decode_line, encode_request, encode_result

UNBUILDABLE = "no-such-"
REFUSED, DIES, MUTE = "refused", "dies", "mute"
CONNECT_EVERY_S = 0.005


@dataclass
class Container:
    """`mounts` are sources by targets; `told` is the commit that its harness was told last."""

    name: str
    state: str = ContainerState.STOPPED
    environment: dict[str, str] = field(default_factory=dict[str, str])
    mounts: dict[str, str] = field(default_factory=dict[str, str])
    told: str = ""


def load_containers(folder: Path) -> dict[str, Container]:
    return {path.stem: Container(**json.loads(path.read_text())) for path in folder.glob("*.json")}


def lose_containers(folder: Path) -> None:
    """What a power cut leaves of running containers."""
    for path in folder.glob("*.json"):
        path.unlink()


class FileDriver:
    """`step` is told of each effect, before and after it."""

    name = "files"
    unlimited: Mapping[str, str] = {}

    def __init__(self, folder: Path, step: Callable[[str], None]) -> None:
        self._folder = folder
        self._step = step
        self._harnesses: dict[str, asyncio.Task[None]] = {}

    async def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for container in load_containers(self._folder).values():
            if container.state == ContainerState.RUNNING:
                self._begin(container)

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        missing = [package for package in packages if package.startswith(UNBUILDABLE)]
        if missing:
            raise DriverError(f"there is no package {', '.join(missing)}", "leave it out")
        return dict.fromkeys(packages, "1.0")

    async def create(self, spec: ContainerSpec) -> None:
        self._step(f"before create {spec.name}")
        container = self._find(spec.name) or Container(spec.name)
        container.environment = dict(spec.environment)
        container.mounts = {str(mount.target): str(mount.source) for mount in spec.mounts}
        self._save(container)
        self._step(f"after create {spec.name}")

    async def observe(self, name: str) -> Observation:
        container = self._find(name)
        return Observation(ContainerState(container.state) if container else ContainerState.ABSENT)

    async def start(self, spec: ContainerSpec) -> None:
        container = self._find(spec.name)
        if container is None or container.environment.get("FATE") == REFUSED:
            raise DriverError(f"{spec.name} cannot be started")
        if container.state == ContainerState.RUNNING:
            return
        self._step(f"before start {spec.name}")
        container.told = ""
        dies = container.environment.get("FATE") == DIES
        container.state = ContainerState.EXITED if dies else ContainerState.RUNNING
        self._save(container)
        self._step(f"after start {spec.name}")
        if not dies:
            self._begin(container)

    async def stop(self, name: str, timeout_s: float) -> None:
        container = self._find(name)
        if container is None or container.state == ContainerState.STOPPED:
            return
        self._step(f"before stop {name}")
        await self._end(name)
        container.state = ContainerState.STOPPED
        self._save(container)
        self._step(f"after stop {name}")

    async def destroy(self, name: str) -> None:
        self._step(f"before destroy {name}")
        await self._end(name)
        self._path(name).unlink(missing_ok=True)
        self._step(f"after destroy {name}")

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        raise DriverError("nothing can be run in a file")

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        return b"", offset

    async def log_range(self, name: str) -> tuple[int, int]:
        return 0, 0

    async def find_usage(self, name: str) -> Usage:
        return Usage()

    async def crash(self, name: str) -> None:
        """Ends a container as if it had done so itself."""
        await self._end(name)
        self._exit(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _find(self, name: str) -> Container | None:
        path = self._path(name)
        return Container(**json.loads(path.read_text())) if path.exists() else None

    def _save(self, container: Container) -> None:
        fresh = self._folder / f"{container.name}.new"
        fresh.write_text(json.dumps(asdict(container)))
        fresh.replace(self._path(container.name))

    def _exit(self, name: str) -> None:
        container = self._find(name)
        if container is not None and container.state == ContainerState.RUNNING:
            container.state = ContainerState.EXITED
            self._save(container)

    def _tell(self, name: str, commit: str) -> None:
        container = self._find(name)
        if container is not None:
            container.told = commit
            self._save(container)

    # -- harnesses -----------------------------------------------------------------------------------------

    def _begin(self, container: Container) -> None:
        if container.environment.get("FATE") != MUTE:
            self._harnesses[container.name] = asyncio.create_task(self._run_harness(container))

    async def _end(self, name: str) -> None:
        task = self._harnesses.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run_harness(self, container: Container) -> None:
        """Stays connected until it is told that it is not the newest."""
        socket = Path(container.mounts["/run/hive"]) / HIVE_SOCKET
        refused = ""
        while refused != "conflict":
            with contextlib.suppress(OSError, EOFError):
                reader, writer = await asyncio.open_unix_connection(socket)
                try:
                    refused = await self._talk(container, reader, writer)
                finally:
                    writer.close()
            await asyncio.sleep(CONNECT_EVERY_S)
        self._exit(container.name)

    async def _talk(self, container: Container, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """One connection. Returns the code with which the daemon refused it."""
        generation = int(container.environment["HIVE_GENERATION"])
        hello = HelloParams(protocol=PROTOCOL_VERSION, generation=generation, holding=[])
        writer.write(encode_request(Request(HELLO, {**hello}, 0)))
        while True:
            message = decode_line(await reader.readuntil(b"\n"))
            if isinstance(message, Response):
                if message.error is not None:
                    return message.error.code
                self._tell(container.name, message.result["config"]["commit"])
            elif message.method == SET_CONFIG:
                self._tell(container.name, message.params["config"]["commit"])
                writer.write(encode_result(message.id, {}))
