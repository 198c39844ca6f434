"""host.sock: the requests of desktop clients and the answers to them, one JSON object a line. Pure: bytes and values.

Clients written for the first hyperhive speak this: names, types and order of keys stay as they are here. New optional
keys may be added; `VERSION` is raised only when something is removed, renamed or gets another type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, cast

import orjson

from hyperhive.core.errors import InvalidInputError, TooLargeError
from hyperhive.core.text import cut_text, render_safe_line

VERSION = 1
# A request names a few agents at most.
LINE_LIMIT_BYTES = 64 * 1024
ERROR_LIMIT_CHARS = 300
NAME_LIMIT_CHARS = 80
SHA_CHARS = 12
_ID_LIMIT = 2**63


class Command(StrEnum):
    LIST = "list"
    AGENT_STATUS = "agent_status"
    SUBSCRIBE = "subscribe_agent_status"
    URLS = "urls"
    PENDING = "pending"
    APPROVE = "approve"
    DENY = "deny"
    SET_PAUSED = "set_paused"
    START = "start"
    STOP = "stop"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Scope:
    """What `start` and `stop` are about. `services` are those that were asked for, of `SERVICES`."""

    agents: bool = False
    services: tuple[str, ...] = ()
    agent_names: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.agents or self.services or self.agent_names)


SERVICES = ("ci", "forge", "gateway", "matrix")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; what its command has no use for is as it is here."""

    command: Command
    id: int = 0
    name: str = ""
    paused: bool = False
    graceful: bool = False
    scope: Scope = Scope()


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One row. `status_text` and `status_set_at` are both there or both not."""

    name: str
    running: bool
    failed: bool
    needs_update: bool
    needs_login: bool
    deployed_sha: str | None
    pending_reminders: int
    paused: bool
    parent: str | None = None
    active_model: str | None = None
    status_text: str | None = None
    status_set_at: datetime | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    id: int
    agent: str
    kind: str
    commit_ref: str
    fetched_sha: str | None
    requested_at: datetime
    status: str
    resolved_at: datetime | None = None
    note: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Urls:
    domain: str | None = None
    home: str | None = None
    forge: str | None = None
    matrix: str | None = None


# -- requests ----------------------------------------------------------------------------------------------


def parse_request(line: bytes) -> Request:
    """One line as a request; keys that nobody knows are passed over. Raises InvalidInputError, TooLargeError."""
    if len(line) > LINE_LIMIT_BYTES:
        raise TooLargeError(f"the line is over {LINE_LIMIT_BYTES} bytes")
    try:
        # orjson ends at 1024 levels, at bytes that are no UTF-8 and at half surrogate pairs, with the same error.
        body: Any = orjson.loads(line)
    except ValueError:
        raise InvalidInputError("the line is not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise InvalidInputError("the line is not a JSON object")
    return _parse_body(cast("dict[str, Any]", body))


def _parse_body(body: dict[str, Any]) -> Request:
    command = _parse_command(body)
    match command:
        case Command.APPROVE | Command.DENY:
            return Request(command, id=_parse_id(body))
        case Command.SET_PAUSED:
            return Request(command, name=_parse_name(body), paused=_parse_flag(body, "paused", is_needed=True))
        case Command.START:
            return Request(command, scope=_parse_scope(body))
        case Command.STOP:
            return Request(command, scope=_parse_scope(body), graceful=_parse_flag(body, "graceful"))
        case Command.RESTART:
            return Request(command, name=_parse_name(body))
        case _:
            return Request(command)


def _parse_command(body: dict[str, Any]) -> Command:
    text = body.get("cmd")
    if not isinstance(text, str):
        raise InvalidInputError("cmd is missing, or is not a string")
    try:
        return Command(text)
    except ValueError:
        raise InvalidInputError(f'unknown cmd "{render_name(text)}"') from None


def _parse_id(body: dict[str, Any]) -> int:
    number = body.get("id")
    if not isinstance(number, int) or isinstance(number, bool) or not -_ID_LIMIT <= number < _ID_LIMIT:
        raise InvalidInputError("id is missing, or is not a whole number of 64 bits")
    return number


def _parse_name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str):
        raise InvalidInputError("name is missing, or is not a string")
    return name


def _parse_flag(body: dict[str, Any], key: str, *, is_needed: bool = False) -> bool:
    value = body.get(key)
    if value is None and not is_needed:
        return False
    if not isinstance(value, bool):
        raise InvalidInputError(f"{key} is not true or false")
    return value


def _parse_scope(body: dict[str, Any]) -> Scope:
    """The scope of `start` and `stop`. One that names nothing is refused: it once meant everything."""
    value = body.get("scope")
    if value is not None and not isinstance(value, dict):
        raise InvalidInputError("scope is not an object")
    fields: dict[str, Any] = {} if value is None else cast("dict[str, Any]", value)
    names: Any = fields.get("agent_names")
    if names is not None and not _is_texts(names):
        raise InvalidInputError("scope.agent_names is not a list of strings")
    scope = Scope(
        agents=_parse_flag(fields, "agents"),
        services=tuple(name for name in SERVICES if _parse_flag(fields, name)),
        # Once each, in the order they were named.
        agent_names=tuple(dict.fromkeys(names or ())),
    )
    if scope.is_empty:
        raise InvalidInputError("the scope is empty: it would mean everything; name an agent in agent_names")
    return scope


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value))


def render_name(text: str) -> str:
    """What a client sent as a name, as it may be shown."""
    return cut_text(render_safe_line(text), NAME_LIMIT_CHARS)


# -- answers -----------------------------------------------------------------------------------------------


def render_done() -> bytes:
    return _render({"ok": True})


def render_refusal(message: str) -> bytes:
    return _render({"ok": False, "error": cut_text(render_safe_line(message), ERROR_LIMIT_CHARS)})


def render_names(names: Sequence[str]) -> bytes:
    return _render({"ok": True, "agents": list(names)})


def render_statuses(statuses: Sequence[AgentStatus]) -> bytes:
    return _render({"ok": True, "agent_statuses": [_show_status(status) for status in statuses]})


def render_urls(urls: Urls) -> bytes:
    shown = {"domain": urls.domain, "home": urls.home, "forge": urls.forge, "matrix": urls.matrix}
    return _render({"ok": True, "urls": _drop_unset(shown)})


def render_approvals(approvals: Sequence[Approval]) -> bytes:
    return _render({"ok": True, "approvals": [_show_approval(approval) for approval in approvals]})


def _show_status(status: AgentStatus) -> dict[str, Any]:
    return _drop_unset(
        {
            "name": status.name,
            "running": status.running,
            "failed": status.failed,
            "needs_update": status.needs_update,
            "needs_login": status.needs_login,
            "deployed_sha": status.deployed_sha,
            "pending_reminders": status.pending_reminders,
            "paused": status.paused,
            "parent": status.parent,
            "active_model": status.active_model,
            "status_text": status.status_text,
            "status_set_at": _render_instant(status.status_set_at),
            "url": status.url,
        }
    )


def _show_approval(approval: Approval) -> dict[str, Any]:
    return _drop_unset(
        {
            "id": approval.id,
            "agent": approval.agent,
            "kind": approval.kind,
            "commit_ref": approval.commit_ref,
            "fetched_sha": approval.fetched_sha,
            "requested_at": _render_instant(approval.requested_at),
            "status": approval.status,
            "resolved_at": _render_instant(approval.resolved_at),
            "note": approval.note,
            "description": approval.description,
        }
    )


def _drop_unset(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _render_instant(instant: datetime | None) -> str | None:
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _render(fields: dict[str, Any]) -> bytes:
    return orjson.dumps({"version": VERSION, **fields}, option=orjson.OPT_APPEND_NEWLINE)
