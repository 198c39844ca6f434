"""Posts to an endpoint at the addresses that were looked up and judged: nobody looks the name up once more."""

from collections.abc import Mapping
from dataclasses import dataclass
from ssl import SSLContext

import httpx

from hyperhive.core.errors import UnavailableError
from hyperhive.host.endpoints import AddressBook, Endpoint

TIMEOUT_S = 20.0
_CONNECTIONS_LIMIT = 16
_IDLE_LIMIT = 2


@dataclass(frozen=True, slots=True)
class Reply:
    """All that is read of an answer. `retry_after` is that header, empty if it is missing."""

    status: int
    retry_after: str


class EndpointClient:
    """`tls` is for tests, with certificates of their own."""

    def __init__(self, addresses: AddressBook, tls: SSLContext | bool = True) -> None:
        self._addresses = addresses
        self._tls = tls
        self._client: httpx.AsyncClient | None = None

    async def post(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Reply:
        """Asks once, at the first of the addresses that can be reached. A redirect is not followed.

        Raises UnavailableError if the name has no address that may be asked, or none could be reached.
        """
        for address in await self._addresses.find_addresses(endpoint):
            try:
                return await self._post_to(address, endpoint, headers, body)
            except httpx.TransportError:
                continue
        raise UnavailableError(f"{endpoint.host} could not be reached", "it is tried again later")

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _post_to(self, address: str, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Reply:
        host = f"[{address}]" if ":" in address else address
        url = f"{endpoint.scheme}://{host}:{endpoint.port}{endpoint.target}"
        # The certificate must be the name's, whatever address is asked.
        async with self._open_client().stream(
            "POST",
            url,
            headers={"host": endpoint.authority, **headers},
            content=body,
            extensions={"sni_hostname": endpoint.host},
        ) as response:
            return Reply(response.status_code, response.headers.get("retry-after", ""))

    def _open_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=self._tls,
                timeout=TIMEOUT_S,
                limits=httpx.Limits(max_connections=_CONNECTIONS_LIMIT, max_keepalive_connections=_IDLE_LIMIT),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client
