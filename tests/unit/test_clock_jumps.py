"""When the machine's clock is set: deadlines move with it, and nothing expires that was not due."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hyperhive.host.clock_jumps import ClockJumps
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import SteadyClock

HOUR_S = 3600.0
DEADLINE_MS = 5_000_000


@dataclass
class Machine:
    """A machine's clocks, and the daemon's."""

    wall_s: float = 1_000_000.0
    elapsed_s: float = 100.0
    clock: SteadyClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = SteadyClock(lambda: self.wall_s, lambda: self.elapsed_s)

    def go_on(self, seconds: float) -> None:
        self.wall_s += seconds
        self.elapsed_s += seconds


def test_a_steady_clock_goes_on_when_the_machines_clock_is_set() -> None:
    machine = Machine()
    machine.wall_s += HOUR_S
    machine.go_on(10)
    assert machine.clock.read_s() == 1_000_010
    assert machine.clock.find_jump_s() == HOUR_S
    machine.clock.move(HOUR_S)
    assert machine.clock.read_s() == machine.wall_s
    assert machine.clock.find_jump_s() == 0


def test_a_steady_clock_follows_a_clock_that_is_set_little_by_little() -> None:
    machine = Machine()
    for _ in range(100):
        machine.go_on(60)
        machine.wall_s -= 1
        assert machine.clock.read_s() == machine.wall_s
    assert machine.clock.find_jump_s() == 0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """With messages and a question that have deadlines."""
    store = Store(tmp_path / "hive.sqlite", "hive")
    await store.write(fill)
    yield store
    store.close()


def fill(tx: Transaction) -> None:
    for number, state in enumerate(("queued", "leased", "acked"), 1):
        sent = ("alice", "bob", 1, 0, DEADLINE_MS, None, None, None, None, state, 1, 0)
        tx.insert_many("insert_sent", [(number, *sent)])
    question = {"kind": "question", "agent": "alice", "asked": "operator", "question": "?", "options": "[]", "multi": 0}
    tx.list("insert_question", **question, at=0, expires_at=DEADLINE_MS, key="key-of-one")


async def read_deadlines(store: Store) -> tuple[list[int], list[int]]:
    def look(tx: Transaction) -> tuple[list[int], list[int]]:
        messages = [row["expires_at"] for row in tx.list("list_leased", recipient="bob")]
        questions = [row["expires_at"] for row in tx.list("list_questions", status="open", everyone=1)]
        return messages, questions

    return await store.write(look)


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S, 24 * HOUR_S])
async def test_deadlines_move_by_as_much_as_the_clock_was_set(store: Store, jump_s: float) -> None:
    machine = Machine()
    jumps = ClockJumps(store, machine.clock)
    await jumps.look()
    assert await read_deadlines(store) == ([DEADLINE_MS], [DEADLINE_MS])
    machine.wall_s += jump_s
    await jumps.look()
    await jumps.look()
    moved = DEADLINE_MS + int(jump_s * 1000)
    assert await read_deadlines(store) == ([moved], [moved])
    assert datetime.fromtimestamp(machine.clock.read_s(), UTC) == datetime.fromtimestamp(machine.wall_s, UTC)


async def test_a_jump_is_not_followed_when_the_disk_refuses(store: Store) -> None:
    machine = Machine()
    jumps = ClockJumps(store, machine.clock)
    # Nothing is stored any more.
    store.close()
    machine.wall_s += HOUR_S
    await jumps.look()
    assert machine.clock.find_jump_s() == HOUR_S
    assert machine.clock.read_s() == 1_000_000
