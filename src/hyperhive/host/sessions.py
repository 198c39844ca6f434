"""Operator sessions: a login token in a URL, once, becomes a cookie. The store holds hashes only."""

import hashlib
import secrets
from datetime import timedelta

from hyperhive.core.audit import AuditName
from hyperhive.core.errors import RefusedError
from hyperhive.host.acting import render_session
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now, to_millis

# A printed link is meant to be opened now, not found in a scrollback next week.
LOGIN_TOKEN_LIFETIME = timedelta(hours=12)
SESSION_LIFETIME = timedelta(days=30)
_ID_CHARS = 12


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
            tx.audit(AuditName.LOGIN_LINK_MADE, None, {"link": name_session(token)})

        await self._store.write(insert)
        return token

    async def open(self, login_token: str, program: str = "") -> str:
        """The session's secret in exchange for a login token. Raises RefusedError for a used or unknown one.

        `program` is what the browser calls itself.
        """
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
            body = {"session": name_session(session), "link": name_session(login_token), "program": program}
            tx.audit(AuditName.SESSION_OPENED, None, body, render_session(name_session(session)))

        await self._store.write(exchange)
        return session

    async def is_open(self, session: str) -> bool:
        row = await self._store.read(
            lambda view: view.find("find_session", token_hash=_hash(session), at=to_millis(now()))
        )
        return row is not None

    async def close(self, session: str) -> None:
        """Ends it; one that there is not is no error."""

        def delete(tx: Transaction) -> None:
            if tx.find("find_session", token_hash=_hash(session), at=tx.at_ms) is not None:
                tx.audit(AuditName.SESSION_ENDED, None, {"session": name_session(session)})
            tx.list("delete_session", token_hash=_hash(session))

        await self._store.write(delete)


def name_session(secret: str) -> str:
    """By what a session, or a login link, is known in the audit: nobody gets in with it."""
    return _hash(secret)[:_ID_CHARS]


def _hash(token: str) -> str:
    # The tokens are random and long: a plain hash is as good as a slow one.
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
