"""The push service as an ASGI application.

`POST /_subscribe {key}` is what a browser does behind `pushManager.subscribe`: it answers what
`PushSubscription.toJSON()` holds. `POST /push/<id>` is the protocol (RFC 8030). `POST /_control {answers}` has the next
pushes answered otherwise, `GET /_pushes` tells what arrived, read with the subscription's keys.
"""

import json
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hyperhive.testing.push.browser import Subscription, UnreadableError, to_text
from hyperhive.testing.push.sender import Claims, NotAuthorizedError, check_authorization

BODY_LIMIT_BYTES = 4096
PUSHES_LIMIT = 1000


@dataclass(slots=True)
class _Box:
    """A subscription at this service: for one sender, until it ends."""

    sender: str
    subscription: Subscription
    over: bool = False


@dataclass(slots=True)
class _StandIn:
    now: Callable[[], float]
    boxes: dict[str, _Box] = field(default_factory=dict[str, _Box])
    pushes: deque[dict[str, Any]] = field(default_factory=lambda: deque[dict[str, Any]](maxlen=PUSHES_LIMIT))
    # how the next pushes are answered, whatever they are
    answers: deque[dict[str, Any]] = field(default_factory=deque[dict[str, Any]])

    async def subscribe(self, request: Request) -> Response:
        box = _Box((await request.json())["key"], Subscription())
        name = secrets.token_urlsafe(24)
        self.boxes[name] = box
        keys = {"p256dh": to_text(box.subscription.point), "auth": to_text(box.subscription.auth)}
        return JSONResponse({"endpoint": f"{_origin(request)}/push/{name}", "expirationTime": None, "keys": keys})

    async def push(self, request: Request) -> Response:
        try:
            return await self._take(request)
        except NotAuthorizedError as error:
            return self._refuse(error.status, str(error))
        except UnreadableError as error:
            return self._refuse(400, str(error))

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if self.answers:
            wish = self.answers.popleft()
            self.pushes.append({"status": wish["status"], "reason": "as wished"})
            return Response(status_code=wish["status"], headers=wish.get("headers"))
        box = self.boxes.get(request.path_params["name"])
        if box is None or box.over:
            return self._refuse(404 if box is None else 410, "there is no such subscription")
        if len(body) > BODY_LIMIT_BYTES:
            return self._refuse(413, "the body is too large")
        header = request.headers.get("authorization", "")
        claims = check_authorization(header, origin=_origin(request), at=self.now(), key=box.sender)
        problem = _find_problem(request)
        if problem:
            return self._refuse(400, problem)
        self.pushes.append(_describe(request, claims, box.subscription.read(body)))
        return Response(status_code=201, headers={"location": f"{_origin(request)}/message/{secrets.token_hex(8)}"})

    def _refuse(self, status: int, reason: str) -> Response:
        self.pushes.append({"status": status, "reason": reason})
        return Response(reason, status_code=status)

    async def control(self, request: Request) -> Response:
        wish = await request.json()
        self.answers.extend(wish.get("answers", []))
        for name in wish.get("end", []):
            self.boxes[name].over = True
        return Response(status_code=204)

    async def list_pushes(self, _: Request) -> Response:
        return JSONResponse({"pushes": list(self.pushes)})


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers['host']}"


def _find_problem(request: Request) -> str:
    """What RFC 8030 does not let pass; empty if nothing."""
    headers = request.headers
    if headers.get("content-encoding") != "aes128gcm":
        return "the content is not encoded by aes128gcm"
    if not re.fullmatch(r"[0-9]{1,9}", headers.get("ttl", "")):
        return "there is no TTL"
    if headers.get("urgency", "normal") not in {"very-low", "low", "normal", "high"}:
        return "there is no such urgency"
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,32}", headers.get("topic", "")):
        return "the topic is over 32 characters, or not of base64url"
    return ""


def _describe(request: Request, claims: Claims, content: bytes) -> dict[str, Any]:
    return {
        "status": 201,
        "subscription": request.path_params["name"],
        "content": json.loads(content),
        "ttl": int(request.headers["ttl"]),
        "urgency": request.headers.get("urgency", "normal"),
        "topic": request.headers.get("topic", ""),
        "contact": claims.contact,
    }


def create_app(now: Callable[[], float] = time.time) -> Starlette:
    """The stand-in; `now` gives seconds since the epoch."""
    stand_in = _StandIn(now)
    return Starlette(
        routes=[
            Route("/_subscribe", stand_in.subscribe, methods=["POST"]),
            Route("/_control", stand_in.control, methods=["POST"]),
            Route("/_pushes", stand_in.list_pushes, methods=["GET"]),
            Route("/push/{name}", stand_in.push, methods=["POST"]),
        ]
    )
