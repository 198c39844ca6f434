"""The root helper's server at one end of a socket pair, and whoever asks it at the other."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperhive.core.paths import Roots
from hyperhive.core.uids import FIRST_RANGED_UID
from hyperhive.host.container_spec import HARNESS, plan_mounts
from hyperhive.host.drivers.image_shelf import ManagedImages
from hyperhive.host.drivers.protocol import ContainerSpec, Driver
from hyperhive.host.separation.checks import Checks
from hyperhive.host.separation.client import Helper
from hyperhive.host.separation.frames import read_frame
from hyperhive.host.separation.notes import HelperNotes
from hyperhive.host.separation.server import Gate, HelperServer
from hyperhive.host.separation.verbs import Arguments

COMMIT = "a" * 40
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "GREETING": "hello"}


class AllowAll:
    """Lets everything through that has the form of a request: for containers that are no agents'."""

    def check(self, arguments: Arguments) -> None:
        pass


@dataclass
class Peer:
    """Who asks in bytes of its own choice. `answers` are those that came, as they came."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    last_id: int = 0

    async def ask(self, verb: object, arguments: object) -> dict[str, Any]:
        """The answer to a request, which must be the next that comes."""
        self.last_id += 1
        self.send({"id": self.last_id, "verb": verb, "arguments": arguments})
        answer = await self.receive()
        assert answer is not None and answer["id"] == self.last_id
        return answer

    def send(self, message: Mapping[str, Any]) -> None:
        # orjson does not write numbers of more than 64 bits.
        self.send_body(json.dumps(message).encode())

    def send_body(self, body: bytes) -> None:
        self.writer.write(len(body).to_bytes(4, "big") + body)

    async def receive(self) -> dict[str, Any] | None:
        """The next answer; None if the server has hung up."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                return await read_frame(self.reader)
        return None


@dataclass
class HelperRig:
    """`path` is where the helper notes what it does. `serving` ends when the connection does."""

    path: Path
    connection: socket.socket
    serving: asyncio.Task[None]
    opened: list[Helper] = field(default_factory=list[Helper])

    def open_helper(self) -> Helper:
        """The daemon's side. Only one of this and `open_peer` can be had."""
        self.opened.append(Helper(self.connection))
        return self.opened[0]

    async def open_peer(self) -> Peer:
        return Peer(*await asyncio.open_unix_connection(sock=self.connection))

    def notes(self) -> list[dict[str, Any]]:
        return read_notes(self.path)


def read_notes(path: Path) -> list[dict[str, Any]]:
    """The lines of the audit; each must be one."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []


@contextlib.asynccontextmanager
async def open_helper_rig(
    folder: Path, driver: Driver, images: ManagedImages | None = None, checks: Gate | None = None
) -> AsyncGenerator[HelperRig]:
    """A server before `driver`, ended with the rig. `checks` let all through unless there are some."""
    path = folder / "audit.jsonl"
    ours, theirs = socket.socketpair()
    server = HelperServer(driver, images, checks or AllowAll(), HelperNotes(path))
    rig = HelperRig(path, ours, asyncio.create_task(server.serve(theirs)))
    try:
        yield rig
    finally:
        for helper in rig.opened:
            await helper.close()
        if not rig.opened:
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
        async with asyncio.timeout(20):
            await asyncio.wait({rig.serving})
        ours.close()
        if not rig.serving.cancelled():
            rig.serving.result()


def make_agent(roots: Roots, agent: str) -> None:
    """The folders that an agent's container has mounts of."""
    places = (roots.state_folder(agent), roots.claude_folder(agent), roots.agent_sockets_folder(agent))
    for place in (*places, roots.versions_folder(agent) / COMMIT, roots.proposed_folder, roots.applied_folder):
        place.mkdir(parents=True, exist_ok=True)


def make_spec(roots: Roots, agent: str, checks: Mapping[str, Any] | None = None) -> ContainerSpec:
    """What the hive would start for an agent whose folders `make_agent` has made."""
    given: dict[str, Any] = {"claude": "", "ca_file": None, **(checks or {})}
    mounts = plan_mounts(agent, roots, config_folder=roots.versions_folder(agent) / COMMIT, **given)
    name = "hm1nd" if agent == "manager" else agent
    return ContainerSpec(name, HARNESS, ENVIRONMENT, mounts, FIRST_RANGED_UID)


def make_checks(roots: Roots, claude: str = "", ca_file: Path | None = None) -> Checks:
    return Checks(roots, claude, ca_file)
