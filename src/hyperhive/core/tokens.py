"""API tokens: what a program may do with one. The rules only; `host.tokens` keeps them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from hyperhive.core.errors import InvalidInputError

NAME_LIMIT_CHARS = 40
LIFETIME_LIMIT = timedelta(days=3650)

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LIFETIME = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class TokenScope(StrEnum):
    """Each allows what it says and nothing else: a program that reports in reads nobody's messages. `admin` is all."""

    READ = "read"
    SEND = "send"
    DECIDE = "decide"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token. Its secret is known to whoever was shown it."""

    id: int
    name: str
    scopes: frozenset[TokenScope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    def may(self, scope: TokenScope) -> bool:
        return scope in self.scopes or TokenScope.ADMIN in self.scopes

    def is_expired(self, at: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= at


def parse_token_name(text: str) -> str:
    """A name by which the operator knows a token. Raises InvalidInputError."""
    if len(text) > NAME_LIMIT_CHARS or _NAME.fullmatch(text) is None:
        raise InvalidInputError(
            "that is no name for a token", f"lower-case letters, digits and single dashes, at most {NAME_LIMIT_CHARS}"
        )
    return text


def parse_scopes(words: Iterable[str]) -> frozenset[TokenScope]:
    """The scopes that are named. Raises InvalidInputError for an unknown one, and for none at all."""
    names = list(words)
    known = {scope.value for scope in TokenScope}
    if not names or not known.issuperset(names):
        raise InvalidInputError("a token needs scopes that there are", f"one or more of {', '.join(TokenScope)}")
    return frozenset(TokenScope(name) for name in names)


def parse_lifetime(text: str) -> timedelta:
    """A span such as 90m, 12h, 30d or 8w. Raises InvalidInputError."""
    match = _LIFETIME.fullmatch(text)
    lifetime = timedelta(0) if match is None else int(match[1]) * _UNITS[match[2]]
    if not timedelta(0) < lifetime <= LIFETIME_LIMIT:
        raise InvalidInputError("that is no lifetime", "such as 90m, 12h, 30d or 8w, at most ten years")
    return lifetime
