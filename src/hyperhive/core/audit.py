"""The audit: rows that are only ever appended, each with a hash over itself and the hash of the one before it.

What is hashed is text: the hash of the row before, a line feed, and the row as one line of JSON (`render_content`).
An exported line is the same with the hash in front, so that anyone can check a chain with nothing but SHA-256.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

from hyperhive.core.errors import HiveError, InvalidInputError

# What stands for the hash of the row before the first one.
NO_HASH = "0" * 64
BODY_LIMIT_CHARS = 4096
TEXT_LIMIT_CHARS = 500
_ITEMS_LIMIT = 64
_DEPTH_LIMIT = 4
# Of a body that is too long.
_BEGINNING_CHARS = 1024

# Who did it, when nobody asked for it; and whoever it was that could not say who they are.
HIVE = "hive"
STRANGER = "stranger"

_HEAD = '{"hash":"'
_HASH = re.compile(r"[0-9a-f]{64}")
_SEQ = re.compile(r'"seq":([1-9][0-9]{0,17})\}')
_ANCHOR = re.compile(r"([1-9][0-9]{0,17})[ :]([0-9a-f]{64})(?: (\S{1,40}))?")


class AuditName(StrEnum):
    """What is recorded beside the events that are (see `audit_bodies`)."""

    AUDIT_BEGUN = "audit.begun"
    AUDIT_FLOODED = "audit.flooded"
    HIVE_STARTED = "hive.started"
    HIVE_STOPPED = "hive.stopped"
    HIVE_RESTORED = "hive.restored"
    FIRST_HIVE_IMPORTED = "first_hive.imported"
    BACKUP_TAKEN = "backup.taken"
    OPERATOR_ACTED = "operator.acted"
    AGENT_DESIRED = "agent.desired"
    APPROVAL_COMPARED = "approval.compared"
    LOGIN_LINK_MADE = "login_link.made"
    LOGIN_REFUSED = "login.refused"
    TOKEN_REFUSED = "token.refused"  # noqa: S105
    SESSION_OPENED = "session.opened"
    SESSION_ENDED = "session.ended"
    TOOL_DENIED = "tool.denied"
    TOOL_ASKED = "tool.asked"
    TOOL_UNANSWERED = "tool.unanswered"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """`at` in milliseconds since the epoch. `body` is the JSON that was hashed."""

    seq: int
    at: int
    actor: str
    name: str
    agent: str | None
    body: str
    hash: str


@dataclass(frozen=True, slots=True)
class Anchor:
    """The hash of a row, noted elsewhere; `noted_at` says when, if that is known."""

    seq: int
    hash: str
    noted_at: str = ""


class BrokenChainError(HiveError):
    """The audit is not what was recorded; `seq` is the first row that shows it."""

    code = "broken_chain"

    def __init__(self, seq: int, message: str) -> None:
        super().__init__(f"row {seq}: {message}", "keep a copy of the file: the rows before this one are sound")
        self.seq = seq


# -- rendering ---------------------------------------------------------------------------------------------


def render_body(body: Mapping[str, Any]) -> str:
    """A body as it is stored and hashed: JSON in ASCII, keys in order, no fractions, of bounded length."""
    text = _dump(_plan_plain(body, 0))
    if len(text) <= BODY_LIMIT_CHARS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return _dump({"cut": text[:_BEGINNING_CHARS], "sha256": digest, "size_chars": len(text)})


def render_content(seq: int, at: int, actor: str, name: str, agent: str | None, body: str) -> str:
    """A row as it is hashed. `body` stands in it as it is."""
    return (
        f'{{"actor":{_quote(actor)},"agent":{_quote(agent)},"at":{at:d},'
        f'"body":{body},"name":{_quote(name)},"seq":{seq:d}}}'
    )


def hash_content(previous: str, content: str) -> str:
    """The hash of a row; `previous` is that of the row before it."""
    return hashlib.sha256(f"{previous}\n{content}".encode("utf-8", "surrogatepass")).hexdigest()


def render_line(row: AuditRow) -> str:
    """A row as it is exported."""
    content = render_content(row.seq, row.at, row.actor, row.name, row.agent, row.body)
    return f'{_HEAD}{row.hash}",{content[1:]}'


def render_anchor(seq: int, hash_: str, noted_at: datetime) -> str:
    return f"{seq} {hash_} {noted_at.isoformat(timespec='seconds')}"


def parse_anchor(text: str) -> Anchor:
    """An anchor, as it is shown and as it stands in the file of them. Raises InvalidInputError."""
    found = _ANCHOR.fullmatch(text.strip())
    if found is None:
        raise InvalidInputError("that is no head of an audit", "a number, a colon and 64 digits: `hive audit head`")
    return Anchor(int(found[1]), found[2], found[3] or "")


# -- checking ----------------------------------------------------------------------------------------------


class Chain:
    """Goes along a chain and raises BrokenChainError at the first row that is not what was recorded.

    `anchors` are hashes noted elsewhere: without one of a later row, rows that were cut off at the end are not missed.
    """

    def __init__(self, anchors: Iterable[Anchor] = ()) -> None:
        self.seq = 0
        self.hash = NO_HASH
        self.anchored = 0
        self._anchors: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.seq, []).append(anchor)

    def add_row(self, values: Sequence[Any]) -> None:
        """The next row as the database gives it: seq, at, actor, name, agent, body, hash."""
        seq, at, actor, name, agent, body, hash_ = values
        if not isinstance(seq, int):
            raise BrokenChainError(self.seq + 1, "its number is none")
        if not isinstance(body, str):
            raise BrokenChainError(seq, "it cannot be read")
        try:
            content = render_content(seq, at, actor, name, agent, body)
        except (TypeError, ValueError) as error:
            raise BrokenChainError(seq, "it cannot be read") from error
        self._add(seq, content, hash_)

    def add_line(self, line: str) -> None:
        """The next row as it was exported."""
        start = len(_HEAD) + len(NO_HASH)
        found = _SEQ.search(line, max(len(line) - 30, 0))
        if not line.startswith(_HEAD) or line[start : start + 2] != '",' or found is None or found.end() != len(line):
            raise BrokenChainError(self.seq + 1, "this line is no row of an export")
        self._add(int(found[1]), "{" + line[start + 2 :], line[len(_HEAD) : start])

    def finish(self) -> None:
        """To be called after the last row."""
        beyond = [anchor for seq, anchors in self._anchors.items() if seq > self.seq for anchor in anchors]
        if beyond:
            last = max(beyond, key=lambda anchor: anchor.seq)
            raise BrokenChainError(
                self.seq + 1,
                f"it is missing, and all after it: there were {last.seq} rows{_render_noted(last)}",
            )
        if not self.seq:
            raise BrokenChainError(1, "it is missing: there is not even the first row")

    def _add(self, seq: int, content: str, hash_: object) -> None:
        expected = self.seq + 1
        if seq != expected:
            what = "it is missing" if seq > expected else f"a row {seq} stands in its place"
            raise BrokenChainError(expected, what)
        computed = hash_content(self.hash, content)
        if hash_ != computed:
            raise BrokenChainError(seq, "it was changed, or stands where another one was")
        for anchor in self._anchors.get(seq, ()):
            if anchor.hash != computed:
                raise BrokenChainError(
                    seq, f"it had another hash{_render_noted(anchor)}: it or a row before it was written anew"
                )
            self.anchored = seq
        self.seq, self.hash = seq, computed


def _render_noted(anchor: Anchor) -> str:
    return f", as noted at {anchor.noted_at}" if anchor.noted_at else ", as noted elsewhere"


# -- inside ------------------------------------------------------------------------------------------------


def is_hash(text: str) -> bool:
    return _HASH.fullmatch(text) is not None


_dump = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode


@lru_cache(maxsize=4096)
def _quote(text: str | None) -> str:
    if text is not None and not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # a foreign file
        raise TypeError
    return json.dumps(text)


def _plan_plain(value: Any, depth: int) -> Any:
    """Values that every program spells alike, cut to bounded ones."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value if len(value) <= TEXT_LIMIT_CHARS else value[:TEXT_LIMIT_CHARS] + "…"
    if isinstance(value, Mapping) and depth < _DEPTH_LIMIT:
        items = list(cast("Mapping[Any, Any]", value).items())[:_ITEMS_LIMIT]
        return {str(key)[:TEXT_LIMIT_CHARS]: _plan_plain(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple) and depth < _DEPTH_LIMIT:
        return [_plan_plain(item, depth + 1) for item in cast("Sequence[Any]", value)[:_ITEMS_LIMIT]]
    return str(cast("object", value))[:TEXT_LIMIT_CHARS]
