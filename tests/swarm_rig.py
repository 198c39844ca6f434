"""A swarm under which a hive is broken: 100 harnesses without turns, on the harness's own link and inbox.

They send with keys, wait for messages, ack them or give them back, and come back after a lost connection as a harness
does. They run on an event loop in a thread of its own; the test breaks things meanwhile, lets all be handed out in the
end, and asks the history what was broken.
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import hyperhive.host.store
from hive_process import HiveProcess, wait_for
from hyperhive.core.errors import HiveError
from hyperhive.core.names import MANAGER
from hyperhive.harness.inbox import Inbox
from hyperhive.harness.link import Greeting, Link, SupersededError
from hyperhive.system.sqlite import connect, migrate
from hyperhive.wire.agent_link import SEND, SendParams
from swarm_history import History, Planned

AGENTS = 100
# An agent that is not of the swarm: nobody sends to it but the test.
QUIET = "quiet"
# Nothing listens there: what never runs a turn needs no model.
FLAGS = ("--upstream", "http://127.0.0.1:9", "--messages-per-minute", "0", "--messages-per-minute-pair", "0")
_RECV_WAIT_S = 20.0
_MESSAGES_PER_RECV = 10
_LANES = ("1", "2")
_SETTLE_TIMEOUT_S = 60.0
_RETRY_REFUSED_S = 0.3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard the swarm works. Each pause is drawn from 0 to its limit."""

    pause_s: float = 0.5
    turn_s: float = 0.1
    body_bytes: int = 1024


