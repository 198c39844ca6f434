"""The port that each agent's page has had since the first hyperhive: a function of the name, remembered nowhere.

900 ports are few: of 36 agents two have the same one as often as not.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hyperhive.core.names import MANAGER

MANAGER_PORT = 8000
FIRST_PORT = 8100
PORTS = 900

# What a browser calls the loopback, where all pages are.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")

# FNV-1a with 32 bits.
_OFFSET_BASIS = 0x811C9DC5
_PRIME = 0x01000193


@dataclass(frozen=True, slots=True)
class Collision:
    """Agents that have the same port, in the order in which they were given."""

    port: int
    names: tuple[str, ...]


def find_agent_port(name: str) -> int:
    """The port of an agent, or of the manager."""
    return MANAGER_PORT if name == MANAGER else FIRST_PORT + _hash(name) % PORTS


def find_collisions(names: Iterable[str]) -> list[Collision]:
    """The ports that more than one of `names` has, the lowest first."""
    by_port: dict[int, list[str]] = {}
    for name in names:
        by_port.setdefault(find_agent_port(name), []).append(name)
    return [Collision(port, tuple(found)) for port, found in sorted(by_port.items()) if len(found) > 1]


def _hash(text: str) -> int:
    value = _OFFSET_BASIS
    for byte in text.encode("ascii"):
        value = (value ^ byte) * _PRIME & 0xFFFFFFFF
    return value
