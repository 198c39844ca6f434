"""The first row of the audit: it says what was recorded before there was one, so that this cannot be changed unseen."""

import contextlib
import hashlib
import json
import sqlite3

from hyperhive import __version__
from hyperhive.core.audit import HIVE, NO_HASH, AuditName, hash_content, render_body, render_content
from hyperhive.core.errors import StorageError
from hyperhive.host.store.queries import QUERIES
from hyperhive.system.clock import now, to_millis


def begin_audit(connection: sqlite3.Connection) -> None:
    """Appends the first row, unless there is one. Raises StorageError if it cannot be stored."""
    try:
        if connection.execute(QUERIES["get_audit_head"]).fetchone() is not None:
            return
        connection.execute("begin immediate")
        count, digest = _digest_events(connection)
        at = to_millis(now())
        body = render_body({"events": count, "events_sha256": digest, "version": __version__})
        values = {"seq": 1, "at": at, "actor": HIVE, "name": AuditName.AUDIT_BEGUN.value, "agent": None, "body": body}
        digest = hash_content(NO_HASH, render_content(1, at, HIVE, AuditName.AUDIT_BEGUN, None, body))
        connection.execute(QUERIES["insert_audit"], values | {"hash": digest})
        connection.execute("commit")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("rollback")
        raise StorageError(f"the audit cannot be begun: {error}", "free some space") from error


def _digest_events(connection: sqlite3.Connection) -> tuple[int, str]:
    """How many events there are, and the SHA-256 of them: of each a JSON list of its columns, and a line feed."""
    digest, count = hashlib.sha256(), 0
    for row in connection.execute(QUERIES["list_all_events"]):
        digest.update(json.dumps(tuple(row), separators=(",", ":")).encode() + b"\n")
        count += 1
    return count, digest.hexdigest()
