"""The agent link: the harness's side of `wire.agent_link`, over a connection that comes and goes with the daemon."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hyperhive import __version__
from hyperhive.core.errors import ConflictError, HiveError, UnavailableError
from hyperhive.harness.peer import Answer, ConnectionLostError, Late, Peer
from hyperhive.wire.agent_link import HELLO, PROTOCOL_VERSION, HelloParams
from hyperhive.wire.jsonrpc import LINE_LIMIT_BYTES, ProtocolError

log = logging.getLogger("hive.link")

# A hundred harnesses that come back at once are all connected within a second (facts: restart measurements).
_RETRY_FIRST_S = 0.01
_RETRY_FACTOR = 1.6
_RETRY_LIMIT_S = 1.0
# A connection that lived this long was a good one: after it the back-off starts anew.
_GOOD_CONNECTION_S = 1.0
_HELLO_TIMEOUT_S = 10.0


class SupersededError(Exception):
    """The daemon knows a newer start of this container: this harness is to end."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """The daemon's answer to hello. `config` and `park` are what it sent as such, not looked at."""

    agent: str
    manager: bool
    events_stored_seq: int
    config: object
    park: object = None


class Link:
    """Requests to the daemon, kept over its restarts, and its requests to us.

    `holding` tells the ids of the leased messages at each connect; `greeted` is called after each hello, before any
    other request; `answer` answers the daemon. Every request here may be repeated (see `wire.agent_link`), so one
    whose connection broke is simply made again on the next.
    """

    def __init__(
        self,
        socket: Path,
        generation: int,
        holding: Callable[[], Sequence[int]],
        greeted: Callable[[Greeting], None],
        answer: Answer,
    ) -> None:
        self._socket = socket
        self._generation = generation
        self._holding = holding
        self._greeted = greeted
        self._answer = answer
        self._peer: Peer | None = None
        self._connected = asyncio.Event()

    async def run(self) -> NoReturn:
        """Keeps the connection up for ever. Raises SupersededError when another harness took this one's place."""
        delay_s, told = _RETRY_FIRST_S, ""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            try:
                await self._serve_connection()
                trouble = "the daemon closed the connection"
            except ConflictError as error:
                raise SupersededError(error.message) from error
            except (OSError, ProtocolError, HiveError, TimeoutError) as error:
                trouble = f"{type(error).__name__}: {error}"
            if clock() - began >= _GOOD_CONNECTION_S:
                delay_s, told = _RETRY_FIRST_S, ""
            if trouble != told:
                log.warning("no link to the daemon, trying again: %r", trouble)
                told = trouble
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311  # only spreads the retries
            delay_s = min(delay_s * _RETRY_FACTOR, _RETRY_LIMIT_S)

    def is_connected(self) -> bool:
        """Whether there is a daemon that has answered hello."""
        return self._connected.is_set()

    async def request(
        self, method: str, params: Any, *, deadline_s: float | None = None, late: Late | None = None
    ) -> Any:
        """The daemon's answer; waits for the connection when there is none.

        Raises the HiveError it was refused with, or UnavailableError when `deadline_s` passed: then it is not known
        whether it was done. `late` gets an answer that comes after the caller gave up.
        """
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    await self._connected.wait()
                    peer = self._peer
                    if peer is None:
                        raise AssertionError("connected without a peer")
                    try:
                        return await peer.request(method, params, late)
                    except ConnectionLostError:
                        self._forget(peer)
        except TimeoutError as error:
            raise UnavailableError(
                f"the hive's daemon did not answer within {deadline_s:g} s", "try again later"
            ) from error

    async def _serve_connection(self) -> None:
        """One connection from connect to end. Raises what ended it, unless it is the daemon that closed it."""
        reader, writer = await asyncio.open_unix_connection(str(self._socket), limit=LINE_LIMIT_BYTES)
        peer = Peer(reader, writer, self._answer)
        reading = asyncio.create_task(peer.run())
        try:
            try:
                await self._greet(peer)
            except ConnectionLostError:
                await reading  # tells why, if there is more to tell than that it ended
                return
            await reading
        finally:
            self._forget(peer)
            peer.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _greet(self, peer: Peer) -> None:
        params = HelloParams(
            protocol=PROTOCOL_VERSION,
            generation=self._generation,
            holding=list(self._holding()),
            version=__version__,
        )
        async with asyncio.timeout(_HELLO_TIMEOUT_S):
            hello = _parse_hello(await peer.request(HELLO, {**params}))
        log.info("linked as %r", hello.agent)
        self._greeted(hello)
        self._peer = peer
        self._connected.set()

    def _forget(self, peer: Peer) -> None:
        if self._peer is peer:
            self._peer = None
            self._connected.clear()


def _parse_hello(answer: Any) -> Greeting:
    match answer:
        case {"agent": str(agent), "manager": bool(manager), "events_stored_seq": int(stored_seq), **rest}:
            # A config that is no good is no reason to be without a link: the operator is told over it.
            return Greeting(agent, manager, stored_seq, rest.get("config"), rest.get("park"))
        case _:
            raise UnavailableError("the daemon's answer to hello is not one", "the daemon and the harness differ")
