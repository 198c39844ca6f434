"""One request to a push service (RFC 8030), and what its answer means."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from ssl import SSLContext

from hyperhive.core.errors import UnavailableError
from hyperhive.host.endpoint_client import EndpointClient
from hyperhive.host.endpoints import AddressBook, parse_endpoint
from hyperhive.host.push.encryption import BrowserKeys, encrypt
from hyperhive.host.push.vapid import Vapid
from hyperhive.system.clock import now

RETRY_LIMIT_S = 3600.0


class Fate(Enum):
    TAKEN = auto()
    # the subscription is over: the browser ended it, or was cleared
    GONE = auto()
    # not now
    LATER = auto()
    # never, as it is
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a push; `reason` is for people, `retry_s` what the service asks to wait."""

    fate: Fate
    reason: str = ""
    retry_s: float | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """What is sent. `topic` replaces an older push of that topic which the service still holds."""

    content: bytes
    ttl_s: int
    urgency: str
    topic: str


class Poster:
    """Sends pushes. `private` as for `parse_endpoint`; `tls` is for tests, with certificates of their own."""

    def __init__(
        self, vapid: Vapid, addresses: AddressBook, *, private: bool = False, tls: SSLContext | bool = True
    ) -> None:
        self._vapid = vapid
        self._private = private
        self._client = EndpointClient(addresses, tls)

    @property
    def public_key(self) -> str:
        """What a browser subscribes with."""
        return self._vapid.public_key

    async def post(self, url: str, keys: BrowserKeys, push: Push) -> Answer:
        """Sends one push; every failure is an answer."""
        endpoint = parse_endpoint(url, private=self._private)
        headers = {
            "authorization": self._vapid.render_authorization(endpoint.origin, now()),
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(push.ttl_s),
            "urgency": push.urgency,
            "topic": push.topic,
        }
        try:
            reply = await self._client.post(endpoint, headers, encrypt(push.content, keys))
        except UnavailableError as error:
            return Answer(Fate.LATER, error.message)
        return decide_fate(reply.status, reply.retry_after, now())

    async def close(self) -> None:
        await self._client.close()


def decide_fate(status: int, retry_after: str, at: datetime) -> Answer:
    """What an answer means: a redirect, like all that is not known, is a refusal."""
    if 200 <= status < 300:
        return Answer(Fate.TAKEN)
    reason = f"the push service answered {status}"
    if status in {404, 410}:
        return Answer(Fate.GONE, reason)
    if status == 429 or status >= 500:
        return Answer(Fate.LATER, reason, parse_retry_after(retry_after, at))
    return Answer(Fate.REFUSED, reason)


def parse_retry_after(text: str, at: datetime) -> float | None:
    """The seconds that a Retry-After header asks for, an hour at most; None if it asks for nothing that is known."""
    if text.isdecimal() and len(text) <= 9:
        return min(float(text), RETRY_LIMIT_S)
    try:
        until = parsedate_to_datetime(text[:100])
    except ValueError:
        return None
    # A date that names no zone is UTC, too.
    until = until.replace(tzinfo=UTC) if until.tzinfo is None else until
    return min(max((until - at).total_seconds(), 0.0), RETRY_LIMIT_S)
