"""A hive without a dashboard in the test's own process: real store, links and harness, and a driver of the test's."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hyperhive.core.events import Event, EventName
from hyperhive.core.limits import UNLIMITED, Limits
from hyperhive.core.messages import Message
from hyperhive.core.names import MANAGER, OPERATOR, SYSTEM
from hyperhive.core.paths import Roots
from hyperhive.host.agent_records import get_agent, insert_agent
from hyperhive.host.agents import Agents
from hyperhive.host.container_spec import HarnessSettings
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, Driver, Observation
from hyperhive.host.parts import Parts, build_parts
from hyperhive.host.store.rows import AgentRecord, Desired
from hyperhive.host.store.store import Transaction
from hyperhive.testing.bad_drivers import Faithful
from hyperhive.wire.operator.agents import AgentRow

T = TypeVar("T")
Wrap = Callable[[Driver], Driver]
BadDriver = Faithful[ContainerSpec, Observation]

# Nobody listens there; an idle harness asks for nothing.
UPSTREAM = "http://127.0.0.1:9"


@dataclass
class Hive:
    """What `host.app` assembles, without the dashboard, on a driver of the test's."""

    agents: Agents
    honest: BubblewrapDriver
    driver: Driver
    parts: Parts
    roots: Roots
    events: list[Event] = field(default_factory=list[Event])

    async def row(self, name: str = "alice") -> AgentRow:
        return next(row for row in await self.agents.rows() if row.name == name)

    async def wait_row(self, is_so: Callable[[AgentRow], bool], timeout_s: float = 20) -> AgentRow:
        async def seen() -> AgentRow | None:
            row = await self.row()
            return row if is_so(row) else None

        return await wait_for(seen, timeout_s, self)

    async def wait_state(self, *states: str, timeout_s: float = 20) -> AgentRow:
        return await self.wait_row(lambda row: row.state in states, timeout_s)

    def list_events(self, *names: EventName) -> list[Event]:
        return [event for event in self.events if event.agent == "alice" and event.name in names]

    async def wait_event(self, name: EventName, count: int = 1, timeout_s: float = 20) -> Event:
        async def seen() -> Event | None:
            found = self.list_events(name)
            return found[count - 1] if len(found) >= count else None

        return await wait_for(seen, timeout_s, self)

    async def record(self, name: str = "alice") -> AgentRecord:
        return await self.parts.store.read(lambda view: get_agent(view, name))

    async def send(self, body: str = "hello") -> Message:
        return await self.parts.broker.send(OPERATOR, "alice", body)

    async def list_kicks(self) -> list[Message]:
        """What the hive has told alice, the oldest first."""
        messages = await self.parts.broker.list_messages("alice", 2**53, 500)
        return [message for message in reversed(messages) if (message.sender, message.recipient) == (SYSTEM, "alice")]

    async def insert_experienced(self, name: str = "alice") -> None:
        """An agent that was given a message before, and whose container was never started."""
        # Or the watch finds that out by itself, and starts it for a reason of its own.
        self.parts.roster.live(name).see(Observation(ContainerState.ABSENT))
        await self.parts.store.write(lambda tx: insert_agent(tx, name, self.parts.agents.first_uid))
        message = await self.parts.broker.send(OPERATOR, name, "before")
        await self.parts.broker.recv(name, 0, 8, 0)
        assert await self.parts.broker.ack(name, 0, [message.id]) == 1

    async def list_processes(self) -> list[int]:
        """The processes that see alice's folders: those in its container, and what watches it."""
        return [pid for pid in _list_pids() if self._sees_alice(pid)]

    def _sees_alice(self, pid: int) -> bool:
        try:
            return f"{self.roots.run}/agents/alice " in Path(f"/proc/{pid}/mountinfo").read_text()
        except OSError:
            return False


async def wait_for(seen: Callable[[], Awaitable[T | None]], timeout_s: float, hive: Hive) -> T:
    deadline = time.monotonic() + timeout_s
    while (found := await seen()) is None:
        assert time.monotonic() < deadline, (await hive.row(), hive.events)
        await asyncio.sleep(0.02)
    return found


def _list_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


@contextlib.asynccontextmanager
async def make_place() -> AsyncGenerator[Path]:
    """A folder for hives that follow one another, whose container ends with it."""
    # Short: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        try:
            yield Path(folder)
        finally:
            roots = Roots(Path(folder) / "data", Path(folder) / "run")
            await BubblewrapDriver(roots.containers_folder).destroy("alice")


@contextlib.asynccontextmanager
async def open_hive(
    wrap: Wrap = lambda driver: driver,
    *,
    place: Path | None = None,
    upstream: str = UPSTREAM,
    hibernate_s: float = 0,
    limits: Limits = UNLIMITED,
    look_every_s: float | None = None,
    reconcile: bool = False,
) -> AsyncGenerator[Hive]:
    """A hive whose watch goes on; it has a manager, which nobody starts. With `reconcile` as a daemon begins.

    With a `place` what runs is left running for the next hive there; whoever made the place ends it.
    """
    async with contextlib.AsyncExitStack() as stack:
        folder = await stack.enter_async_context(make_place()) if place is None else place
        roots = Roots(folder / "data", folder / "run")
        roots.data.mkdir(exist_ok=True)
        roots.run.mkdir(exist_ok=True)
        honest = BubblewrapDriver(roots.containers_folder)
        driver = wrap(honest)
        await driver.prepare()

        harness = HarnessSettings("api_key", warm_s=0, hibernate_s=hibernate_s, limits=limits)
        parts = build_parts(roots, driver, harness, upstream, None, stack)
        if look_every_s is not None:
            parts.lifecycle.pace.look_every_s = look_every_s
        await parts.prepare()
        hive = Hive(parts.agents, honest, driver, parts, roots)
        parts.feed.listen(hive.events.append)
        await parts.store.write(lambda tx: _ensure_idle_manager(tx, parts.agents.first_uid))
        if reconcile:
            # Before anything is watched, as in the daemon: what is found then is told as found at the start.
            await parts.reconcile()
        works = [
            asyncio.create_task(work())
            for work in (parts.watch.watch_forever, parts.parking.expire_forever, parts.roster.tell_forever)
        ]
        try:
            yield hive
            assert not any(work.done() for work in works), "the watch over the containers has ended"
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)


def _ensure_idle_manager(tx: Transaction, first_uid: int | None) -> None:
    if tx.find("get_agent", name=MANAGER) is None:
        insert_agent(tx, MANAGER, first_uid)
        tx.list("set_desired", name=MANAGER, desired=Desired.STOPPED)
