"""The devices: browsers that subscribed. Rows, and what the operator does with them; each change is one transaction."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta

from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.host.push.encryption import BrowserKeys
from hyperhive.host.push.notices import Notice
from hyperhive.host.store.store import Transaction
from hyperhive.system.clock import from_millis, to_millis

# An operator has a few; each costs a request for each thing that needs them.
DEVICES_LIMIT = 20
# A notification that nobody closed for so long is not looked for any more.
TOLD_LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Device:
    """A browser that takes pushes. `error` says why it did not take the newest one."""

    id: int
    endpoint: str
    keys: BrowserKeys
    name: str
    added_at: datetime
    muted: bool
    sent_at: datetime | None
    error: str


def to_device(row: sqlite3.Row) -> Device:
    return Device(
        id=row["id"],
        endpoint=row["endpoint"],
        keys=BrowserKeys(row["point"], row["auth"]),
        name=row["name"],
        added_at=from_millis(row["added_at"]),
        muted=bool(row["muted"]),
        sent_at=None if row["sent_at"] is None else from_millis(row["sent_at"]),
        error=row["error"],
    )


def save_device(tx: Transaction, endpoint: str, keys: BrowserKeys, name: str) -> Device:
    """Adds a browser, or renews the one that is known by its endpoint. Raises ConflictError if there are too many."""
    known = tx.find("find_device_at", endpoint=endpoint)
    if known is not None:
        return to_device(tx.get("renew_device", id=known["id"], point=keys.point, auth=keys.auth, name=name))
    if tx.get("count_devices")["count"] >= DEVICES_LIMIT:
        raise ConflictError(f"there are {DEVICES_LIMIT} devices already", "remove one that is not used any more")
    row = tx.get("insert_device", endpoint=endpoint, point=keys.point, auth=keys.auth, name=name, at=tx.at_ms)
    tx.emit(EventName.DEVICE_ADDED, None, {"id": row["id"], "name": name})
    return to_device(row)


def mute_device(tx: Transaction, device_id: int, muted: bool) -> Device:
    """Raises NotFoundError."""
    row = tx.find("mute_device", id=device_id, muted=int(muted))
    if row is None:
        raise NotFoundError(f"there is no device {device_id}", "list them: hive devices")
    return to_device(row)


def remove_device(tx: Transaction, device_id: int, reason: str) -> None:
    """Raises NotFoundError."""
    row = tx.find("delete_device", id=device_id)
    if row is None:
        raise NotFoundError(f"there is no device {device_id}", "list them: hive devices")
    tx.list("delete_pushed_of", device=device_id)
    tx.emit(EventName.DEVICE_REMOVED, None, {"id": device_id, "name": row["name"], "reason": reason})


def load_devices(tx: Transaction) -> tuple[list[Device], list[tuple[int, str]]]:
    """All devices, and the keys of the needs that each was told and that were not withdrawn there."""
    tx.list("delete_old_pushed", before=to_millis(tx.at - TOLD_LIFETIME))
    told = [(int(row["device"]), str(row["key"])) for row in tx.list("list_pushed")]
    return [to_device(row) for row in tx.list("list_devices")], told


def note_taken(tx: Transaction, device_id: int, notice: Notice, at: datetime | None) -> Device | None:
    """A push was taken at `at`; None: it was not even sent, as the device may not be told so. None if there is no such
    device any more."""
    row = tx.find("note_device_sent", id=device_id, at=None if at is None else to_millis(at))
    if row is None:
        return None
    if notice.kind == "need":
        tx.list("save_pushed", device=device_id, key=notice.key, at=tx.at_ms)
    elif notice.kind == "gone":
        tx.list("delete_pushed", device=device_id, key=notice.key)
    return to_device(row)


def note_failed(tx: Transaction, device_id: int, reason: str) -> Device | None:
    """None if there is no such device any more."""
    row = tx.find("note_device_failed", id=device_id, error=reason)
    return None if row is None else to_device(row)
