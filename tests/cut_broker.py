"""The program whose power is cut: the real store and the real broker on a folder, with agents that send and receive.

`LD_PRELOAD=power_cut.so python cut_broker.py` reads lives from its standard input, a line of JSON each (`Life`), and
runs each in a fork of its own, one after the other. The line `kill` kills the one that runs. On its standard output it
says in JSON what it was promised, before it does anything else with it:

    {"ended": STATUS}              a life has ended
    ["ready"]                      the store is open, all agents work
    ["sent", LABEL, IDS]           send has returned
    ["got", NAME, [[ID, LABEL]]]   recv has returned
    ["acked", NAME, IDS]           ack has returned
    ["parked"] or ["resumed"]      so has the write of that
    ["trouble", TEXT]              what was not to happen
"""

import asyncio
import json
import os
import select
import signal
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from cut_messages import EVERYONE, LANES, SLEEPER, plan_labelled, read_label
from hyperhive.core.messages import EVERYBODY, Message
from hyperhive.core.parking import ParkKind
from hyperhive.core.policy import Policy
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.broker import Broker
from hyperhive.host.feed import Feed
from hyperhive.host.park_records import park_in, release_in
from hyperhive.host.store import store as store_module
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.sqlite import connect
from power_cut import cut_after, watch_folder

