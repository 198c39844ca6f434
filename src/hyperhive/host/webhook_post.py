"""One request of a webhook: signed, to where the operator said and nowhere else."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import httpx

from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.host.push.endpoints import AddressBook, Endpoint, parse_endpoint

TIMEOUT_S = 20.0
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
        self._addresses = addresses
        self._private = private
        self._tls = tls
        self._client: httpx.AsyncClient | None = None

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
            addresses = await self._addresses.find_addresses(endpoint)
        except HiveError as error:
            return error.message
        headers["host"] = endpoint.authority
        for address in addresses:
            try:
                return await self._post_to(address, endpoint, headers, body)
            except httpx.TransportError:
                continue
        return f"{endpoint.host} could not be reached"

    async def _post_to(self, address: str, endpoint: Endpoint, headers: dict[str, str], body: bytes) -> str:
        host = f"[{address}]" if ":" in address else address
        url = f"{endpoint.scheme}://{host}:{endpoint.port}{endpoint.target}"
        # The certificate must be the name's: it is connected to by address so that nobody looks it up once more.
        extensions = {"sni_hostname": endpoint.host}
        async with self._open_client().stream(
            "POST", url, headers=headers, content=body, extensions=extensions
        ) as response:
            # What else it says is not read, and a redirect is not followed.
            return "" if response.is_success else f"{endpoint.host} answered {response.status_code}"

    def _open_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=self._tls,
                timeout=TIMEOUT_S,
                limits=httpx.Limits(max_connections=16, max_keepalive_connections=2),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
