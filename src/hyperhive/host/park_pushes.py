"""Tells connected harnesses why they get no messages, whenever that changes; a new one is told with its hello."""

from collections.abc import Awaitable, Callable

import structlog

from hyperhive.core.errors import HiveError, UnavailableError
from hyperhive.core.parking import EVERYONE, Park
from hyperhive.host.link.server import LinkServer
from hyperhive.host.parking import Parking
from hyperhive.wire.agent_link import SET_PARK, ParkFields

log = structlog.get_logger(__name__)

PUSH_TIMEOUT_S = 10.0


def render_park(park: Park | None) -> ParkFields | None:
    """A park as the agent link tells it."""
    if park is None:
        return None
    until = "" if park.until is None else park.until.isoformat()
    return ParkFields(kind=park.kind.value, since=park.since.isoformat(), until=until, reason=park.reason)


class ParkPushes:
    """`soon` does work in the background. What is sent is what holds when it is sent: the last one told is true."""

    def __init__(self, parking: Parking, links: LinkServer, soon: Callable[[Awaitable[None]], None]) -> None:
        self._parking = parking
        self._links = links
        self._soon = soon

    def on_change(self, agent: str) -> None:
        """The listener of `Parking.on_change`."""
        for name in self._links.list_connected():
            if agent in {name, EVERYONE}:
                self._soon(self._push(name))

    async def _push(self, agent: str) -> None:
        try:
            connection = self._links.get_connection(agent)
            await connection.call(SET_PARK, {"park": render_park(self._parking.find(agent))}, PUSH_TIMEOUT_S)
        except UnavailableError:
            return
        except HiveError as error:
            log.warning("parking.not_told", agent=agent, message=error.message)