RECV_WAIT_S = 0.02


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the program on `folder`, the `number`th.

    It is cut after so many changes of the disk from its start, or from when it is ready (0: never). `next` has the
    number of the next message of each lane. A life that drains sends only that one, receives until nothing is left, and
    ends by itself. After `session_s` the store is closed and opened again (0: never).
    """

    number: int
    folder: str
    log: str
    seed: int
    synchronous: Literal["FULL", "NORMAL"]
    sync_limit_us: int
    autocheckpoint_pages: int | None
    cut_at_start: int
    cut_when_ready: int
    session_s: float
    drains: bool
    next: dict[str, int]

    def render(self) -> str:
        return json.dumps(asdict(self))


def tell(*what: Any) -> None:
    os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


# -- one life ------------------------------------------------------------------------------------------------


class Session:
    """The store, from its opening to its closing."""

    def __init__(self, life: Life, random: Random, next_numbers: dict[str, int]) -> None:
        self._life = life
        self._random = random
        self._next = next_numbers
        feed = Feed()
        self._store = Store(Path(life.folder) / "hive.sqlite", "hive", feed.publish_events)
        self._broker = Broker(self._store, _get_policy)
        feed.listen(self._broker.on_event)
        self._stopping = life.drains

    async def prepare(self) -> None:
        await self._broker.load()
        await self._store.write(_insert_agents)
        for name in EVERYONE:
            await self._broker.reclaim(name, self._life.number, [])

    async def run(self, length_s: float) -> None:
        if length_s:
            asyncio.get_running_loop().call_later(length_s, self._stop)
        senders = [self._send(lane) for lane in LANES]
        receivers = [self._receive(name) for name in EVERYONE if name != SLEEPER]
        if self._life.drains:
            await asyncio.gather(*senders)
            await self._store.write(lambda tx: release_in(tx, SLEEPER))
            await asyncio.gather(*receivers, self._receive(SLEEPER))
        else:
            await asyncio.gather(*senders, *receivers, self._park())

    def close(self) -> None:
        self._store.close()

    def _stop(self) -> None:
        self._stopping = True

    async def _send(self, lane: str) -> None:
        """What the life before had under way comes first, with the same key."""
        while True:
            label = f"{lane}/{self._next[lane]}"
            tell("sent", label, await self._send_one(label))
            self._next[lane] += 1
            if self._stopping:
                return

    async def _send_one(self, label: str) -> list[int]:
        planned = plan_labelled(self._life.seed, label)
        send = {"idempotency_key": label, "priority": planned.priority}
        if planned.to == EVERYBODY:
            sent = await self._broker.send_all(planned.sender, planned.body, **cast("Any", send))
            return [message.id for message in sent]
        message = await self._broker.send(planned.sender, planned.to, planned.body, **cast("Any", send))
        return [message.id]

    async def _receive(self, name: str) -> None:
        while True:
            messages, waiting = await self._broker.recv(
                name, self._life.number, self._random.randint(1, 20), RECV_WAIT_S
            )
            if messages:
                await self._settle(name, messages)
            elif self._stopping:
                if waiting:
                    tell("trouble", f"{name} got nothing though {waiting} wait")
                return

    async def _settle(self, name: str, messages: Sequence[Message]) -> None:
        """Acks them, or their beginning and gives back the rest: order can only be kept for who keeps it."""
        tell("got", name, [[message.id, read_label(message.body)] for message in messages])
        ids = [message.id for message in messages]
        is_whole = self._life.drains or self._random.random() < 0.9
        kept = len(ids) if is_whole else self._random.randrange(len(ids))
        if self._random.random() < 0.3:
            await asyncio.sleep(self._random.random() * 0.01)
        if kept:
            count = await self._broker.ack(name, self._life.number, ids[:kept])
            tell("acked", name, ids[:kept])
            if count != kept:
                tell("trouble", f"{count} of {kept} leased messages were acked")
        if kept < len(ids):
            given_back = await self._broker.requeue(name, self._life.number, ids[kept:], "given back", failed=False)
            if given_back != len(ids) - kept:
                tell("trouble", f"{given_back} of {len(ids) - kept} leased messages were given back")

    async def _park(self) -> None:
        """Changes with an event, a row and a message in one transaction."""
        while not self._stopping:
            if await self._store.write(lambda tx: release_in(tx, SLEEPER)):
                tell("resumed")
            else:
                await self._store.write(lambda tx: park_in(tx, SLEEPER, ParkKind.PAUSED, "a test"))
                tell("parked")
            await asyncio.sleep(self._random.random() * 0.02)


def _insert_agents(tx: Transaction) -> None:
    for name in EVERYONE:
        if tx.find("get_agent", name=name) is None:
            insert_agent(tx, name, None)


async def _get_policy(agent: str) -> Policy:
    return Policy()


async def run_life(life: Life) -> None:
    random = Random(f"{life.seed} {life.number}")
    next_numbers = dict(life.next)
    length_s = life.session_s
    is_ready = False
    while True:
        session = Session(life, random, next_numbers)
        await session.prepare()
        if not is_ready:
            is_ready = True
            tell("ready")
            if life.cut_when_ready:
                cut_after(life.cut_when_ready)
        await session.run(length_s)
        session.close()
        if life.drains:
            return
        length_s = 0.0


def replace_connect(life: Life) -> None:
    """The same database with other settings of SQLite: there is no other way to lose what was confirmed."""

    def connect_otherwise(path: Path, synchronous: Literal["FULL", "NORMAL"]) -> sqlite3.Connection:
        connection = connect(path, synchronous if life.synchronous == "FULL" else "NORMAL")
        if life.autocheckpoint_pages is not None:
            connection.execute(f"pragma wal_autocheckpoint = {life.autocheckpoint_pages}")
        return connection

    store_module.connect = connect_otherwise


def live(life: Life) -> None:
    """In the fork. Never returns."""
    status = 1
    try:
        watch_folder(Path(life.folder), Path(life.log), life.sync_limit_us, life.seed + life.number)
        if life.cut_at_start:
            cut_after(life.cut_at_start)
        replace_connect(life)
        asyncio.run(run_life(life))
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the test is told
        tell("trouble", traceback.format_exc()[-3000:])
    finally:
        os._exit(status)


# -- the process that forks ----------------------------------------------------------------------------------


def main() -> None:
    for line in iter(sys.stdin.readline, ""):
        if line.strip() == "kill":
            # For one that was dead already.
            continue
        life = Life(**json.loads(line))
        child = os.fork()
        if child == 0:
            live(life)
        status = _wait(child)
        os.write(sys.stdout.fileno(), json.dumps({"ended": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def _wait(child: int) -> int:
    """Until it has ended. Kills it when told to, or when nobody is there any more to tell."""
    with os.fdopen(os.pidfd_open(child), "rb", buffering=0) as ended:
        readable, _, _ = select.select([ended, sys.stdin], [], [])
        if ended not in readable:
            sys.stdin.readline()
            os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    main()
