"""What a token needs for each route: one table. What is not in it needs `admin`.

A session is the operator's own and needs none of this. The route that was found is what counts, so that no spelling
of a path means one thing here and another one there.
"""

from collections.abc import Awaitable, Callable

from fastapi.exceptions import WebSocketException
from starlette.requests import HTTPConnection

from hyperhive.core.audit_bodies import is_traffic
from hyperhive.core.errors import RefusedError
from hyperhive.core.tokens import Token, TokenScope
from hyperhive.host.audit import Audit
from hyperhive.host.tokens import Tokens

# Where the guard puts whose token came with a request.
TOKEN_KEY = "hyperhive.token"  # noqa: S105

_READ = """
GET /api/agent-config/{name}
GET /api/agent-config/{name}/history
POST /api/agent-config/{name}/check
GET /api/agents
GET /api/agents/{name}/state
GET /api/agents/{name}/state/download
GET /api/agents/{name}/state/file
GET /api/agents/{name}/terminals
GET /api/agents/{name}/transcript
GET /api/approvals
GET /api/approvals/{approval_id}
GET /api/approvals/{approval_id}/review
GET /api/approvals/{approval_id}/system
GET /api/budget
GET /api/config-schema
GET /api/devices
GET /api/drafts
GET /api/egress
GET /api/egress/grants
GET /api/hive
GET /api/images
GET /api/inbox
GET /api/journal/{name}
GET /api/kept
GET /api/messages
GET /api/messages/{message_id}
GET /api/messages/{message_id}/receipts
GET /api/needs
GET /api/notes/{name}
GET /api/notes/{name}/{commit}
GET /api/notifier
GET /api/push-key
GET /api/questions
GET /api/questions/{question_id}
GET /api/quotas
GET /api/quotas/{name}
GET /api/reminders
GET /api/schedules
GET /api/snapshots
GET /api/stats
GET /api/stats.csv
GET /api/stats/agents
GET /api/stats/keys
GET /api/stats/usage
GET /api/stream
GET /api/webhooks
GET /metrics
"""

_SEND = """
POST /api/inbox/{message_id}/ack
POST /api/messages
"""

_DECIDE = """
POST /api/approvals/{approval_id}/approve
POST /api/approvals/{approval_id}/deny
POST /api/messages/{message_id}/dismiss
POST /api/messages/{message_id}/requeue
POST /api/questions/{question_id}/answer
POST /api/questions/{question_id}/cancel
POST /api/runaways/{one}/{other}/release
"""

_ADMIN = """
GET /api/audit
DELETE /api/agents/{name}
DELETE /api/agents/{name}/login
DELETE /api/agents/{name}/terminals/{terminal_id}
DELETE /api/devices/{device_id}
DELETE /api/drafts/{name}
DELETE /api/egress/grants/{grant_id}
DELETE /api/images/{image_id}
DELETE /api/kept/{name}
DELETE /api/reminders/{reminder_id}
DELETE /api/snapshots/{snapshot_id}
DELETE /api/webhooks/{webhook_id}
POST /api/agent-config/{name}/revert
POST /api/agents
POST /api/agents/{name}/cancel
POST /api/agents/{name}/compact
POST /api/agents/{name}/grant
POST /api/agents/{name}/login
POST /api/agents/{name}/login/code
POST /api/agents/{name}/pause
POST /api/agents/{name}/rebuild
POST /api/agents/{name}/resume
POST /api/agents/{name}/{act}
POST /api/budget/grant
POST /api/devices
POST /api/devices/{device_id}/test
POST /api/egress/grants
POST /api/egress/proposals
POST /api/images/prune
POST /api/images/{image_id}/verify
POST /api/kept/{name}/revive
POST /api/model/{name}
POST /api/notes/{name}/restore
POST /api/notifier/test
POST /api/pause
POST /api/quotas/{name}/allow
POST /api/resume
POST /api/snapshots
POST /api/snapshots/{snapshot_id}/fork
POST /api/snapshots/{snapshot_id}/restore
POST /api/update-all
POST /api/webhooks/{webhook_id}/drop
POST /api/webhooks/{webhook_id}/retry
POST /api/webhooks/{webhook_id}/test
PUT /api/budget
PUT /api/devices/{device_id}
"""

# No token lets anyone in, or has anyone told, for longer than itself, nor ends the hive.
_NEVER = """
DELETE /api/tokens/{name}
WS /api/agents/{name}/terminals/{terminal_id}/socket
GET /api/snapshot-files/{snapshot_id}
GET /api/tokens
POST /api/agents/{name}/terminals
POST /api/login-links
POST /api/logout
POST /api/shutdown
POST /api/snapshot-files
POST /api/tokens
POST /api/webhooks
"""

# By method and path as they are declared; None: with no token at all.
SCOPES: dict[str, TokenScope | None] = {
    route: scope
    for scope, routes in (
        (TokenScope.READ, _READ),
        (TokenScope.SEND, _SEND),
        (TokenScope.DECIDE, _DECIDE),
        (TokenScope.ADMIN, _ADMIN),
        (None, _NEVER),
    )
    for route in routes.split("\n")
    if route
}


def get_scope(method: str, path: str) -> TokenScope | None:
    """What a route needs, by its declared path."""
    return SCOPES.get(f"{method} {path}", TokenScope.ADMIN)


def check_scopes(tokens: Tokens, audit: Audit) -> Callable[[HTTPConnection], Awaitable[None]]:
    """The dependency of every route: lets a request with a token pass if that may, and records what changes things."""

    async def check(connection: HTTPConnection) -> None:
        token: Token | None = connection.scope.get(TOKEN_KEY)
        method = connection.scope.get("method", "WS")
        needed = get_scope(method, connection.scope["route"].path)
        if token is None:
            path = connection.url.path
            if _changes(method, needed) and not is_traffic(method, path):
                await audit.record_act(method, path, connection.headers.get("user-agent", ""))
            return
        if needed is None or not token.may(needed):
            raise _refuse(token, needed, is_socket=connection.scope["type"] == "websocket")
        if _changes(method, needed):
            await tokens.record_act(token, method, connection.url.path)

    return check


def _changes(method: str, needed: TokenScope | None) -> bool:
    return method not in {"GET", "HEAD"} and needed is not TokenScope.READ


def _refuse(token: Token, needed: TokenScope | None, *, is_socket: bool) -> Exception:
    if is_socket:
        # An answer of ours would not reach who asks before the handshake.
        return WebSocketException(1008)
    if needed is None:
        return RefusedError("no token may do this", "use the hive command, or the pages")
    return RefusedError(f"the token {token.name} has no scope {needed}", "`hive token create` makes another")
