"""What the model service itself refused of late, seen where the answers pass the gateway.

What a harness tells of a limit or a dead login is an agent's word. Before it parks all agents that share the hive's
credential, the daemon asks here whether it is so, and until when.
"""

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hyperhive.core.parking import check_reset
from hyperhive.system.clock import now
from hyperhive.system.http_types import Application, Receive, Scope, Send

LOGIN_REFUSED = 401
LIMIT_REACHED = 429
# claude tries for three minutes before it gives up, and tells then.
RECENT = timedelta(minutes=10)
_STATUSES = frozenset({LOGIN_REFUSED, LIMIT_REACHED})
_MESSAGES = "/v1/messages"
_WINDOW = b"anthropic-ratelimit-unified-"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`reset_at` is when the service said that it ends; None if it did not say."""

    at: datetime
    reset_at: datetime | None


class Refusals:
    """Remembers the last refusal of each agent's model requests, until one is answered well."""

    def __init__(self) -> None:
        self._refusals: dict[tuple[str, int], Refusal] = {}

    def watch(self, gateway: Callable[[str], Application]) -> Callable[[str], Application]:
        """The same applications, with their answers looked at as they pass."""

        def application(agent: str) -> Application:
            serve = gateway(agent)

            async def watched(scope: Scope, receive: Receive, send: Send) -> None:
                async def look(message: MutableMapping[str, Any]) -> None:
                    if message["type"] == "http.response.start" and scope["path"] == _MESSAGES:
                        self.note(agent, message["status"], message["headers"])
                    await send(message)

                await serve(scope, receive, look)

            return watched

        return application

    def note(self, agent: str, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes the beginning of an answer to one of the agent's requests."""
        if 200 <= status < 300:
            for known in _STATUSES:
                self._refusals.pop((agent, known), None)
        elif status in _STATUSES:
            named = {name.lower(): value for name, value in headers}
            # The service gives every answer a number; what the gateway refuses by itself has none.
            if b"request-id" in named:
                at = now()
                self._refusals[agent, status] = Refusal(at, _parse_reset(named, at))

    def find(self, agent: str, status: int) -> Refusal | None:
        """The last refusal of this agent with this status, if it was of late and nothing was answered well since."""
        refusal = self._refusals.get((agent, status))
        return refusal if refusal is not None and now() - refusal.at <= RECENT else None


def _parse_reset(headers: dict[bytes, bytes], at: datetime) -> datetime | None:
    if headers.get(_WINDOW + b"status") == b"rejected" and (reset_s := _parse_number(headers.get(_WINDOW + b"reset"))):
        return check_reset(datetime.fromtimestamp(reset_s, UTC), at)
    wait_s = _parse_number(headers.get(b"retry-after"))
    return None if wait_s is None else check_reset(at + timedelta(seconds=wait_s), at)


def _parse_number(value: bytes | None) -> int | None:
    # Ten digits are any second of the next two centuries.
    return int(value) if value is not None and value.isdigit() and len(value) <= 10 else None
