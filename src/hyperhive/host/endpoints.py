"""Where a push goes: an address that a browser gave, and so anyone with an operator session.

The daemon sends a request there. It must not be a way into the operator's network: only https at the usual port, and
only to public addresses, looked up once for each request, so that what was judged is what is connected to.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from hyperhive.core.egress import HTTPS_PORT, BadConnectError, is_address, parse_target, select_public
from hyperhive.core.errors import InvalidInputError, UnavailableError
from hyperhive.host.egress_dial import look_up_addresses, run_in_thread

URL_LIMIT_CHARS = 1000
LOOKUP_TIMEOUT_S = 10.0
# Of the addresses of one name. Some have very many.
ADDRESSES_LIMIT = 2

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_HINT = "take the endpoint from PushSubscription.toJSON()"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A push service and the path of one subscription at it."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As it stands in the Host header: without the port that the scheme has anyway."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = HTTPS_PORT if self.scheme == "https" else 80
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Whom the token of a request is for."""
        return f"{self.scheme}://{self.authority}"


def parse_endpoint(url: str, *, private: bool = False) -> Endpoint:
    """The endpoint of a subscription. Raises InvalidInputError for what no push service would give.

    `private` lets other ports through, private addresses, and plain HTTP on the loopback.
    """
    if len(url) > URL_LIMIT_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidInputError("that is no address of a push service", _HINT)
    parts, port = _split(url)
    _check_parts(parts)
    try:
        host = parse_target(f"{_bracket(parts.hostname or '')}:{port}").host
    except BadConnectError as error:
        raise InvalidInputError(f"that is no address of a push service: {error.reason}", _HINT) from error
    if parts.scheme != "https" and not (private and parts.scheme == "http" and host in _LOOPBACK):
        raise InvalidInputError("a push service is reached by https", _HINT)
    if not private and port != HTTPS_PORT:
        raise InvalidInputError(f"a push service is reached at port {HTTPS_PORT}", _HINT)
    if not private and is_address(host) and not select_public([host]):
        raise InvalidInputError("the push service is at no public address", _HINT)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(parts.scheme, host, port, target)


def _split(url: str) -> tuple[SplitResult, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInputError("that is no address of a push service", _HINT) from error
    return parts, (80 if parts.scheme == "http" else HTTPS_PORT) if port is None else port


def _check_parts(parts: SplitResult) -> None:
    if parts.username is not None or parts.password is not None or parts.fragment or "\\" in parts.netloc:
        raise InvalidInputError("an endpoint has neither a user nor a fragment", _HINT)


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class AddressBook:
    """Finds the addresses that a request may go to. `look_up` blocks: it gets a thread of its own."""

    def __init__(self, *, private: bool = False, look_up: Callable[[str], list[str]] = look_up_addresses) -> None:
        self._private = private
        self._look_up = look_up

    async def find_addresses(self, endpoint: Endpoint) -> list[str]:
        """At least one. Raises UnavailableError: not found, not in time, or not a public one."""
        if is_address(endpoint.host):
            found = [endpoint.host]
        else:
            found = await self._find_names_addresses(endpoint.host)
        allowed = list(dict.fromkeys(found)) if self._private else select_public(found)
        if not allowed:
            raise UnavailableError(f"{endpoint.host} is at no public address")
        return allowed[:ADDRESSES_LIMIT]

    async def _find_names_addresses(self, name: str) -> list[str]:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                return await run_in_thread(lambda: self._look_up(name))
        except (OSError, UnicodeError) as error:
            raise UnavailableError(f"{name} could not be looked up") from error
