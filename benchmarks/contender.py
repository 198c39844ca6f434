"""What the broker benchmarks ask of a broker: durable sends to blocked receivers that ack what they get."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

BODY_BYTES = 1024
RECEIVERS = 100
SENDERS = 32
# As the harness fetches them.
MESSAGES_PER_RECV = 8
_NUMBER_CHARS = 12

Confirmed = Callable[[], None]
Delivered = Callable[[int], None]


class Contender(Protocol):
    """A broker with RECEIVERS waiting connections and SENDERS sending ones, all in this process.

    `pid` is the server's, whose children belong to it; this process's if there is no server.
    """

    name: str
    pid: int

    def send(self, sender: int, receiver: int, number: int, confirmed: Confirmed) -> None:
        """Sends message `number`; `confirmed` is called once the broker says that it is durable."""
        ...

    def on_delivered(self, delivered: Delivered) -> None:
        """`delivered` is called with the number of each message that a receiver gets, before it acks that."""
        ...

    def pump(self, timeout_s: float) -> None: ...

    def pump_for(self, duration_s: float) -> None: ...

    def pump_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None: ...


class Peer(Contender, Protocol):
    """A contender that the hive is compared with: `title` says in the table what it is, with its version."""

    title: str


@dataclass(frozen=True, slots=True)
class Body:
    """A message of BODY_BYTES that begins with its number."""

    number: int

    def render(self) -> str:
        return f"{self.number:0{_NUMBER_CHARS}d}".ljust(BODY_BYTES, "x")


def parse_number(body: str | bytes) -> int:
    return int(body[:_NUMBER_CHARS])