class Agent:
    """One agent of the swarm; `vanish` is the death of its harness, with all that it held."""

    def __init__(self, hive: HiveProcess, name: str, others: Sequence[str], swarm: "Swarm", seed: int) -> None:
        self.name = name
        self.generation = 1
        self.unconfirmed = 0
        self.is_sending = True
        self._hive = hive
        self._others = others
        self._history = swarm.history
        self._swarm = swarm
        self._random = Random(f"{seed} {name}")
        self._numbers: dict[str, int] = dict.fromkeys(_LANES, 0)
        self._tasks: list[asyncio.Task[None]] = []

    def appear(self) -> None:
        inbox = Inbox()
        socket = self._hive.run / "agents" / self.name / "hive.sock"
        link = Link(socket, self.generation, inbox.holding, _ignore_greeting, _answer)
        self.unconfirmed = 0
        work = [self._run_link(link), self._receive(link, inbox), *(self._send_all(link, lane) for lane in _LANES)]
        self._tasks = [asyncio.create_task(self._tell(some)) for some in work]

    async def vanish(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tell(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001  # the history is what the test looks at
            self._history.broken.append(f"{self.name} failed: {error!r}")

    async def _run_link(self, link: Link) -> None:
        # The daemon has closed it for a newer one.
        with contextlib.suppress(SupersededError):
            await link.run()

    async def _pause(self, limit_s: float) -> None:
        await asyncio.sleep(self._random.uniform(0, limit_s))

    async def _send_all(self, link: Link, lane: str) -> None:
        await self._pause(self._swarm.pace.pause_s)
        while self.is_sending:
            planned = self._plan(lane)
            body = f"{planned.label} " + "x" * self._random.randint(0, 2 * self._swarm.pace.body_bytes)
            self.unconfirmed += 1
            await self._send(link, planned, body)
            self.unconfirmed -= 1
            await self._pause(self._swarm.pace.pause_s)

    def _plan(self, lane: str) -> Planned:
        self._numbers[lane] += 1
        full = f"{self.name}.{lane}"
        [priority] = self._random.choices(("low", "normal", "high"), (1, 8, 1))
        label = f"{full}/{self._numbers[lane]}"
        planned = Planned(label, full, self.name, self._random.choice(self._others), priority)
        self._history.planned[label] = planned
        return planned

    async def _send(self, link: Link, planned: Planned, body: str) -> None:
        """Until it is taken; or given up once it was refused. Sometimes again, as if the answer had been missed."""
        params = SendParams(
            to=planned.recipient, body=body, priority=planned.priority, idempotency_key=f"key-of-{planned.label}"
        )
        while True:
            try:
                answer = await link.request(SEND, params)
            except HiveError as error:
                self._history.refusals[f"{error.code}: {error.message} ({error.hint})"] += 1
                if self._random.random() < 0.5:
                    self._history.refused.add(planned.label)
                    return
                await self._pause(_RETRY_REFUSED_S)
                continue
            self._history.note_confirmed(planned, int(answer["id"]))
            if self._random.random() < 0.95:
                return

    async def _receive(self, link: Link, inbox: Inbox) -> None:
        while True:
            held = set(inbox.holding())
            try:
                delivery = await inbox.fetch(link, _MESSAGES_PER_RECV, _RECV_WAIT_S)
            except HiveError as error:
                self._history.refusals[f"recv: {error.code}"] += 1
                await self._pause(_RETRY_REFUSED_S)
                continue
            for message in delivery.messages:
                self._history.note_got(self.name, message.id, message.body, message.id in held)
            await self._pause(self._swarm.pace.turn_s)
            await self._settle(link, inbox, [message.id for message in delivery.messages])

    async def _settle(self, link: Link, inbox: Inbox, ids: list[int]) -> None:
        given_back = [message_id for message_id in ids if self._random.random() < 0.05]
        handled = [message_id for message_id in ids if message_id not in given_back]
        await inbox.ack(link, handled)
        self._history.note_acked(handled)
        await inbox.requeue(link, given_back, "the turn was cancelled", failed=False)


def _ignore_greeting(_: Greeting) -> None:
    pass


async def _answer(_: str, __: dict[str, Any]) -> Any:
    return {}


class Swarm:
    """All agents of a hive, at work in a thread of their own. The methods are the test's."""

    def __init__(self, hive: HiveProcess, seed: int, pace: Pace) -> None:
        self.history = History()
        self.pace = pace
        self._hive = hive
        names = list_names()
        self._agents = {
            name: Agent(hive, name, [other for other in names if other != name], self, seed) for name in names
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="swarm")
        self._thread.start()
        self._do(self._appear(list(self._agents)))

    def vanish(self, names: Sequence[str], between: Callable[[], None] = lambda: None) -> None:
        """Their harnesses die with all they hold, and others take their places. `between` runs while they are gone."""
        self._do(self._vanish(names))
        between()
        self._do(self._appear(names))

    def set_generation(self, names: Sequence[str], generation: int) -> None:
        """What their next harnesses say; no longer what their present ones do."""
        for name in names:
            self._agents[name].generation = generation

    def check(self) -> None:
        """That nothing was seen to be broken so far."""
        assert not self.history.broken, "\n".join(self.history.broken[:20])

    def wait_at_work(self) -> None:
        """Until all are at it: each agent's first hello takes long, since its config is made for it then."""
        wait_for(lambda: len(self.history.acked) > 5 * AGENTS, "the swarm to be at work", 120)

    def settle(self, timeout_s: float = _SETTLE_TIMEOUT_S) -> None:
        """Ends the sending; returns once each send is answered and nothing waits or is held any more."""
        for agent in self._agents.values():
            agent.is_sending = False
        wait_for(self._is_settled, "everything to be handed out and acked", timeout_s)

    def close(self) -> None:
        self._do(self._vanish(list(self._agents)))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _is_settled(self) -> bool:
        if any(agent.unconfirmed for agent in self._agents.values()):
            return False
        with closing(sqlite3.connect(self._hive.data / "hive.sqlite", timeout=10)) as connection:
            query = "select count(*) from messages where state in ('queued', 'leased') and recipient not in (?, ?)"
            return connection.execute(query, (MANAGER, QUIET)).fetchone() == (0,)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _appear(self, names: Sequence[str]) -> None:
        for name in names:
            self._agents[name].appear()

    async def _vanish(self, names: Sequence[str]) -> None:
        await asyncio.gather(*(self._agents[name].vanish() for name in names))


def list_names() -> list[str]:
    return [f"a{index}" for index in range(AGENTS)]


def make_data(data: Path) -> None:
    """The database of a hive that knows the manager and the swarm, all of them stopped and once started."""
    data.mkdir(mode=0o700, parents=True)
    with closing(connect(data / "hive.sqlite", "FULL")) as connection:
        migrate(connection, Path(hyperhive.host.store.__file__).parent / "migrations" / "hive")
        connection.execute("begin")
        connection.executemany(
            "insert into agents (name, uid, generation, desired, hibernated, spawned_at) values (?, ?, 1, ?, 0, ?)",
            [
                (name, 1_900_000_000 + index if os.geteuid() == 0 else None, "stopped", int(time.time() * 1000))
                for index, name in enumerate([MANAGER, QUIET, *list_names()])
            ],
        )
        connection.execute("commit")


@contextmanager
def run_swarm(
    folder: Path, seed: int = 1, pace: Pace | None = None, environment: Mapping[str, str] | None = None
) -> Generator[tuple[HiveProcess, Swarm]]:
    """A hive with its data in a new folder in `folder`, and a swarm at work on it. Both end with the block."""
    make_data(folder / "data")
    # What it needs of memory is looked at: none of it is to be a nursery's.
    hive = HiveProcess(folder / "data", FLAGS, dict(environment or {}), fresh=True).start()
    try:
        with closing(Swarm(hive, seed, pace or Pace())) as swarm:
            swarm.wait_at_work()
            yield hive, swarm
    finally:
        if hive.process is not None and hive.process.poll() is None:
            hive.stop()


def check_promises(hive: HiveProcess, swarm: Swarm) -> None:
    """Lets all be handed out, ends the hive and looks for what is broken."""
    swarm.settle()
    assert hive.stop() == 0, hive.log[-2000:]
    broken = swarm.history.find_broken(hive.data / "hive.sqlite")
    assert not broken, "\n".join(broken)


def read_pss_bytes(hive: HiveProcess) -> int:
    """The memory that is the daemon's own, and its share of the rest."""
    assert hive.process is not None
    for line in Path(f"/proc/{hive.process.pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells no memory of the daemon")
