"""The model gateway: what an agent asks of the Messages API goes through its own socket, within its budget.

Only the calls a conversation needs are forwarded. With a credential of the hive's, whatever the container put
into the authorization headers is replaced: the container never holds it. Without one they pass untouched.

A request for an answer is admitted first (`host.budgets`), and charged when it ends, in memory and before anything
else may begin; then it is recorded. A container that hangs up does not make it cheaper.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import httpx
import structlog

from hyperhive.core.budgets import Tokens
from hyperhive.core.errors import HiveError, StorageError
from hyperhive.core.model_requests import Answered, ModelRequest, decide_charge, parse_model_request
from hyperhive.core.quotas import Quota, Use
from hyperhive.host.admissions import BudgetSpentError, Ticket
from hyperhive.host.budgets import Budgets
from hyperhive.host.gateway_places import Places
from hyperhive.host.model_headers import plan_answer_headers, plan_request_headers
from hyperhive.host.settings import Credential
from hyperhive.host.store.store import Store
from hyperhive.host.usage import UsageReader
from hyperhive.system.http_types import Application, Receive, Scope, Send

log = structlog.get_logger(__name__)

T = TypeVar("T")

MESSAGES = "/v1/messages"
FORWARDED = frozenset({("POST", MESSAGES), ("POST", "/v1/messages/count_tokens"), ("GET", "/v1/models")})
# The Messages API refuses more than 32 MB itself.
BODY_LIMIT_BYTES = 32 * 1024 * 1024
# Between two pieces of an answer: thinking can be silent for minutes.
READ_TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 10.0
# What a client that is refused for being many is to wait.
RETRY_AFTER_S = 2
# How long an answer nobody wants any more goes on for what it costs to be told.
START_TIMEOUT_S = 3.0


@dataclass(slots=True)
class _Exchange:
    """One request on its way: what is known of it so far. `ticket` is set once it was admitted.

    `given_up`: nobody waited any more before the answer began, so what it cost will never be known.
    Only what was `forwarded` is recorded: a refusal costs nothing to ask for, and must not fill the disk.
    """

    agent: str
    path: str
    began: float = field(default_factory=time.monotonic)
    request: ModelRequest | None = None
    ticket: Ticket | None = None
    forwarded: bool = False
    given_up: bool = False
    status: int = 0
    first_byte_ms: int = 0
    reader: UsageReader = field(default_factory=UsageReader)
    # how much of its body is held
    held_bytes: int = 0

    def elapsed_ms(self) -> int:
        return int((time.monotonic() - self.began) * 1000)

    def decide_charge(self) -> Tokens:
        """What it took. Only an answer costs something, not a refusal, and not what was never sent."""
        if self.request is None or not (self.given_up or 200 <= self.status < 300):
            return Tokens()
        answered = Answered(
            reported=self.reader.usage.to_tokens(),
            started=self.reader.started,
            complete=self.reader.complete,
            streamed_bytes=self.reader.streamed_bytes,
            elapsed_ms=self.elapsed_ms() - self.first_byte_ms,
        )
        return decide_charge(self.request, answered)


class RequestTooLargeError(Exception):
    """The body of a request is over BODY_LIMIT_BYTES."""


class TooMuchError(Exception):
    """What the requests on their way hold together is over a limit."""


class HungUpError(Exception):
    """The container does not wait for the answer any more."""


class Gateway:
    """Forwards to one upstream. `application` gives what serves an agent's model.sock."""

    def __init__(
        self,
        upstream: str,
        credential: Credential | None,
        telemetry: Store,
        budgets: Budgets,
        places: Places | None = None,
        note_refused: Callable[[str, Quota, str], None] = lambda agent, quota, detail: None,
    ) -> None:
        """`note_refused` is told of each request that is one too many: whose, by which quota, and why in words."""
        self._upstream = upstream.rstrip("/")
        self._credential = credential
        self._telemetry = telemetry
        self._budgets = budgets
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            follow_redirects=False,
            trust_env=False,
        )
        self._places = places or Places()
        self._note_refused = note_refused
        self._serving: set[asyncio.Task[Any]] = set()
        self._closed = False

    def application(self, agent: str) -> Application:
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await self._serve(agent, scope, receive, send)

        return serve

    def list_uses(self, agent: str) -> list[Use]:
        """What an agent takes of it now."""
        return self._places.list_uses(agent, time.monotonic())

    def forget(self, agent: str) -> None:
        """Of an agent that is gone for good."""
        self._places.forget(agent)

    async def close(self) -> None:
        """Breaks off what is still on its way, and records it."""
        self._closed = True
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._client.aclose()

    async def _serve(self, agent: str, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) not in FORWARDED:
            await _send_error(send, 404, "not_found_error", "the hive's gateway does not forward this")
            return
        refused = self._places.take(agent, time.monotonic())
        if refused is not None:
            await self._refuse(agent, *refused, send)
            return
        exchange = _Exchange(agent, scope["path"])
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            await self._answer(exchange, scope, receive, send)
        except HungUpError:
            log.debug("gateway.hung_up", agent=agent)
        except asyncio.CancelledError:
            if not self._closed:
                raise
            exchange.given_up = exchange.forwarded and not exchange.status
        finally:
            self._places.give_back(agent, exchange.held_bytes)
            await self._finish(exchange)
            self._serving.discard(serving)

    async def _answer(self, exchange: _Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._read_body(exchange, receive)
        except RequestTooLargeError:
            await _send_error(send, 413, "request_too_large", f"over {BODY_LIMIT_BYTES} bytes")
            return
        except TooMuchError:
            detail = "the requests on their way are too large together"
            await self._refuse(exchange.agent, Quota.REQUEST_BYTES, detail, send)
            return
        async with _Caller(receive) as caller:
            if exchange.path == MESSAGES and not await self._admit(exchange, body, caller, send):
                return
            await self._forward(exchange, scope, body, caller, send)

    async def _refuse(self, agent: str, quota: Quota, detail: str, send: Send) -> None:
        self._note_refused(agent, quota, detail)
        await _send_error(send, 429, "rate_limit_error", detail)

    async def _read_body(self, exchange: _Exchange, receive: Receive) -> bytes:
        """Raises RequestTooLargeError, TooMuchError, and HungUpError for a container that left."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HungUpError
            piece = message.get("body", b"")
            if len(body) + len(piece) > BODY_LIMIT_BYTES:
                raise RequestTooLargeError
            if not self._places.hold(exchange.agent, len(piece)):
                raise TooMuchError
            exchange.held_bytes += len(piece)
            body += piece
            if not message.get("more_body"):
                return bytes(body)

    async def _admit(self, exchange: _Exchange, body: bytes, caller: "_Caller", send: Send) -> bool:
        """Waits for the budgets; False if the request was refused. Raises HungUpError for a container that left."""
        exchange.request = parse_model_request(body)
        try:
            exchange.ticket = await caller.while_there(self._budgets.admit(exchange.agent, exchange.request))
        except BudgetSpentError as error:
            # The agent is parked before it hears of it, so that what it then tells of a limit is understood.
            await self._budgets.settle(exchange.agent)
            await _send_error(send, 402, "billing_error", self._budgets.render_refusal(error.name))
        except HiveError as error:
            log.warning("gateway.budget_unknown", agent=exchange.agent, message=error.message)
            await _send_error(send, 503, "api_error", "the hive cannot tell this agent's budget now")
        return exchange.ticket is not None

    async def _forward(self, exchange: _Exchange, scope: Scope, body: bytes, caller: "_Caller", send: Send) -> None:
        started = False
        try:
            request = self._client.build_request(
                scope["method"],
                self._upstream + scope["path"],
                params=scope["query_string"] or None,
                headers=plan_request_headers(scope["headers"], self._credential),
                content=body,
            )
            exchange.forwarded = True
            response = await self._send(exchange, request, caller)
            exchange.status, exchange.first_byte_ms = response.status_code, exchange.elapsed_ms()
            try:
                headers = plan_answer_headers(response.headers.raw)
                await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
                started = True
                await _relay(response, exchange.reader, caller, send)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            log.warning("gateway.upstream_failed", agent=exchange.agent, error=type(error).__name__)
            if started:
                # An answer that broke off has to look broken, or claude takes half an answer for a whole one.
                raise ConnectionError("the upstream broke off") from error
            exchange.status = 502
            await _send_error(send, 502, "api_error", "the hive's gateway cannot reach the model service")

    async def _send(self, exchange: _Exchange, request: httpx.Request, caller: "_Caller") -> httpx.Response:
        """The answer once it begins. Raises HungUpError if one that should begin at once does not, and nobody waits.

        Else a request that the service leaves unanswered would hold its reservation for minutes.
        """
        sending = asyncio.create_task(self._client.send(request, stream=True))
        try:
            if exchange.request is not None and exchange.request.streams:
                await caller.wait_for(sending)
                await asyncio.wait({sending}, timeout=START_TIMEOUT_S)
                exchange.given_up = not sending.done()
            else:
                # What it cost is told at its end alone.
                await asyncio.wait({sending})
            if exchange.given_up:
                raise HungUpError
            return sending.result()
        finally:
            await _end(sending)

    async def _finish(self, exchange: _Exchange) -> None:
        """Charges, then records, then parks or warns: the next decision is right whatever the disk does."""
        asked = "" if exchange.request is None else exchange.request.model
        model, tokens = exchange.reader.usage.model or asked, exchange.decide_charge()
        micro_usd: int | None = 0
        if exchange.ticket is not None:
            micro_usd = self._budgets.end(exchange.ticket, model, tokens)
        if exchange.forwarded:
            await self._record(exchange, model, tokens, micro_usd)
        if exchange.ticket is not None:
            await self._budgets.settle(exchange.agent)

    async def _record(self, exchange: _Exchange, model: str, charged: Tokens, micro_usd: int | None) -> None:
        at_ms = int(time.time() * 1000)
        total_ms = exchange.elapsed_ms()
        usage = exchange.reader.usage
        record = self._telemetry.write(
            lambda tx: tx.list(
                "insert_model_request",
                agent=exchange.agent,
                at=at_ms,
                path=exchange.path,
                model=model[:200],
                status=exchange.status,
                first_byte_ms=exchange.first_byte_ms,
                total_ms=total_ms,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cache_creation_tokens=usage.cache_creation_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                charged_tokens=charged.work,
                micro_usd=micro_usd,
            )
        )
        try:
            await record
        except StorageError as error:
            # The request was answered: a full disk must not undo that.
            log.warning("gateway.not_recorded", agent=exchange.agent, message=error.message)


class _Caller:
    """The container at the other end, once its request is read: knows whether it still waits for the answer."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._gone = asyncio.create_task(self._wait_gone())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.cancel()
        await asyncio.wait({self._gone})

    @property
    def is_gone(self) -> bool:
        return self._gone.done()

    async def wait_for(self, work: "asyncio.Task[Any]") -> None:
        """Returns when the work is done or the container has hung up."""
        await asyncio.wait({work, self._gone}, return_when=asyncio.FIRST_COMPLETED)

    async def while_there(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work returns or raises; it is cancelled, and HungUpError raised, when the container hangs up."""
        task = asyncio.create_task(work)
        try:
            await self.wait_for(task)
            if task.done():
                return task.result()
        finally:
            await _end(task)
        raise HungUpError

    async def _wait_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _end(task: "asyncio.Task[Any]") -> None:
    """Cancels what is not done, and returns when it is."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        # Whoever left does not hear of it, and asyncio is not to complain of that.
        task.exception()


async def _relay(response: httpx.Response, reader: UsageReader, caller: _Caller, send: Send) -> None:
    """Passes an answer on to its end, or until the container hangs up. Raises httpx.HTTPError, HungUpError.

    One that is not streamed tells what it cost at its end, so it is read to there; a stream at its beginning.
    """
    streaming = response.headers.get("content-type", "").startswith("text/event-stream")

    async def copy() -> None:
        async for piece in response.aiter_raw():
            reader.feed(piece, streaming)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            if streaming and caller.is_gone and reader.started:
                raise HungUpError
        reader.end(streaming)
        await send({"type": "http.response.body", "body": b""})

    copying = asyncio.create_task(copy())
    try:
        await caller.wait_for(copying)
        if streaming and not copying.done() and not reader.started:
            await asyncio.wait({copying}, timeout=START_TIMEOUT_S)
        elif not streaming:
            await asyncio.wait({copying})
        if not copying.done():
            raise HungUpError
        copying.result()
    finally:
        await _end(copying)


async def _send_error(send: Send, status: int, kind: str, message: str) -> None:
    """An error in the Messages API's own form, so that claude reports it as one."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 402:
        # Asking again only helps once the operator did something, or hours have passed.
        headers.append((b"x-should-retry", b"false"))
    if status == 429:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
