"""Operator sessions: a login token in a URL, once, becomes a cookie. The store holds hashes only."""

import hashlib
import secrets
from datetime import timedelta

from hyperhive.core.errors import RefusedError
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now, to_millis

# A printed link is meant to be opened now, not found in a scrollback next week.
LOGIN_TOKEN_LIFETIME = timedelta(hours=12)
SESSION_LIFETIME = timedelta(days=30)


class Sessions:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def new_login_token(self) -> str:
        """A token that opens one session, once, within LOGIN_TOKEN_LIFETIME."""
        token = secrets.token_urlsafe(32)

        def insert(tx: Transaction) -> None:
            tx.list("delete_expired_login_tokens", at=tx.at_ms)
            expires_at = to_millis(tx.at + LOGIN_TOKEN_LIFETIME)
            tx.list("insert_login_token", token_hash=_hash(token), expires_at=expires_at)

        await self._store.write(insert)
        return token

    async def open(self, login_token: str) -> str:
        """The session's secret in exchange for a login token. Raises RefusedError for a used or unknown one."""
        session = secrets.token_urlsafe(32)

        def exchange(tx: Transaction) -> None:
            if tx.find("take_login_token", token_hash=_hash(login_token), at=tx.at_ms) is None:
                raise RefusedError("this link was used before or is too old", "run `hive url` for a new one")
            tx.list("delete_expired_sessions", at=tx.at_ms)
            tx.list(
                "insert_session",
                token_hash=_hash(session),
                at=tx.at_ms,
                expires_at=to_millis(tx.at + SESSION_LIFETIME),
            )

        await self._store.write(exchange)
        return session

    async def is_open(self, session: str) -> bool:
        row = await self._store.read(
            lambda view: view.find("find_session", token_hash=_hash(session), at=to_millis(now()))
        )
        return row is not None

    async def close(self, session: str) -> None:
        await self._store.write(lambda tx: tx.list("delete_session", token_hash=_hash(session)))


def _hash(token: str) -> str:
    # The tokens are random and long: a plain hash is as good as a slow one.
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
