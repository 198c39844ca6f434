"""Connections of the egress proxy to the outside: a name is looked up once, and its public addresses are tried."""

import asyncio
import contextlib
import socket
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from hyperhive.core.egress import Target, is_address, select_public

LOOKUP_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 20.0
# Of the addresses of one name. Some have very many.
ADDRESSES_LIMIT = 4
# A lookup can hold its thread for half a minute; nobody may take all of them.
LOOKUPS_EACH_LIMIT = 4
LOOKUPS_LIMIT = 64

T = TypeVar("T")
LookUp = Callable[[str], list[str]]
Place = tuple[str, int]


class NoTunnelError(Exception):
    """A request ends without a tunnel. `verdict` is refused (it may not be) or failed (it could not be).

    `status` is that of the answer, `rule` says by what, `reason` is for people.
    """

    def __init__(self, status: int, verdict: str, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.verdict = verdict
        self.rule = rule
        self.reason = reason


def look_up_addresses(name: str) -> list[str]:
    """All addresses of `name`, the best first. Blocks. Raises OSError, or UnicodeError for an odd name."""
    # With a dot at its end, no domain of this machine's own is tried behind it.
    whole = f"{name}." if "." in name else name
    found = socket.getaddrinfo(whole, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(entry[4][0]) for entry in found]


class Dialer:
    """`places` are the operator's: where a target's connections go instead, whatever the address.

    `connect` makes a connection to the first of some places that takes one; tests have one of their own.
    """

    def __init__(
        self,
        places: Mapping[Target, Place],
        look_up: LookUp = look_up_addresses,
        connect: Callable[[Sequence[Place]], Awaitable[socket.socket]] | None = None,
    ) -> None:
        self._places = places
        self._connect_first = connect or _connect_first
        self._look_up_now = look_up
        self._lookups = asyncio.Semaphore(LOOKUPS_LIMIT)
        self._lookups_of: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(LOOKUPS_EACH_LIMIT))

    async def connect(self, agent: str, target: Target) -> socket.socket:
        """A non-blocking socket that is connected. Raises NoTunnelError."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._connect(agent, target)
        except TimeoutError:
            raise NoTunnelError(504, "failed", "timeout", "it could not be reached in time") from None

    async def _connect(self, agent: str, target: Target) -> socket.socket:
        place = self._places.get(target)
        if place is not None:
            return await self._connect_first([place])
        found = [target.host] if is_address(target.host) else await self._look_up(agent, target.host)
        public = select_public(found)
        if not public:
            # Not which: what the names of the operator's own network stand for is nobody's business.
            raise NoTunnelError(403, "refused", "address", "it is at no public address")
        return await self._connect_first([(address, target.port) for address in public[:ADDRESSES_LIMIT]])

    async def _look_up(self, agent: str, name: str) -> list[str]:
        each = self._lookups_of[agent]
        await each.acquire()
        try:
            await self._lookups.acquire()
        except BaseException:
            each.release()
            raise
        answer = run_in_thread(lambda: self._look_up_now(name))

        def give_back(answer: asyncio.Future[list[str]]) -> None:
            # When the thread is done, however long somebody waited for it.
            answer.exception()
            self._lookups.release()
            each.release()

        answer.add_done_callback(give_back)
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                return await asyncio.shield(answer)
        except (OSError, UnicodeError) as error:
            raise NoTunnelError(502, "failed", "lookup", "its name could not be looked up") from error


def run_in_thread(work: Callable[[], list[str]]) -> asyncio.Future[list[str]]:
    """A thread of its own, which the end of the program does not wait for: a lookup cannot be interrupted."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def run() -> None:
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            _tell(loop, answer.set_exception, error)
        else:
            _tell(loop, answer.set_result, found)

    threading.Thread(target=run, name="egress-lookup", daemon=True).start()
    return answer


def _tell(loop: asyncio.AbstractEventLoop, tell: Callable[[T], None], value: T) -> None:
    # The loop may be closed by now.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell, value)


async def _connect_first(places: Sequence[Place]) -> socket.socket:
    """A connection to the first of `places` that takes one. Raises NoTunnelError."""
    each_s = CONNECT_TIMEOUT_S / len(places)
    for place in places:
        connection = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(each_s):
                await asyncio.get_running_loop().sock_connect(connection, place)
        except OSError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise NoTunnelError(502, "failed", "connect", "it takes no connection")
