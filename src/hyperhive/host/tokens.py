"""API tokens: made and revoked by the operator, checked at each request. The store holds hashes only.

All of them are held in memory, so that neither a good nor a wrong one costs the database anything.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, RefusedError, StorageError, TooManyError
from hyperhive.core.events import EventName
from hyperhive.core.tokens import Token, TokenScope, parse_scopes, parse_token_name
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import from_millis, now, to_millis

log = structlog.get_logger(__name__)

# By what a secret is known as one of ours, in a log or in a repository where it does not belong.
PREFIX = "hive_"
TOKENS_LIMIT = 100
PATH_LIMIT_CHARS = 500
# When a token was last used is stored no oftener than this.
USED_STEP = timedelta(hours=1)
_USED_STEP_MS = 3_600_000
# Wrong ones that are answered as wrong, in so many seconds; more are only counted out. Right ones always pass: all
# who ask are on this machine and look alike, and nobody is to lock another one out.
WRONG_LIMIT = 10
WRONG_WINDOW_S = 60.0


class Tokens:
    """To be loaded once, before the first request is let in."""

    def __init__(
        self,
        store: Store,
        monotonic_s: Callable[[], float] = time.monotonic,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        """`refused` is called each time a wrong one was shown."""
        self._store = store
        self._refused = refused
        self._monotonic_s = monotonic_s
        self._known: dict[str, Token] = {}
        self._wrong: deque[float] = deque(maxlen=WRONG_LIMIT)
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Reads all from the store."""

        def look(view: View) -> dict[str, Token]:
            return {row["token_hash"]: _to_token(row) for row in view.list("list_api_tokens")}

        self._known = await self._store.read(look)

    async def create(self, name: str, scopes: Iterable[str], lifetime: timedelta | None) -> tuple[Token, str]:
        """A new token and its secret, which nobody can find out again.

        Raises InvalidInputError, ConflictError for a name that is taken, TooManyError.
        """
        name, wanted = parse_token_name(name), parse_scopes(scopes)
        secret = PREFIX + secrets.token_urlsafe(32)

        def insert(tx: Transaction) -> Token:
            if tx.find("find_api_token", name=name) is not None:
                raise ConflictError(f"there is a token {name} already", f"`hive token revoke {name}` ends it")
            if int(tx.get("count_api_tokens")["tokens"]) >= TOKENS_LIMIT:
                raise TooManyError(f"there are {TOKENS_LIMIT} tokens", "revoke those that nobody uses any more")
            expires_at = None if lifetime is None else to_millis(tx.at + lifetime)
            row = tx.get(
                "insert_api_token",
                name=name,
                token_hash=_hash(secret),
                scopes=json.dumps(sorted(wanted)),
                at=tx.at_ms,
                expires_at=expires_at,
            )
            token = _to_token(row)
            expires = "" if token.expires_at is None else token.expires_at.isoformat()
            tx.emit(EventName.TOKEN_CREATED, None, {"name": name, "scopes": sorted(wanted), "expires_at": expires})
            return token

        async with self._changing:
            token = await self._store.write(insert)
            self._known[_hash(secret)] = token
        return token, secret

    async def revoke(self, name: str) -> None:
        """Ends a token at once. Raises NotFoundError."""

        def delete(tx: Transaction) -> str:
            row = tx.find("delete_api_token", name=name)
            if row is None:
                raise NotFoundError("there is no such token", "`hive token list` shows all")
            tx.emit(EventName.TOKEN_REVOKED, None, {"name": name})
            return row["token_hash"]

        async with self._changing:
            self._known.pop(await self._store.write(delete), None)

    def list_tokens(self) -> list[Token]:
        """All, those that have expired too, the oldest first."""
        return sorted(self._known.values(), key=lambda token: token.id)

    async def identify(self, secret: str) -> Token:
        """Whose secret this is. Raises RefusedError for a wrong or expired one, TooManyError after many of them."""
        key = self._find(_hash(secret))
        token = None if key is None else self._known[key]
        at = now()
        if key is None or token is None or token.is_expired(at):
            raise self._refuse()
        if token.last_used_at is None or at - token.last_used_at >= USED_STEP:
            await self._note_use(key, token)
        return token

    async def record_act(self, token: Token, method: str, path: str) -> None:
        """Records that a token is about to change something: what came of it, the events after this one tell."""
        body = {"name": token.name, "method": method, "path": path[:PATH_LIMIT_CHARS]}
        await self._store.write(lambda tx: tx.emit(EventName.TOKEN_ACTED, None, body))

    def _find(self, key: str) -> str | None:
        """The stored hash that equals `key`. All are compared, in a time that tells nothing of them."""
        found = None
        for known in self._known:
            if hmac.compare_digest(known, key):
                found = known
        return found

    def _refuse(self) -> HiveError:
        self._refused()
        at_s = self._monotonic_s()
        is_many = len(self._wrong) == WRONG_LIMIT and at_s - self._wrong[0] < WRONG_WINDOW_S
        if is_many:
            return TooManyError("too many wrong tokens were shown", "`hive token list` shows which there are")
        self._wrong.append(at_s)
        return RefusedError("the token is wrong, revoked or too old", "`hive token create` makes one")

    async def _note_use(self, key: str, token: Token) -> None:
        def update(tx: Transaction) -> datetime:
            hour_ms = tx.at_ms - tx.at_ms % _USED_STEP_MS
            tx.list("set_api_token_used", id=token.id, at=hour_ms)
            return from_millis(hour_ms)

        async with self._changing:
            # Another request of the same token may have been first, or it was revoked meanwhile.
            if self._known.get(key) is not token:
                return
            try:
                self._known[key] = replace(token, last_used_at=await self._store.write(update))
            except StorageError as error:
                # A full disk is no reason not to let anyone read.
                log.warning("token.use_not_stored", name=token.name, message=error.message)


def _hash(secret: str) -> str:
    # The secrets are random and long: a plain hash is as good as a slow one.
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _to_token(row: sqlite3.Row) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(TokenScope(scope) for scope in json.loads(row["scopes"])),
        created_at=from_millis(row["created_at"]),
        expires_at=None if row["expires_at"] is None else from_millis(row["expires_at"]),
        last_used_at=None if row["last_used_at"] is None else from_millis(row["last_used_at"]),
    )
