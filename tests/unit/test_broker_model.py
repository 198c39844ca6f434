"""The broker against a model of it: whatever is done in whatever order, over crashes, the same promises hold.

A crash is what kill -9 leaves: the files as they are, without anything closed, opened by another daemon.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hyperhive.core.messages import DELIVERY_ATTEMPTS, Message, MessageState, Priority
from hyperhive.core.policy import Policy
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.broker import Broker
from hyperhive.host.feed import Feed
from hyperhive.host.store.store import Store

AGENTS = ("alice", "bob", "carol")
RANK = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}
T = TypeVar("T")

agents = st.sampled_from(AGENTS)
priorities = st.sampled_from(list(Priority))


@dataclass
class Known:
    """What the model knows of a message that was confirmed."""

    id: int
    sender: str
    recipient: str
    body: str
    priority: Priority
    state: MessageState = MessageState.QUEUED
    generation: int = 0
    deliveries: int = 0
    failures: int = 0


@dataclass
class Wait:
    """A recv that waits."""

    recipient: str
    max_messages: int
    task: "asyncio.Task[tuple[list[Message], int]]"


@dataclass
class Daemon:
    store: Store
    broker: Broker
    waits: list[Wait] = field(default_factory=list[Wait])


async def get_policy(_: str) -> Policy:
    return Policy()


class BrokerModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="broker-model-"))
        self.loop = asyncio.new_event_loop()
        self.starts = 0
        self.messages: dict[int, Known] = {}
        self.keys: dict[tuple[str, str], int] = {}
        self.generations: dict[str, int] = dict.fromkeys(AGENTS, 1)
        self.daemons: list[Daemon] = []
        self.counter = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @property
    def daemon(self) -> Daemon:
        return self.daemons[-1]

    def teardown(self) -> None:
        for daemon in self.daemons:
            self.run(self._stop(daemon))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    async def _stop(self, daemon: Daemon) -> None:
        for wait in daemon.waits:
            wait.task.cancel()
        await asyncio.gather(*(wait.task for wait in daemon.waits), return_exceptions=True)
        daemon.store.close()

    async def _open(self) -> None:
        feed = Feed()
        store = Store(self.folder / str(self.starts) / "hive.sqlite", "hive", feed.publish_events)
        broker = Broker(store, get_policy, lambda _: Policy())
        feed.listen(broker.on_event)
        await broker.load()
        self.daemons.append(Daemon(store, broker))

    @initialize()
    def start(self) -> None:
        (self.folder / "0").mkdir()
        self.run(self._open())
        for name in AGENTS:
            self.run(self.daemon.store.write(lambda tx, name=name: insert_agent(tx, name, None)))

    # -- what is done --------------------------------------------------------------------------------------

    @rule(drafts=st.lists(st.tuples(agents, agents, priorities, st.booleans()), min_size=1, max_size=8))
    def send_at_once(self, drafts: list[tuple[str, str, Priority, bool]]) -> None:
        """Several at a time, so that they share a commit; each perhaps twice with the same key."""
        plans: list[tuple[str, str, Priority, str, str]] = []
        for sender, recipient, priority, twice in drafts:
            if sender == recipient:
                continue
            self.counter += 1
            plan = (sender, recipient, priority, f"body {self.counter}", f"key-{self.counter:08d}")
            plans += [plan, plan] if twice else [plan]

        async def send_all() -> list[Message]:
            sends = (
                self.daemon.broker.send(sender, recipient, body, idempotency_key=key, priority=priority)
                for sender, recipient, priority, body, key in plans
            )
            return await asyncio.gather(*sends)

        for message, (sender, recipient, priority, body, key) in zip(self.run(send_all()), plans, strict=True):
            known = self.keys.setdefault((sender, key), message.id)
            assert known == message.id, "the same key gave two messages"
            assert (message.sender, message.recipient, message.body) == (sender, recipient, body)
            if message.id not in self.messages:
                assert message.id > max(self.messages, default=0), "an id was used again"
                self.messages[message.id] = Known(message.id, sender, recipient, body, priority)
        self._settle_waits()

    @precondition(lambda self: self.keys)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        (sender, key), message_id = data.draw(st.sampled_from(sorted(self.keys.items())))
        known = self.messages[message_id]
        again = self.run(self.daemon.broker.send(sender, known.recipient, known.body, idempotency_key=key))
        assert again.id == message_id

    @rule(recipient=agents, max_messages=st.integers(1, 4))
    def look(self, recipient: str, max_messages: int) -> None:
        generation = self.generations[recipient]
        messages, waiting = self.run(self.daemon.broker.recv(recipient, generation, max_messages, 0))
        self._take(recipient, max_messages, messages)
        assert waiting == len(self._list_queued(recipient)) or not messages

    @precondition(lambda self: len(self.daemon.waits) < 4)
    @rule(recipient=agents, max_messages=st.integers(1, 4))
    def wait(self, recipient: str, max_messages: int) -> None:
        """A recv that waits, unless something is there."""
        work = self.daemon.broker.recv(recipient, self.generations[recipient], max_messages, 100)
        self.daemon.waits.append(Wait(recipient, max_messages, self.loop.create_task(work)))
        self._settle_waits()

    @precondition(lambda self: self._list_leased())
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        """Some of what one holds, with ids that are not its own."""
        leased = self._list_leased()
        recipient = data.draw(st.sampled_from(sorted({known.recipient for known in leased})))
        ids = data.draw(st.lists(st.sampled_from(sorted(self.messages)), min_size=1, max_size=6))
        generation = self.generations[recipient]
        own = {known.id for known in leased if known.recipient == recipient and known.generation == generation}
        count = self.run(self.daemon.broker.ack(recipient, generation, ids))
        assert count == len(own.intersection(ids))
        for id_ in own.intersection(ids):
            self.messages[id_].state = MessageState.ACKED

    @precondition(lambda self: self._list_leased())
    @rule(data=st.data(), failed=st.booleans())
    def give_back(self, data: st.DataObject, failed: bool) -> None:
        known = data.draw(st.sampled_from(self._list_leased()))
        count = self.run(self.daemon.broker.requeue(known.recipient, known.generation, [known.id], "again", failed))
        assert count == 1
        self._fail(known, failed)
        self._settle_waits()

    @precondition(lambda self: any(known.state is MessageState.DEAD for known in self.messages.values()))
    @rule(data=st.data())
    def revive(self, data: st.DataObject) -> None:
        dead = [known for known in self.messages.values() if known.state is MessageState.DEAD]
        known = data.draw(st.sampled_from(dead))
        self.run(self.daemon.broker.requeue_dead(known.id))
        known.state, known.failures = MessageState.QUEUED, 0
        self._settle_waits()

    @rule(recipient=agents, data=st.data(), restarted=st.booleans())
    def reconnect(self, recipient: str, data: st.DataObject, restarted: bool) -> None:
        """The same harness again with what it still holds, or a new one that holds nothing."""
        self._leave(recipient)
        leased = [known for known in self._list_leased() if known.recipient == recipient]
        holding: list[int] = []
        if restarted:
            self.generations[recipient] += 1
        elif leased:
            holding = data.draw(st.lists(st.sampled_from([known.id for known in leased]), unique=True))
        self.run(self.daemon.broker.reclaim(recipient, self.generations[recipient], holding))
        for known in leased:
            is_own = known.generation == self.generations[recipient]
            if not (is_own and known.id in holding):
                self._fail(known, not is_own)
        self._settle_waits()

    @rule()
    def crash(self) -> None:
        """The files as they are; nobody of the old daemon is heard of again."""
        before = self.folder / str(self.starts)
        self.starts += 1
        shutil.copytree(before, self.folder / str(self.starts))
        self.run(self._open())
        for recipient in AGENTS:
            # A harness lives on, and holds what it had: what it was handed in the last moment it did not get.
            holding = [known.id for known in self._list_leased() if known.recipient == recipient]
            self.run(self.daemon.broker.reclaim(recipient, self.generations[recipient], holding))

    # -- the model -----------------------------------------------------------------------------------------

    def _list_queued(self, recipient: str) -> list[Known]:
        """In the order in which they are handed out."""
        queued = [
            known
            for known in self.messages.values()
            if known.recipient == recipient and known.state is MessageState.QUEUED
        ]
        return sorted(queued, key=lambda known: (RANK[known.priority], known.id))

    def _list_leased(self) -> list[Known]:
        return [known for known in self.messages.values() if known.state is MessageState.LEASED]

    def _take(self, recipient: str, max_messages: int, messages: list[Message]) -> None:
        """What was handed out is what should have been: the first of the queue, each as often as the model says."""
        expected = self._list_queued(recipient)[:max_messages]
        assert [message.id for message in messages] == [known.id for known in expected]
        for message, known in zip(messages, expected, strict=True):
            known.state, known.generation = MessageState.LEASED, self.generations[recipient]
            known.deliveries += 1
            assert (message.body, message.sender, message.deliveries) == (known.body, known.sender, known.deliveries)

    def _fail(self, known: Known, failed: bool) -> None:
        known.failures += failed
        known.state = MessageState.DEAD if known.failures >= DELIVERY_ATTEMPTS else MessageState.QUEUED

    def _settle_waits(self) -> None:
        """Whoever waits and can be given something is; who got what decides the broker, within the order."""

        async def settle() -> None:
            # All that is under way is done after a write and a look of our own.
            for _ in range(3):
                await self.daemon.store.write(lambda _: None)
                await asyncio.sleep(0)

        self.run(settle())
        for wait in [wait for wait in self.daemon.waits if wait.task.done()]:
            self.daemon.waits.remove(wait)
            messages, _ = wait.task.result()
            assert messages, "a wait ended in vain"
            self._take_part(wait, messages)
        for wait in self.daemon.waits:
            assert not self._list_queued(wait.recipient), f"{wait.recipient} waits though something is queued"

    def _take_part(self, wait: Wait, messages: list[Message]) -> None:
        """A wait gets what was there when it was answered: perhaps the first of several that were sent at once."""
        assert len(messages) <= wait.max_messages
        for message in messages:
            known = self.messages[message.id]
            assert known.state is MessageState.QUEUED and known.recipient == wait.recipient
            older = [
                other
                for other in self._list_queued(wait.recipient)
                if other.sender == known.sender and other.priority is known.priority and other.id < known.id
            ]
            assert not older, "a later message of the same sender came first"
            known.state, known.generation = MessageState.LEASED, self.generations[wait.recipient]
            known.deliveries += 1
            assert (message.body, message.deliveries) == (known.body, known.deliveries)

    def _leave(self, recipient: str) -> None:
        """The connection of a harness is gone, and its waits with it."""
        gone = [wait for wait in self.daemon.waits if wait.recipient == recipient]
        self.daemon.waits = [wait for wait in self.daemon.waits if wait.recipient != recipient]
        for wait in gone:
            wait.task.cancel()

        async def end() -> None:
            await asyncio.gather(*(wait.task for wait in gone), return_exceptions=True)

        self.run(end())

    @invariant()
    def the_store_says_the_same(self) -> None:
        if not self.daemons:
            return
        rows = self.run(self.daemon.broker.list_messages(None, 2**62, 10_000))
        found = {row.id: (row.state, row.body, row.deliveries) for row in rows}
        assert found == {known.id: (known.state, known.body, known.deliveries) for known in self.messages.values()}


BrokerModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBroker = BrokerModel.TestCase
