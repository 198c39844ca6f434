"""The model gateway: what an agent asks of the Messages API goes through its own socket and is recorded.

Only the calls a conversation needs are forwarded. With a credential of the hive's, whatever the container put
into the authorization headers is replaced: the container never holds it. Without one they pass untouched.
"""

import json
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import structlog

from hyperhive.core.errors import StorageError
from hyperhive.host.settings import Credential
from hyperhive.host.store.store import Store
from hyperhive.host.usage import Usage, UsageReader
from hyperhive.system.http_types import Application, Receive, Scope, Send

log = structlog.get_logger(__name__)

FORWARDED = frozenset({("POST", "/v1/messages"), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models")})
# The Messages API refuses more than 32 MB itself.
BODY_LIMIT_BYTES = 32 * 1024 * 1024
# Between two pieces of an answer: thinking can be silent for minutes.
READ_TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 10.0
# An agent's own requests at once; sub-agents and retries of one claude stay well below.
IN_FLIGHT_LIMIT = 16

_OAUTH_BETA = "oauth-2025-04-20"
_DROPPED = frozenset(
    {
        "connection",
        "content-length",
        "content-encoding",
        "accept-encoding",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "cookie",
        "set-cookie",
    }
)


@dataclass(slots=True)
class _Exchange:
    """One request on its way, for the record."""

    agent: str
    path: str
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    first_byte_ms: int = 0

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.began) * 1000)


class RequestTooLargeError(Exception):
    """The body of a request is over BODY_LIMIT_BYTES."""


class Gateway:
    """Forwards to one upstream. `application` gives what serves an agent's model.sock."""

    def __init__(self, upstream: str, credential: Credential | None, telemetry: Store) -> None:
        self._upstream = upstream.rstrip("/")
        self._credential = credential
        self._telemetry = telemetry
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            follow_redirects=False,
            trust_env=False,
        )
        self._running: dict[str, int] = {}

    def application(self, agent: str) -> Application:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._serve(agent, scope, receive, send)

        return serve

    async def close(self) -> None:
        await self._client.aclose()

    async def _serve(self, agent: str, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) not in FORWARDED:
            await _send_error(send, 404, "not_found_error", "the hive's gateway does not forward this")
            return
        if self._running.get(agent, 0) >= IN_FLIGHT_LIMIT:
            await _send_error(send, 429, "rate_limit_error", f"over {IN_FLIGHT_LIMIT} requests at once")
            return
        self._running[agent] = self._running.get(agent, 0) + 1
        exchange = _Exchange(agent, scope["path"])
        usage = UsageReader()
        try:
            await self._forward(exchange, usage, scope, receive, send)
        finally:
            self._running[agent] -= 1
            await self._record(exchange, usage.usage)

    async def _forward(
        self, exchange: _Exchange, usage: UsageReader, scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = False
        try:
            body = await _read_body(receive)
            request = self._client.build_request(
                scope["method"],
                self._upstream + scope["path"],
                params=scope["query_string"] or None,
                headers=self._request_headers(scope["headers"]),
                content=body,
            )
            response = await self._client.send(request, stream=True)
            exchange.status, exchange.first_byte_ms = response.status_code, exchange.elapsed_ms()
            try:
                await send(_start(response))
                started = True
                async for piece in _pieces(response, usage):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            finally:
                await response.aclose()
            await send({"type": "http.response.body", "body": b""})
        except RequestTooLargeError:
            exchange.status = 413
            await _send_error(send, 413, "request_too_large", f"over {BODY_LIMIT_BYTES} bytes")
        except httpx.HTTPError as error:
            log.warning("gateway.upstream_failed", agent=exchange.agent, error=type(error).__name__)
            if started:
                # An answer that broke off has to look broken, or claude takes half an answer for a whole one.
                raise ConnectionError("the upstream broke off") from error
            exchange.status = 502
            await _send_error(send, 502, "api_error", "the hive's gateway cannot reach the model service")

    def _request_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
        """What goes upstream: end-to-end headers, with the hive's credential in place of the container's."""
        kept = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in headers
            if name.decode("latin-1").lower() not in _DROPPED
        ]
        # Compressed answers could not be metered on their way through.
        kept.append(("accept-encoding", "identity"))
        if self._credential is None:
            return kept
        kept = [(name, value) for name, value in kept if name.lower() not in {"authorization", "x-api-key"}]
        secret = self._credential.value.get_secret_value()
        if self._credential.kind == "api_key":
            return [*kept, ("x-api-key", secret)]
        betas = [value for name, value in kept if name.lower() == "anthropic-beta"]
        if not any(_OAUTH_BETA in value for value in betas):
            kept = [(name, value) for name, value in kept if name.lower() != "anthropic-beta"]
            kept.append(("anthropic-beta", ",".join([*betas, _OAUTH_BETA])))
        return [*kept, ("authorization", f"Bearer {secret}")]

    async def _record(self, exchange: _Exchange, usage: Usage) -> None:
        at_ms = int(time.time() * 1000)
        total_ms = exchange.elapsed_ms()
        record = self._telemetry.write(
            lambda tx: tx.list(
                "insert_model_request",
                agent=exchange.agent,
                at=at_ms,
                path=exchange.path,
                model=usage.model[:200],
                status=exchange.status,
                first_byte_ms=exchange.first_byte_ms,
                total_ms=total_ms,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_creation_tokens=usage.cache_creation_tokens,
                cache_read_tokens=usage.cache_read_tokens,
            )
        )
        try:
            await record
        except StorageError as error:
            # The request was answered: a full disk must not undo that.
            log.warning("gateway.not_recorded", agent=exchange.agent, message=error.message)


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.RequestError("the container hung up")
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT_BYTES:
            raise RequestTooLargeError
        if not message.get("more_body"):
            return bytes(body)


def _start(response: httpx.Response) -> dict[str, Any]:
    headers = [
        (name.lower(), value) for name, value in response.headers.raw if name.decode("latin-1").lower() not in _DROPPED
    ]
    return {"type": "http.response.start", "status": response.status_code, "headers": headers}


async def _pieces(response: httpx.Response, usage: UsageReader) -> AsyncIterator[bytes]:
    streaming = response.headers.get("content-type", "").startswith("text/event-stream")
    async for piece in response.aiter_raw():
        usage.feed(piece, streaming)
        yield piece
    usage.end(streaming)


async def _send_error(send: Send, status: int, kind: str, message: str) -> None:
    """An error in the Messages API's own form, so that claude reports it as one."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
