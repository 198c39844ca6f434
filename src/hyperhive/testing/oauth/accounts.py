"""The account behind the stand-in: its authorisation codes and tokens, and the rules by which they are given. Pure.

Codes are good once and for ten minutes, with the verifier whose challenge they were asked for. Refresh tokens rotate:
each is good once. What the service refuses is an `OAuthError` with the name that RFC 6749 has for it.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CLIENT_ID = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
CODE_LIFETIME_S = 600.0
ACCESS_LIFETIME_S = 8 * 3600.0
REFRESH_LIFETIME_S = 30 * 24 * 3600.0
EMAIL = "operator@example.com"


class OAuthError(Exception):
    """A refusal: `error` is the code of RFC 6749, `description` for people."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True, slots=True)
class _Grant:
    """What the operator allowed on the page: who may fetch the tokens, with which proof."""

    redirect_uri: str
    challenge: str
    state: str
    scope: str
    expires_at: float


@dataclass(slots=True)
class Accounts:
    """One account with any number of logins. `now` gives seconds since the epoch.

    `access_s` is how long a new access token lives, `refresh_s` how long a refresh token does (None: the answers do
    not tell).
    """

    now: Callable[[], float]
    access_s: float = ACCESS_LIFETIME_S
    refresh_s: float | None = REFRESH_LIFETIME_S
    _grants: dict[str, _Grant] = field(default_factory=dict[str, _Grant])
    _access: dict[str, float] = field(default_factory=dict[str, float])
    # the scope that each refresh token carries on
    _refresh: dict[str, str] = field(default_factory=dict[str, str])

    def authorize(self, query: Mapping[str, str]) -> str:
        """What the page shows once the operator has allowed it: `code#state`, as one pastes it."""
        for name, wanted in (("client_id", CLIENT_ID), ("response_type", "code"), ("code_challenge_method", "S256")):
            if query.get(name) != wanted:
                raise OAuthError("invalid_request", f"{name} is {query.get(name)!r}, not {wanted!r}")
        if not query.get("code_challenge") or not query.get("state"):
            raise OAuthError("invalid_request", "code_challenge and state are needed")
        code = secrets.token_urlsafe(32)
        self._grants[code] = _Grant(
            redirect_uri=query.get("redirect_uri", ""),
            challenge=query["code_challenge"],
            state=query["state"],
            scope=query.get("scope", ""),
            expires_at=self.now() + CODE_LIFETIME_S,
        )
        return f"{code}#{query['state']}"

    def exchange(self, params: Mapping[str, object]) -> dict[str, object]:
        """The tokens for a code. Raises OAuthError; the code is used up all the same."""
        if params.get("client_id") != CLIENT_ID:
            raise OAuthError("invalid_client", "Unknown client_id", 401)
        grant = self._grants.pop(str(params.get("code")), None)
        if grant is None or grant.expires_at <= self.now():
            raise OAuthError("invalid_grant", "Invalid 'code' in request.")
        if params.get("redirect_uri") != grant.redirect_uri or params.get("state") != grant.state:
            raise OAuthError("invalid_grant", "Invalid 'redirect_uri' or 'state' in request.")
        if render_challenge(str(params.get("code_verifier"))) != grant.challenge:
            raise OAuthError("invalid_grant", "Invalid 'code_verifier' in request.")
        return self._issue(grant.scope)

    def refresh(self, params: Mapping[str, object]) -> dict[str, object]:
        """New tokens for a refresh token, which is used up. Raises OAuthError."""
        if params.get("client_id") != CLIENT_ID:
            raise OAuthError("invalid_client", "Unknown client_id", 401)
        scope = self._refresh.pop(str(params.get("refresh_token")), None)
        if scope is None:
            raise OAuthError("invalid_grant", "Refresh token not found or invalid")
        asked = str(params.get("scope") or scope)
        if not set(asked.split()) <= set(scope.split()):
            raise OAuthError("invalid_scope", "The requested scope is more than was granted.")
        return self._issue(scope)

    def is_valid(self, access_token: str) -> bool:
        return self._access.get(access_token, 0.0) > self.now()

    def valid_tokens(self) -> dict[str, float]:
        """The access tokens that count now, and when each ends."""
        return {token: expires_at for token, expires_at in self._access.items() if expires_at > self.now()}

    def expire_access_tokens(self) -> None:
        """Ends all access tokens before their time; refresh tokens live on."""
        self._access.clear()

    def kill_refresh_tokens(self) -> None:
        """Ends all refresh tokens, as a log-out elsewhere does; access tokens live on until their time."""
        self._refresh.clear()

    def _issue(self, scope: str) -> dict[str, object]:
        access, refresh = f"sk-ant-oat01-{secrets.token_urlsafe(48)}", f"sk-ant-ort01-{secrets.token_urlsafe(48)}"
        self._access[access] = self.now() + self.access_s
        self._refresh[refresh] = scope
        return {
            "token_type": "Bearer",
            "access_token": access,
            "expires_in": round(self.access_s),
            "refresh_token": refresh,
            **({} if self.refresh_s is None else {"refresh_token_expires_in": round(self.refresh_s)}),
            "scope": scope,
            "account": {"uuid": _ACCOUNT_UUID, "email_address": EMAIL},
            "organization": {"uuid": _ORGANIZATION_UUID, "name": "the stand-in"},
        }


_ACCOUNT_UUID = "00000000-0000-4000-8000-000000000001"
_ORGANIZATION_UUID = "00000000-0000-4000-8000-000000000002"

PROFILE = {
    "account": {
        "uuid": _ACCOUNT_UUID,
        "email": EMAIL,
        "full_name": "The Operator",
        "display_name": "operator",
        "created_at": "2025-01-01T00:00:00Z",
        "has_claude_max": True,
        "has_claude_pro": False,
    },
    "organization": {
        "uuid": _ORGANIZATION_UUID,
        "name": "the stand-in",
        "organization_type": "claude_max",
        "billing_type": "stripe_subscription",
        "rate_limit_tier": "default_claude_max_5x",
        "has_extra_usage_enabled": False,
        "subscription_created_at": "2025-01-01T00:00:00Z",
    },
}
ROLES = {"organization_role": "admin", "workspace_role": None, "organization_name": "the stand-in"}


def render_challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
