"""What is remembered of snapshots: each function is a part of a transaction, with the events that belong to it."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hyperhive.core.errors import ConflictError, NotFoundError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.core.messages import MessageState
from hyperhive.core.names import SYSTEM
from hyperhive.host.kick import NOTES
from hyperhive.host.leases import tell_state
from hyperhive.host.message_records import queue_message
from hyperhive.host.snapshots.archive import Packed
from hyperhive.host.snapshots.contents import EACH_LIMIT, EACH_LIMIT_BYTES, Inbox, Manifest
from hyperhive.host.store.store import Transaction, View
from hyperhive.system.clock import from_millis, to_millis

_REPLAYED = "handled since the snapshot that the agent was restored from"


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """`is_ready`: its archive is there and whole."""

    id: int
    agent: str
    at: datetime
    is_ready: bool
    note: str
    commit: str
    session: str
    turns: int
    with_credentials: bool
    automatic: bool
    imported: bool
    size_bytes: int
    left_out: int
    sha256: str


def to_snapshot(row: sqlite3.Row) -> SnapshotRecord:
    return SnapshotRecord(
        id=row["id"],
        agent=row["agent"],
        at=from_millis(row["at"]),
        is_ready=row["state"] == "ready",
        note=row["note"],
        commit=row["commit_sha"],
        session=row["session"],
        turns=row["turns"],
        with_credentials=bool(row["with_credentials"]),
        automatic=bool(row["automatic"]),
        imported=bool(row["imported"]),
        size_bytes=row["size_bytes"],
        left_out=row["left_out"],
        sha256=row["sha256"],
    )


def list_snapshots(view: View, agent: str | None) -> list[SnapshotRecord]:
    return [to_snapshot(row) for row in view.list("list_snapshots", agent=agent)]


def get_snapshot(view: View, snapshot_id: int) -> SnapshotRecord:
    """Raises NotFoundError."""
    row = view.find("get_snapshot", id=snapshot_id)
    if row is None:
        raise NotFoundError(f"there is no snapshot {snapshot_id}", "see `hive snapshots`")
    return to_snapshot(row)


def get_ready(view: View, snapshot_id: int) -> SnapshotRecord:
    """Raises NotFoundError, ConflictError for one that is being taken."""
    found = get_snapshot(view, snapshot_id)
    if not found.is_ready:
        raise ConflictError(f"snapshot {snapshot_id} is being taken", "wait for its end")
    return found


def begin_snapshot(
    tx: Transaction, agent: str, *, with_credentials: bool, automatic: bool, imported: bool
) -> tuple[SnapshotRecord, list[SnapshotRecord]]:
    """A row for a snapshot that is about to be made; and those that have to go for it, which are removed.

    Only what the hive made by itself goes. Raises TooLargeError if there are too many others.
    """
    kept = [snapshot for snapshot in list_snapshots(tx, agent) if snapshot.is_ready]
    spare = [snapshot for snapshot in kept if snapshot.automatic]
    gone: list[SnapshotRecord] = []
    while len(kept) >= EACH_LIMIT or sum(snapshot.size_bytes for snapshot in kept) >= EACH_LIMIT_BYTES:
        if not spare:
            size = sum(snapshot.size_bytes for snapshot in kept)
            raise TooLargeError(
                f"{len(kept)} snapshots of {agent} with {size:,} bytes are kept", "hive snapshot rm ID removes one"
            )
        # The oldest.
        oldest = spare.pop()
        kept.remove(oldest)
        remove_snapshot(tx, oldest)
        gone.append(oldest)
    row = tx.get(
        "insert_snapshot",
        agent=agent,
        at=tx.at_ms,
        note="",
        with_credentials=int(with_credentials),
        automatic=int(automatic),
        imported=int(imported),
    )
    return to_snapshot(row), gone


def finish_snapshot(
    tx: Transaction, snapshot: SnapshotRecord, manifest: Manifest, packed: Packed, left_out: int
) -> SnapshotRecord:
    row = tx.get(
        "finish_snapshot",
        id=snapshot.id,
        at=to_millis(datetime.fromisoformat(manifest.at)),
        note=manifest.note,
        commit=manifest.commit,
        session=manifest.session,
        turns=manifest.turns,
        with_credentials=int(manifest.with_credentials),
        size_bytes=packed.size_bytes,
        left_out=left_out,
        sha256=packed.sha256,
    )
    body = {"snapshot": snapshot.id, "automatic": snapshot.automatic, "imported": snapshot.imported}
    tx.emit(EventName.AGENT_SNAPSHOTTED, snapshot.agent, body)
    return to_snapshot(row)


def remove_snapshot(tx: Transaction, snapshot: SnapshotRecord) -> None:
    if tx.list("delete_snapshot", id=snapshot.id) and snapshot.is_ready:
        tx.emit(EventName.SNAPSHOT_REMOVED, snapshot.agent, {"snapshot": snapshot.id})


def load_inbox(view: View, agent: str, limit: int) -> Inbox:
    waiting = [row["id"] for row in view.list("list_unsettled_ids", agent=agent, limit=limit)]
    return Inbox(int(view.get("newest_message_id")["id"]), waiting)


def set_held(tx: Transaction, name: str, *, held: bool) -> None:
    """Has an agent handed no message, or has them handed to it again. One that is not there is no error."""
    if tx.list("set_held", name=name, held=int(held)):
        tx.tell(EventName.AGENT_HELD if held else EventName.AGENT_RELEASED, name, {})


def replay_messages(tx: Transaction, agent: str, inbox: Inbox) -> int:
    """Queues again what an agent handled since then; returns how many messages."""
    rows = tx.list(
        "replay_messages",
        agent=agent,
        reason=_REPLAYED,
        buried=f"{agent} was purged",
        newest=inbox.newest,
        waiting=json.dumps(list(inbox.waiting)),
    )
    ids: Sequence[int] = [row["id"] for row in rows]
    tell_state(tx, EventName.MESSAGE_REQUEUED, agent, ids, MessageState.QUEUED, _REPLAYED)
    return len(ids)


def tell_restored(tx: Transaction, agent: str, at: str, *, replay: bool) -> None:
    """Tells an agent that it is what it was: half of what others say of it is not in its memory."""
    again = "come again, marked as redelivered" if replay else "do not come again"
    _tell(
        tx,
        agent,
        "restored",
        f"the operator brought you back to what you were at {at}: what you did since then is not in your "
        f"conversation, nor in /state. Messages that you handled since then {again}.",
    )


def tell_forked(tx: Transaction, agent: str, origin: str, at: str) -> None:
    _tell(
        tx,
        agent,
        "forked",
        f"you are {agent}, a new agent with the conversation and the /state that {origin} had at {at}; {origin} "
        f"goes its own way, and what waits for it does not come to you.",
    )


def _tell(tx: Transaction, agent: str, event: str, reason: str) -> None:
    queue_message(tx, SYSTEM, agent, json.dumps({"event": event, "reason": reason, "notes": NOTES}))
