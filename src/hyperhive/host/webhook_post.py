"""One request of a webhook: signed, to where the operator said and nowhere else."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.host.endpoint_client import EndpointClient
from hyperhive.host.endpoints import AddressBook, Endpoint, parse_endpoint

SIGNATURE_HEADER = "x-hive-signature"
TIMESTAMP_HEADER = "x-hive-timestamp"
ID_HEADER = "x-hive-id"
EVENT_HEADER = "x-hive-event"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is sent. `id` is the same at each attempt; 0 is a test."""

    id: int
    name: str
    content: dict[str, Any]


def parse_hook_url(url: str, *, private: bool) -> Endpoint:
    """Where a webhook goes. Raises InvalidInputError.

    Only https at its usual port, at public addresses; `private` lets other ports through, private addresses, and plain
    HTTP on the loopback.
    """
    try:
        return parse_endpoint(url, private=private)
    except InvalidInputError as error:
        hint = "https at a public address; HIVE_WEBHOOK_PRIVATE=1 lets others through"
        raise InvalidInputError("that is no address for a webhook", hint) from error


def render_signature(secret: str, timestamp_s: int, body: bytes) -> str:
    """`v1=` and HMAC-SHA256, in hex, over the timestamp, a dot and the body."""
    signed = f"{timestamp_s}.".encode() + body
    return f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class HookPoster:
    """`private` as for `parse_hook_url`; `tls` is for tests, with certificates of their own."""

    def __init__(self, addresses: AddressBook, *, private: bool, tls: SSLContext | bool = True) -> None:
        self._private = private
        self._client = EndpointClient(addresses, tls)

    async def post(self, url: str, secret: str, delivery: Delivery, timestamp_s: int) -> str:
        """Sends it once. Why it was not taken, empty if it was: only an answer of 2xx says that."""
        body = json.dumps(delivery.content, separators=(",", ":")).encode()
        headers = {
            "content-type": "application/json",
            "user-agent": "hyperhive",
            ID_HEADER: str(delivery.id),
            EVENT_HEADER: delivery.name,
            TIMESTAMP_HEADER: str(timestamp_s),
            SIGNATURE_HEADER: render_signature(secret, timestamp_s, body),
        }
        try:
            endpoint = parse_hook_url(url, private=self._private)
            reply = await self._client.post(endpoint, headers, body)
        except HiveError as error:
            return error.message
        return "" if 200 <= reply.status < 300 else f"{endpoint.host} answered {reply.status}"

    async def close(self) -> None:
        await self._client.close()
