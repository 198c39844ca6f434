"""The OAuth stand-in as an ASGI application: the account's endpoints, and a way to make trouble on demand."""

import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hyperhive.testing.oauth.accounts import PROFILE, ROLES, Accounts, OAuthError

BODY_LIMIT_BYTES = 64 * 1024
REQUESTS_LIMIT = 1000


def create_app(accounts: Accounts, tokens: Path | None = None) -> Starlette:
    """The stand-in. After each change the valid access tokens are written to `tokens`, for the Messages stand-in."""
    return _StandIn(accounts, tokens).make_app()


class _StandIn:
    def __init__(self, accounts: Accounts, tokens: Path | None) -> None:
        self._accounts = accounts
        self._tokens = tokens
        self._requests: deque[dict[str, Any]] = deque(maxlen=REQUESTS_LIMIT)
        self._save_tokens()

    def make_app(self) -> Starlette:
        return Starlette(
            routes=[
                # The page that a browser opens. The stand-in allows it at once and shows the code.
                Route("/cai/oauth/authorize", self._authorize),
                Route("/oauth/authorize", self._authorize),
                Route("/v1/oauth/token", self._token, methods=["POST"]),
                Route("/api/oauth/profile", self._profile),
                Route("/api/oauth/claude_cli/roles", self._roles),
                Route("/_control", self._control, methods=["POST"]),
                Route("/_requests", self._list_requests),
                Route("/{path:path}", self._refuse, methods=["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]),
            ]
        )

    async def _authorize(self, http: Request) -> Response:
        self._record(http)
        try:
            return JSONResponse({"code": self._accounts.authorize(http.query_params)})
        except OAuthError as error:
            return _refusal(error)

    async def _token(self, http: Request) -> Response:
        try:
            params = await _read_object(http)
            self._record(http, str(params.get("grant_type")))
            answer = self._grant(params)
        except OAuthError as error:
            return _refusal(error)
        self._save_tokens()
        return JSONResponse(answer)

    def _grant(self, params: Mapping[str, object]) -> dict[str, object]:
        match params.get("grant_type"):
            case "authorization_code":
                return self._accounts.exchange(params)
            case "refresh_token":
                return self._accounts.refresh(params)
            case _:
                raise OAuthError("unsupported_grant_type", "Unknown grant_type")

    async def _profile(self, http: Request) -> Response:
        return self._answer_bearer(http, PROFILE)

    async def _roles(self, http: Request) -> Response:
        return self._answer_bearer(http, ROLES)

    async def _control(self, http: Request) -> Response:
        """`access_s`: the life of tokens given from now on; `expire`: all access tokens; `kill_refresh`: all others."""
        try:
            wish = await _read_object(http)
        except OAuthError as error:
            return _refusal(error)
        if "access_s" in wish:
            self._accounts.access_s = float(wish["access_s"])
        if wish.get("expire"):
            self._accounts.expire_access_tokens()
        if wish.get("kill_refresh"):
            self._accounts.kill_refresh_tokens()
        self._save_tokens()
        return JSONResponse({})

    async def _list_requests(self, _http: Request) -> Response:
        return JSONResponse({"requests": list(self._requests)})

    async def _refuse(self, http: Request) -> Response:
        """All other calls of the CLI: not here."""
        self._record(http)
        return JSONResponse({"error": {"type": "not_found_error", "message": "Not found"}}, status_code=404)

    def _answer_bearer(self, http: Request, answer: Mapping[str, Any]) -> Response:
        self._record(http)
        token = http.headers.get("authorization", "").removeprefix("Bearer ")
        if self._accounts.is_valid(token):
            return JSONResponse(answer)
        error = {"type": "authentication_error", "message": "Invalid bearer token"}
        return JSONResponse({"type": "error", "error": error}, status_code=401)

    def _record(self, http: Request, grant_type: str = "") -> None:
        """Which host and path was asked, never with what secret."""
        host = http.headers.get("host", "")
        self._requests.append({"method": http.method, "host": host, "path": http.url.path, "grant_type": grant_type})

    def _save_tokens(self) -> None:
        if self._tokens is None:
            return
        fresh = self._tokens.with_suffix(".new")
        fresh.write_text(json.dumps(self._accounts.valid_tokens()))
        # In one step: the Messages stand-in may read it at any moment.
        fresh.replace(self._tokens)


async def _read_object(http: Request) -> dict[str, Any]:
    body = await http.body()
    try:
        value: object = json.loads(body) if len(body) <= BODY_LIMIT_BYTES else None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise OAuthError("invalid_request", "the body is not a JSON object")
    return cast("dict[str, Any]", value)


def _refusal(error: OAuthError) -> Response:
    return JSONResponse({"error": error.error, "error_description": error.description}, status_code=error.status)
