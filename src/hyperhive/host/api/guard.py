"""The guard in front of everything a browser can reach. Default: refused.

In this order: the Host header must name this very listener (else DNS rebinding), a write must come from our own
pages (else CSRF), and everything but the login and the static pages needs an operator session.
"""

from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import MutableHeaders
from starlette.responses import Response

from hyperhive.host.api.errors import error_response
from hyperhive.host.api.pages import is_page
from hyperhive.system.http_types import Application, Receive, Scope, Send

# Only over the daemon's own socket, where the kernel tells who asks.
LOCAL_ONLY = frozenset({"/api/login-links", "/api/shutdown"})

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

    def __init__(self, app: Application, port: int, is_session: Callable[[str], Awaitable[bool]]) -> None:
        self._app = app
        self._hosts = frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))
        self._cookie = cookie_name(port)
        self._is_session = is_session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # No WebSocket is served yet; closing before accepting answers 403.
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._check_request(scope) or await self._check_session(scope)
        if refusal is not None:
            await refusal(scope, receive, _with_security_headers(send, scope))
            return
        await self._app(scope, receive, _with_security_headers(send, scope))

    def _check_request(self, scope: Scope) -> Response | None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return error_response("refused", "this is not the host you asked for", "use the printed address", 421)
        if not scope["path"].startswith("/"):
            return error_response("invalid_input", "the request names no path", "ask for a path", 400)
        sites = _values(scope, b"sec-fetch-site")
        if scope["method"] in {"GET", "HEAD"}:
            # Following a link from elsewhere shows a page; it may not read the API.
            foreign = sites not in ([], ["same-origin"], ["none"]) and not is_page(scope["path"])
        else:
            foreign = _values(scope, b"origin") != [f"http://{hosts[0]}"] or sites not in ([], ["same-origin"])
        if foreign:
            return error_response("refused", "the request comes from another site", "use the hive's own pages", 403)
        if scope["path"] in LOCAL_ONLY:
            return error_response("refused", "only the hive command may do this", "use it on the machine", 403)
        return None

    async def _check_session(self, scope: Scope) -> Response | None:
        if is_page(scope["path"]) and scope["method"] in {"GET", "HEAD"}:
            return None
        session = read_cookie(scope, self._cookie)
        if session and await self._is_session(session):
            return None
        return error_response(
            "unauthenticated", "there is no operator session", "run `hive url` and open the link it prints", 401
        )


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
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            if scope["path"].startswith("/api/") or "cache-control" not in headers:
                headers["cache-control"] = "no-store"
        await send(message)

    return guarded  # pyright: ignore[reportReturnType] - ASGI's messages are plain dicts
