"""What a swarm sent, got and acked, and what of it breaks a promise of the broker."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from hyperhive.core.messages import DELIVERY_ATTEMPTS

# Who gets it, from whom, how urgent: among these the order is kept.
Line = tuple[str, str, str]
_SHOWN = 20
# Begins the bodies of what others than the swarm send.
NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Planned:
    """A message that a lane of an agent sends. `label` begins its body and names it."""

    label: str
    lane: str
    sender: str
    recipient: str
    priority: str


def read_label(body: str) -> str:
    return body.partition(" ")[0]


@dataclass(slots=True)
class History:
    """Written by one thread, as things happen. `broken` has what was seen to be broken at once."""

    planned: dict[str, Planned] = field(default_factory=dict[str, Planned])
    confirmed: dict[str, int] = field(default_factory=dict[str, int])
    # Refused, and never tried again.
    refused: set[str] = field(default_factory=set[str])
    refusals: Counter[str] = field(default_factory=Counter[str])
    seen: dict[int, str] = field(default_factory=dict[int, str])
    acked: set[int] = field(default_factory=set[int])
    came_again: int = 0
    repeated_sends: int = 0
    broken: list[str] = field(default_factory=list[str])
    _ids: dict[str, int] = field(default_factory=dict[str, int])
    _newest: dict[Line, int] = field(default_factory=dict[Line, int])
    _newest_of_lane: dict[str, int] = field(default_factory=dict[str, int])

    def note_confirmed(self, planned: Planned, message_id: int) -> None:
        known = self.confirmed.get(planned.label)
        if known is not None:
            self.repeated_sends += 1
        if known not in (None, message_id):
            self.broken.append(f"{planned.label} was {known}; sent again with its key it is {message_id}")
            return
        if known is None and message_id <= self._newest_of_lane.get(planned.lane, 0):
            self.broken.append(f"{planned.label} is {message_id}, and an earlier one of {planned.lane} is beyond that")
        self._newest_of_lane[planned.lane] = max(message_id, self._newest_of_lane.get(planned.lane, 0))
        self.confirmed[planned.label] = message_id
        self._note_id(planned.label, message_id)

    def note_got(self, name: str, message_id: int, body: str, is_held: bool) -> None:
        label = read_label(body)
        if label == NOISE:
            return
        planned = self.planned.get(label)
        if planned is None or planned.recipient != name:
            self.broken.append(f"{name} got {message_id} ({label[:80]}), which was never sent to it")
            return
        if message_id in self.acked:
            self.broken.append(f"{message_id} ({label}) was acked and came again")
        if is_held:
            self.broken.append(f"{message_id} ({label}) came to {name} again while it held it")
        self._note_id(label, message_id)
        if message_id in self.seen:
            self.came_again += 1
            return
        self.seen[message_id] = label
        line = (planned.sender, name, planned.priority)
        if message_id < self._newest.get(line, 0):
            self.broken.append(f"{message_id} ({label}) came to {name} after {self._newest[line]} of the same line")
        self._newest[line] = message_id

    def note_acked(self, ids: Sequence[int]) -> None:
        self.acked.update(ids)

    def _note_id(self, label: str, message_id: int) -> None:
        if self._ids.setdefault(label, message_id) != message_id:
            self.broken.append(f"{label} is there twice: as {self._ids[label]} and as {message_id}")
        known = self.seen.get(message_id, label)
        if known != label:
            self.broken.append(f"the id {message_id} is of {known} and of {label}")

    def find_broken(self, database: Path) -> list[str]:
        """All broken promises, once everything was handed out that could be. The daemon has ended."""
        rows, damages = _read(database)
        return (self.broken + damages + self._find_lost(rows) + self._find_unsettled(rows) + self._find_wrong(rows))[
            :_SHOWN
        ]

    def _find_lost(self, rows: "dict[int, _Row]") -> list[str]:
        lost = [
            f"{label} was confirmed as {message_id} and is lost"
            for label, message_id in self.confirmed.items()
            if message_id not in rows or rows[message_id].label != label
        ]
        lost += [
            f"{message_id} ({label}) was handed out and is lost"
            for message_id, label in self.seen.items()
            if message_id not in rows
        ]
        lost += [
            f"{message_id} was acked and is {rows[message_id].state}"
            for message_id in self.acked
            if message_id in rows and rows[message_id].state != "acked"
        ]
        return lost

    def _find_unsettled(self, rows: "dict[int, _Row]") -> list[str]:
        unsettled: list[str] = []
        for message_id, row in rows.items():
            if row.state == "acked" and message_id not in self.seen:
                unsettled.append(f"{message_id} ({row.label}) is acked, and nobody has ever got it")
            elif row.state == "dead" and row.failures < DELIVERY_ATTEMPTS:
                unsettled.append(f"{message_id} ({row.label}) is dead after {row.failures} failures")
            elif row.state not in ("acked", "dead"):
                unsettled.append(f"{message_id} ({row.label}) is still {row.state}")
        return unsettled

    def _find_wrong(self, rows: "dict[int, _Row]") -> list[str]:
        """What is there twice, though it was refused, or as nobody sent it."""
        wrong: list[str] = []
        by_label: dict[str, list[int]] = defaultdict(list)
        for message_id, row in rows.items():
            by_label[row.label].append(message_id)
            planned = self.planned.get(row.label)
            if planned is None or (planned.sender, planned.recipient) != (row.sender, row.recipient):
                wrong.append(f"{message_id} ({row.label}) from {row.sender} to {row.recipient} was never sent")
        wrong += [f"{label} is there as {ids}" for label, ids in by_label.items() if len(ids) > 1]
        wrong += [f"{label} was refused and is there" for label in self.refused if label in by_label]
        return wrong


@dataclass(frozen=True, slots=True)
class _Row:
    sender: str
    recipient: str
    state: str
    failures: int
    label: str


def _read(database: Path) -> tuple[dict[int, _Row], list[str]]:
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("pragma integrity_check").fetchall()
        damages = [] if found == [("ok",)] else [f"the database is damaged: {found}"]
        rows = connection.execute(
            "select id, sender, recipient, state, failures, substr(body, 1, 100) from message_rows"
            " where sender not in ('system', 'operator') and body not like ? || ' %'",
            (NOISE,),
        )
        return {
            row[0]: _Row(str(row[1]), str(row[2]), str(row[3]), int(row[4]), read_label(str(row[5]))) for row in rows
        }, damages
