"""The guard in front of everything a browser can reach. Default: refused.

In this order: the Host header must name this very listener (else DNS rebinding), a write must come from our own
pages (else CSRF), and everything but the login and the static pages needs an operator session, or a token.

A request with a token needs not come from our own pages: no other page can have a browser add one. It must not have a
session too, so that it is never in doubt who asks.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from hyperhive.core.errors import HiveError
from hyperhive.core.ports import LOOPBACK_HOSTS
from hyperhive.core.tokens import Token
from hyperhive.host.acting import act_as, render_local, render_session, render_token
from hyperhive.host.api.errors import error_response
from hyperhive.host.api.pages import is_page
from hyperhive.host.api.scopes import TOKEN_KEY
from hyperhive.host.sessions import name_session
from hyperhive.system.http_server import PEER_UID
from hyperhive.system.http_types import Application, Receive, Scope, Send

# Only over the daemon's own socket, where the kernel tells who asks.
LOCAL_ONLY = frozenset({"/api/login-links", "/api/shutdown", "/api/tokens"})

# How long a WebSocket may go on after the logout.
SESSION_LOOK_S = 5.0
# The close code of RFC 6455 for what may not go on.
POLICY_VIOLATION = 1008

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def cookie_name(port: int) -> str:
    """Cookies do not tell ports apart, so that two hives on one machine need two names."""
    return f"hive_session_{port}"


class Guard:
    """Wraps the application for the TCP listener on `port` of the loopback."""

    def __init__(
        self,
        app: Application,
        port: int,
        is_session: Callable[[str], Awaitable[bool]],
        identify: Callable[[str], Awaitable[Token]],
    ) -> None:
        self._app = app
        self._identify = identify
        self._hosts = frozenset(f"{name}:{port}" for name in LOOPBACK_HOSTS)
        self._cookie = cookie_name(port)
        self._is_session = is_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._check_request(scope) or await self._check_session(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_security_headers(send, scope))
            return
        if scope["type"] == "websocket":
            lasting = _LastingSession(lambda: self._check_session(scope), receive, send)
            receive, send = lasting.receive, lasting.send
        await self._app(scope, receive, _with_security_headers(send, scope))

    def _check_request(self, scope: Scope) -> Response | None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return error_response("refused", "this is not the host you asked for", "use the printed address", 421)
        if not scope["path"].startswith("/"):
            return error_response("invalid_input", "the request names no path", "ask for a path", 400)
        sites = _values(scope, b"sec-fetch-site")
        if _is_read(scope):
            # Following a link from elsewhere shows a page; it may not read the API.
            foreign = sites not in ([], ["same-origin"], ["none"]) and not is_page(scope["path"])
        else:
            foreign = _values(scope, b"origin") != [f"http://{hosts[0]}"] or sites not in ([], ["same-origin"])
        if foreign and (scope["type"] == "websocket" or not _values(scope, b"authorization")):
            return error_response("refused", "the request comes from another site", "use the hive's own pages", 403)
        if is_local_only(scope["path"]):
            return error_response("refused", "only the hive command may do this", "use it on the machine", 403)
        return None

    async def _check_session(self, scope: Scope) -> Response | None:
        if _is_read(scope) and is_page(scope["path"]):
            return None
        session = read_cookie(scope, self._cookie)
        if _values(scope, b"authorization"):
            if scope["type"] == "websocket":
                return error_response("refused", "no token opens a terminal", "use `hive shell`, or the pages", 403)
            return await self._check_token(scope, session)
        if session and await self._is_session(session):
            act_as(render_session(name_session(session)))
            return None
        return error_response(
            "unauthenticated", "there is no operator session", "run `hive url` and open the link it prints", 401
        )

    async def _check_token(self, scope: Scope, session: str) -> Response | None:
        """Whose token it is goes along with the request: what it may do, `scopes` decides."""
        if session:
            return error_response("invalid_input", "either a session or a token", "leave the cookie out", 400)
        headers = _values(scope, b"authorization")
        kind, _, secret = headers[0].partition(" ")
        if len(headers) != 1 or kind.lower() != "bearer":
            return error_response("unauthenticated", "that is no bearer token", "Authorization: Bearer hive_…", 401)
        try:
            token = await self._identify(secret.strip())
            scope[TOKEN_KEY] = token
            act_as(render_token(token.name))
        except HiveError as error:
            status = 429 if error.code == "too_many" else 401
            return error_response("too_many" if status == 429 else "unauthenticated", error.message, error.hint, status)
        return None


def name_local_callers(app: Application) -> Application:
    """Wraps the application for the daemon's own socket, where the kernel tells who asks."""

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        act_as(render_local(scope["state"][PEER_UID]))
        await app(scope, receive, send)

    return named


class _LastingSession:
    """A WebSocket outlives its request: while it is used, its session is looked at again every now and then."""

    def __init__(self, check: Callable[[], Awaitable[Response | None]], receive: Receive, send: Send) -> None:
        self._check = check
        self._receive = receive
        self._send = send
        self._looked_at_s = time.monotonic()
        self._is_over = False

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        await self._look()
        return {"type": "websocket.disconnect", "code": POLICY_VIOLATION} if self._is_over else message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self._look()
        # Once it is over the other side was told so, and there is nobody to tell more.
        if not self._is_over:
            await self._send(message)

    async def _look(self) -> None:
        if self._is_over or time.monotonic() - self._looked_at_s < SESSION_LOOK_S:
            return
        self._looked_at_s = time.monotonic()
        if await self._check() is not None and not self._is_over:
            self._is_over = True
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "the session is over"})


def _is_read(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}


def is_local_only(path: str) -> bool:
    return path in LOCAL_ONLY or path.startswith(("/api/tokens/", "/api/snapshot-files"))


def read_cookie(scope: Scope, name: str) -> str:
    """The value of one cookie, empty if it was not sent."""
    for header in _values(scope, b"cookie"):
        try:
            cookies = SimpleCookie(header)
        except CookieError:
            continue
        if name in cookies:
            return cookies[name].value
    return ""


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _with_security_headers(send: Send, scope: Scope) -> Send:
    async def guarded(message: dict[str, object]) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            if scope["path"].startswith("/api/") or "cache-control" not in headers:
                headers["cache-control"] = "no-store"
        await send(message)

    return guarded  # pyright: ignore[reportReturnType] - ASGI's messages are plain dicts
