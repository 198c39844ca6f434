"""The stand-in as an ASGI application: routes, errors in the API's form, and connections that misbehave on demand."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hyperhive.testing.messages_api.record import AttemptCounter, RequestRecord
from hyperhive.testing.messages_api.reply import Answer, BrokenReply, ErrorReply, Reply, Rule
from hyperhive.testing.messages_api.request import ParsedRequest, parse_request
from hyperhive.testing.messages_api.rules import decide_answer
from hyperhive.testing.messages_api.stream import (
    Event,
    make_id,
    render_error,
    render_events,
    render_message,
    render_sse,
)
from hyperhive.testing.steps import FailureKind, Text

_NO_BEARER = ErrorReply(401, "authentication_error", "Invalid bearer token")
BODY_LIMIT_BYTES = 32 * 1024 * 1024


def create_app(rules: Sequence[Rule] = (), chunk_delay_s: float = 0.0, tokens: Path | None = None) -> Starlette:
    """The stand-in. `rules` are asked in order, after the script in the prompt; an echo has the last word.

    `chunk_delay_s` is waited between two events of a stream, for people to watch it; tests leave it at 0. `tokens`
    is the file in which the OAuth stand-in says which bearer tokens count, and until when: all others are refused.
    """
    return _StandIn(rules, chunk_delay_s, tokens).make_app()


class _StandIn:
    def __init__(self, rules: Sequence[Rule], chunk_delay_s: float, tokens: Path | None) -> None:
        self._rules = rules
        self._chunk_delay_s = chunk_delay_s
        self._tokens = tokens
        self._record = RequestRecord()
        self._attempts = AttemptCounter()

    def make_app(self) -> Starlette:
        anything = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]
        return Starlette(
            routes=[
                Route("/v1/messages", self._post_message, methods=["POST"]),
                Route("/v1/messages/count_tokens", self._count_tokens, methods=["POST"]),
                Route("/_requests", self._list_requests),
                Route("/{path:path}", self._refuse, methods=anything),
            ]
        )

    async def _post_message(self, http: Request) -> Response:
        body = await http.body()
        if len(body) > BODY_LIMIT_BYTES:
            return _error_response(
                ErrorReply(413, "request_too_large", "Request exceeds the maximum size"), make_id("req")
            )
        try:
            request = parse_request(_parse_body(body), len(body))
        except ValueError as error:
            self._record.add(http.url.path, http.headers)
            return _error_response(ErrorReply(400, "invalid_request_error", str(error)), make_id("req"))
        self._record.add(http.url.path, http.headers, request.model, request.user_text, request.earlier_texts)
        if not self._is_let_in(http.headers):
            return _error_response(_NO_BEARER, make_id("req"))
        request = replace(request, attempt=self._attempts.count(request.step_key))
        answer = decide_answer(self._rules, request)
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        return self._respond(answer, request)

    def _respond(self, answer: Answer, request: ParsedRequest) -> Response:
        request_id = make_id("req")
        match answer:
            case ErrorReply():
                return _error_response(answer, request_id)
            case BrokenReply():
                return _BrokenStream(answer.kind, request, request_id)
            case Reply() if request.stream:
                headers = {**answer.headers, "request-id": request_id}
                return _EventStream(list(render_events(answer, request)), self._chunk_delay_s, headers)
            case Reply():
                headers = {**answer.headers, "request-id": request_id}
                return JSONResponse(render_message(answer, request), headers=headers)

    def _is_let_in(self, headers: Mapping[str, str]) -> bool:
        if self._tokens is None:
            return True
        # Read each time: another program writes it.
        expires_at = json.loads(self._tokens.read_text()).get(headers.get("authorization", "").removeprefix("Bearer "))
        return expires_at is not None and expires_at > time.time()

    async def _count_tokens(self, http: Request) -> Response:
        body = await http.body()
        self._record.add(http.url.path, http.headers)
        return JSONResponse({"input_tokens": max(1, len(body) // 4)})

    async def _list_requests(self, http: Request) -> Response:
        since = http.query_params.get("since", "0")
        return JSONResponse(self._record.list_since(int(since) if since.isdecimal() else 0))

    async def _refuse(self, http: Request) -> Response:
        """All other calls of the CLI, such as its settings and its telemetry: not here, and told so politely."""
        self._record.add(http.url.path, http.headers)
        return _error_response(ErrorReply(404, "not_found_error", "Not found"), make_id("req"))


def _parse_body(body: bytes) -> dict[str, Any]:
    value: object = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - answered as a 400
    return cast("dict[str, Any]", value)


def _error_response(error: ErrorReply, request_id: str) -> Response:
    return JSONResponse(
        render_error(error.error_type, error.message, request_id),
        status_code=error.status,
        headers={**error.headers, "request-id": request_id},
    )


class _EventStream(Response):
    """A streamed answer, one event a chunk."""

    media_type = "text/event-stream"

    def __init__(self, events: Sequence[Event], delay_s: float, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        # A stream has no length beforehand; the one of the empty body would cut it off.
        del self.headers["content-length"]
        self._events = events
        self._delay_s = delay_s

    async def _send_events(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        for event in self._events:
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await send({"type": "http.response.body", "body": render_sse(event), "more_body": True})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._send_events(send)
        await send({"type": "http.response.body", "body": b""})


class _BrokenStream(_EventStream):
    """A stream that starts well and then is cut, tells an error, or says nothing until the caller leaves."""

    def __init__(self, kind: FailureKind, request: ParsedRequest, request_id: str) -> None:
        start = islice(render_events(Reply([Text("this is never finished")]), request), 4)
        error: Event = ("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}})
        events = {
            FailureKind.CUT: list(start),
            FailureKind.SSE_ERROR: [*start, error],
        }
        super().__init__(events.get(kind, []), 0, {"request-id": request_id})
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._send_events(send)
        if self._kind is FailureKind.HANG:
            while (await receive())["type"] != "http.disconnect":
                pass
        elif self._kind is FailureKind.SSE_ERROR:
            await send({"type": "http.response.body", "body": b""})
        # A cut returns without the last chunk: the server then closes the connection in the middle of the body.
