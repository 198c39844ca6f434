"""What the broker promised before the power was cut, and what of it is broken by what is there afterwards."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cut_messages import LANES, SLEEPER, plan_labelled, read_label
from hyperhive.core.errors import StorageError
from hyperhive.core.events import EventName
from hyperhive.core.messages import DELIVERY_ATTEMPTS, Message, MessageState, Priority
from hyperhive.core.names import MANAGER, OPERATOR, SYSTEM
from hyperhive.core.policy import Policy
from hyperhive.host.broker import Broker
from hyperhive.host.store.store import Store, View

ALL = 1_000_000_000


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """What is in a database after a cut."""

    messages: Sequence[Message]
    events: Sequence[tuple[int, str, str | None]]
    is_sleeper_parked: bool


async def look_into(folder: Path) -> Found:
    """Opens the real store on the folder. Raises StorageError if it will not have it, or if it is damaged."""
    path = folder / "hive.sqlite"
    store = Store(path, "hive")
    try:
        messages = await Broker(store, _get_policy).list_messages(None, ALL, ALL)
        events, is_parked = await store.read(_look)
    finally:
        store.close()
    _check_integrity(path)
    return Found(messages, events, is_parked)


async def _get_policy(agent: str) -> Policy:
    return Policy()


def _look(view: View) -> tuple[list[tuple[int, str, str | None]], bool]:
    events = [(row["id"], row["name"], row["agent"]) for row in view.list("list_events_after", after=0, limit=ALL)]
    return events, bool(view.list("list_parks_of", agent=SLEEPER))


def _check_integrity(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        [*damages] = connection.execute("pragma integrity_check")
        strays = connection.execute("pragma foreign_key_check").fetchall()
        orphans = connection.execute(
            "select (select count(*) from messages) - (select count(*) from messages join bodies using (id)),"
            " (select count(*) from bodies) - (select count(*) from messages)"
        ).fetchone()
    finally:
        connection.close()
    if damages != [("ok",)] or strays or orphans != (0, 0):
        raise StorageError(f"the database is damaged: {damages} {strays} {orphans}", "")


@dataclass(slots=True)
class Promises:
    """All that the lives of one hive were promised. `broken` has what was broken while they lived."""

    seed: int
    sent: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    seen: dict[int, str] = field(default_factory=dict[int, str])
    acked: set[int] = field(default_factory=set[int])
    parks: int = 0
    resumes: int = 0
    # what the last cut left: the newest id, and what was under way and came through
    newest_id: int = 0
    came_through: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    broken: list[str] = field(default_factory=list[str])
    # of each sender, recipient and priority: the newest that was acked
    acked_up_to: dict[tuple[str, str, Priority], int] = field(default_factory=dict[tuple[str, str, Priority], int])

    def list_next(self) -> dict[str, int]:
        """Of each lane the number that is to be sent next, perhaps again."""
        counts = Counter(label.partition("/")[0] for label in self.sent)
        return {lane: counts[lane] + 1 for lane in LANES}

    def hear(self, what: Sequence[Any]) -> None:
        match what:
            case ["ready"]:
                pass
            case ["sent", label, ids]:
                self._hear_sent(label, ids)
            case ["got", name, got]:
                for message_id, label in got:
                    self._hear_got(name, message_id, label)
            case ["acked", name, ids]:
                for message_id in ids:
                    self._hear_acked(name, message_id)
            case ["parked"]:
                self.parks += 1
            case ["resumed"]:
                self.resumes += 1
            case _:
                self.broken.append(f"trouble: {what[-1]}")

    def _hear_sent(self, label: str, ids: list[int]) -> None:
        if label in self.sent:
            self.broken.append(f"{label} was sent twice: the test is wrong")
        came_through = self.came_through.get(label, ids)
        if came_through[: len(ids)] != ids:
            self.broken.append(f"{label} was there as {came_through}, and sent again with its key it is {ids}")
        if label not in self.came_through and min(ids) <= self.newest_id:
            self.broken.append(f"{label} is {ids}, and ids up to {self.newest_id} were used before")
        self.sent[label] = ids

    def _hear_got(self, name: str, message_id: int, label: str) -> None:
        if message_id in self.acked:
            self.broken.append(f"{message_id} ({label}) was acked and came again")
        if self.seen.setdefault(message_id, label) != label:
            self.broken.append(f"{message_id} was {self.seen[message_id]} and is {label}: its id was used again")
        if message_id <= self.acked_up_to.get(self._find_line(name, label), 0):
            self.broken.append(f"{message_id} ({label}) came to {name} after a later one of the same sender was acked")

    def _hear_acked(self, name: str, message_id: int) -> None:
        self.acked.add(message_id)
        self.acked_up_to[self._find_line(name, self.seen[message_id])] = message_id

    def _find_line(self, name: str, label: str) -> tuple[str, str, Priority]:
        try:
            planned = plan_labelled(self.seed, label)
        except ValueError:
            return SYSTEM, name, Priority.NORMAL
        return planned.sender, name, planned.priority

    def find_broken(self, found: Found) -> list[str]:
        """What is broken by what is there after a cut; and from now on ids are beyond those."""
        by_id = {message.id: message for message in found.messages}
        by_label: dict[str, list[Message]] = defaultdict(list)
        for message in sorted(found.messages, key=lambda message: message.id):
            by_label[read_label(message.body) if message.sender != SYSTEM else SYSTEM].append(message)
        broken = self.broken + self._find_lost(by_id, by_label) + self._find_invented(by_label)
        broken += self._find_disorder(by_label) + self._find_reused(found) + self._find_untold(found)
        self.broken = []
        self.newest_id = max(by_id, default=0)
        under_way = [f"{lane}/{number}" for lane, number in self.list_next().items()]
        self.came_through = {
            label: [message.id for message in by_label[label]] for label in under_way if label in by_label
        }
        return broken

    def _find_lost(self, by_id: dict[int, Message], by_label: dict[str, list[Message]]) -> list[str]:
        lost = [
            f"{label} was confirmed as {ids} and is lost or another: {there}"
            for label, ids in self.sent.items()
            if (there := [message.id for message in by_label.get(label, ())])[: len(ids)] != ids
        ]
        lost += [
            f"{message_id} ({label}) was handed out and is lost or another"
            for message_id, label in self.seen.items()
            if message_id not in by_id or read_label(by_id[message_id].body) != label
        ]
        lost += [
            f"{message_id} was acked and is {by_id[message_id].state}"
            for message_id in self.acked
            if message_id in by_id and by_id[message_id].state is not MessageState.ACKED
        ]
        return lost

    def _find_invented(self, by_label: dict[str, list[Message]]) -> list[str]:
        """What was never sent, not like this, or not to all it was sent to. A lane sends one after the other."""
        may_be = {f"{lane}/{number}" for lane, number in self.list_next().items()} | {*self.sent, SYSTEM}
        invented = [f"{label} is there and was never sent" for label in by_label if label not in may_be]
        for label, messages in by_label.items():
            if label == SYSTEM or label not in may_be:
                continue
            planned = plan_labelled(self.seed, label)
            recipients = Counter(message.recipient for message in messages)
            if recipients != Counter(planned.recipients):
                invented.append(f"{label} is there for {dict(recipients)}, and was sent to {planned.recipients}")
            for message in messages:
                there = (message.sender, message.priority, message.body)
                if there != (planned.sender, planned.priority, planned.body):
                    invented.append(f"{label} is not what was sent: {there}")
        return invented

    def _find_disorder(self, by_label: dict[str, list[Message]]) -> list[str]:
        disorder: list[str] = []
        for lane, number in self.list_next().items():
            ids = [message.id for sent in range(1, number + 1) for message in by_label.get(f"{lane}/{sent}", ())]
            if ids != sorted(ids):
                disorder.append(f"the ids of {lane} are not in the order in which it sent: {ids}")
        return disorder

    def _find_reused(self, found: Found) -> list[str]:
        """Ids of the lives before belong to what was there at their ends."""
        if len({message.id for message in found.messages}) != len(found.messages):
            return ["one id is used twice"]
        known = {message_id for ids in self.sent.values() for message_id in ids} | {*self.seen}
        newest = max((message.id for message in found.messages), default=0)
        return [f"the newest id is {newest}, and {max(known)} was told"] if known and max(known) > newest else []

    def _find_untold(self, found: Found) -> list[str]:
        """Changes without their events, events without their changes, and gaps."""
        untold: list[str] = []
        ids = [event_id for event_id, _, _ in found.events]
        if ids != list(range(1, len(ids) + 1)):
            untold.append(f"events are missing: {ids}")
        names = [name for _, name, agent in found.events if agent == SLEEPER and name in _PARKING]
        if names != [_PARKING[place % 2] for place in range(len(names))]:
            untold.append(f"what happened to {SLEEPER} is not told in order: {names}")
        counts = Counter(names)
        if found.is_sleeper_parked != (len(names) % 2 == 1):
            untold.append(f"{SLEEPER} is parked: {found.is_sleeper_parked}, and its events say otherwise: {counts}")
        notices = sum(message.sender == SYSTEM and message.recipient == MANAGER for message in found.messages)
        if notices != len(names):
            untold.append(f"the manager was told {notices} times of {len(names)} events")
        if not (self.parks <= counts[_PARKING[0]] and self.resumes <= counts[_PARKING[1]]):
            untold.append(f"{self.parks} parks and {self.resumes} resumes were confirmed, there are {counts}")
        self.parks, self.resumes = counts[_PARKING[0]], counts[_PARKING[1]]
        return untold

    def find_undelivered(self, found: Found) -> list[str]:
        """After all was received that could be: what was not."""
        left = [message for message in found.messages if message.recipient != OPERATOR]
        return [
            f"{message.id} ({read_label(message.body)[:40]}) is {message.state} after {message.deliveries} deliveries"
            for message in left
            if message.state is not MessageState.ACKED
            and not (message.state is MessageState.DEAD and message.deliveries >= DELIVERY_ATTEMPTS)
        ]


_PARKING = (EventName.AGENT_PARKED, EventName.AGENT_RESUMED)
