"""What is sent while the power is cut: each message follows from the seed, who sends it and its number.

So both sides know it: the program that is cut, which sends it, and the test, which looks for it afterwards. Each agent
sends on two lanes, each lane one message after the other; `label` names a message, and its body begins with it.
"""

import functools
from dataclasses import dataclass
from random import Random

from hyperhive.core.messages import EVERYBODY, Priority
from hyperhive.core.names import MANAGER, OPERATOR

AGENTS = ("alice", "bob", "carol", "dave", "eve")
# Is parked and released over and over; the manager is told of that by `system`.
SLEEPER = "sleeper"
EVERYONE = (*AGENTS, MANAGER, SLEEPER)
LANES = tuple(f"{sender}.{number}" for sender in (*AGENTS, OPERATOR) for number in (1, 2))
BROADCAST_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Planned:
    """`to` is an agent, the operator or EVERYBODY; `recipients` are all who get it."""

    label: str
    sender: str
    to: str
    priority: Priority
    body: str

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(name for name in EVERYONE if name != self.sender) if self.to == EVERYBODY else (self.to,)


@functools.lru_cache(maxsize=20_000)
def plan_message(seed: int, lane: str, number: int) -> Planned:
    sender = lane.partition(".")[0]
    random = Random(f"{seed} {lane} {number}")
    others = [name for name in (*AGENTS, MANAGER, OPERATOR) if name != sender]
    to = EVERYBODY if random.random() < BROADCAST_SHARE else random.choice(others)
    [priority] = random.choices(tuple(Priority), (1, 8, 1))
    [size] = random.choices((0, 100, 1024, 20_000), (1, 4, 8, 1))
    label = f"{lane}/{number}"
    return Planned(label, sender, to, priority, f"{label} {random.randbytes(size // 2).hex()}")


def plan_labelled(seed: int, label: str) -> Planned:
    """Raises ValueError if nothing of that label can have been sent."""
    lane, _, number = label.partition("/")
    if lane not in LANES:
        raise ValueError(label)
    return plan_message(seed, lane, int(number))


def read_label(body: str) -> str:
    return body.partition(" ")[0]
