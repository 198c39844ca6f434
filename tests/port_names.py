"""Names of agents for tests of their ports, found by looking: ports are the machine's, not the test's own."""

import itertools
import socket
from collections.abc import Iterator

from hyperhive.core.ports import find_agent_port


def find_free_name() -> str:
    """A name whose port nobody has just now."""
    return next(name for name in _list_names() if _is_free(find_agent_port(name)))


def find_twins() -> tuple[str, str]:
    """Two names with the same port, which nobody has just now."""
    by_port: dict[int, str] = {}
    for name in _list_names():
        port = find_agent_port(name)
        if port in by_port and _is_free(port):
            return by_port[port], name
        by_port.setdefault(port, name)
    raise AssertionError("every port is taken")


def _list_names() -> Iterator[str]:
    return (f"agent-{number}" for number in itertools.islice(itertools.count(), 5000))


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
