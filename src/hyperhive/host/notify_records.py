"""What is remembered of notifications: each function is a part of a transaction."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hyperhive.core.notifying import ChannelRecord, Plan, Reason, Sighting, Told, plan_backoff
from hyperhive.host.store.store import Transaction, View
from hyperhive.system.clock import from_millis, to_millis

_RUSHES_KEPT = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Health:
    """How the last sends of a channel went. `fault` is empty when the last one arrived."""

    ok_at: datetime | None = None
    fault: str = ""
    fault_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """A message that is on its way, or was when a daemon ended."""

    channel: str
    receipt: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """All of it, read at one moment. Channels are known by their digest."""

    channels: Mapping[str, ChannelRecord]
    health: Mapping[str, Health]
    sends: tuple[Sending, ...]
    needs_settling: bool = False
    sightings: Mapping[str, Sighting] = field(default_factory=dict[str, Sighting])


def load_memory(view: View, at: datetime) -> Memory:
    told: dict[str, dict[int, Told]] = {}
    for row in view.list("list_told"):
        mark = Told(from_millis(row["told_at"]), _instant(row["reminded_at"]))
        told.setdefault(row["channel"], {})[row["sighting"]] = mark
    rushes: dict[str, list[datetime]] = {}
    for row in view.list("list_rushes"):
        rushes.setdefault(row["channel"], []).append(from_millis(row["at"]))
    rows = view.list("list_notify_channels")
    return Memory(
        channels={
            row["channel"]: ChannelRecord(
                told=told.get(row["channel"], {}),
                last_sent_at=_instant(row["last_sent_at"]),
                rushed_at=tuple(rushes.get(row["channel"], ())),
                failures=row["failures"],
                retry_at=_instant(row["retry_at"]),
            )
            for row in rows
        },
        health={
            row["channel"]: Health(_instant(row["ok_at"]), row["fault"], _instant(row["fault_at"])) for row in rows
        },
        sends=tuple(
            Sending(row["channel"], row["receipt"], from_millis(row["at"])) for row in view.list("list_notify_sends")
        ),
        needs_settling=view.find("find_notify_future", at=to_millis(at)) is not None,
        sightings=load_sightings(view),
    )


def load_sightings(view: View) -> dict[str, Sighting]:
    return {
        row["key"]: Sighting(
            row["id"], row["key"], from_millis(row["since"]), from_millis(row["seen_at"]), _instant(row["gone_at"])
        )
        for row in view.list("list_sightings")
    }


def settle_clock(tx: Transaction, at: datetime) -> None:
    """Takes back what a clock that was set back has left in the future (see `core.notifying`)."""
    for query in ("settle_told", "settle_notify_channels", "settle_rushes"):
        tx.list(query, at=to_millis(at))


def save_sightings(
    tx: Transaction, known: Mapping[str, Sighting], seen: Mapping[str, Sighting], channels: Collection[str]
) -> dict[str, Sighting]:
    """Brings what is stored from `known` to `seen` (see `reduce_sightings`), and returns it with the new ids.

    Nothing is kept of channels that are not among `channels` and were told nothing that still waits.
    """
    for key in known:
        if key not in seen or seen[key].id == 0:
            tx.list("delete_sighting", key=key)
    for key, sighting in seen.items():
        if sighting.id == 0:
            times = {"since": to_millis(sighting.since), "seen_at": to_millis(sighting.seen_at)}
            tx.list("insert_sighting", key=key, **times)
        elif sighting != known.get(key):
            tx.list(
                "update_sighting",
                id=sighting.id,
                since=to_millis(sighting.since),
                seen_at=to_millis(sighting.seen_at),
                gone_at=None if sighting.gone_at is None else to_millis(sighting.gone_at),
            )
    tx.list("prune_told")
    tx.list("prune_notify_channels", channels=json.dumps(list(channels)))
    return load_sightings(tx)


def begin_send(tx: Transaction, channel: str, receipt: str, plan: Plan, at: datetime) -> None:
    """Notes what is about to be sent, so that a crash on the way is known of."""
    told, reminded = _list_ids(plan, Reason.NEW), _list_ids(plan, Reason.REMINDER)
    tx.list(
        "begin_notify_send",
        channel=channel,
        receipt=receipt,
        at=to_millis(at),
        rushed=int(plan.rushed),
        told=json.dumps(told),
        reminded=json.dumps(reminded),
    )


def note_arrived(tx: Transaction, channel: str, receipt: str, at: datetime) -> None:
    """What was on its way was taken: it is told. Does nothing if that is known."""
    row = tx.find("end_notify_send", channel=channel, receipt=receipt)
    if row is None:
        return
    at_ms = to_millis(at)
    for sighting in _parse_ids(row["told"]):
        tx.list("note_told", channel=channel, sighting=sighting, at=at_ms)
    for sighting in _parse_ids(row["reminded"]):
        tx.list("note_reminded", channel=channel, sighting=sighting, at=at_ms)
    if row["rushed"]:
        tx.list("insert_rush", channel=channel, at=at_ms)
    tx.list("prune_rushes", before=to_millis(at - _RUSHES_KEPT))
    tx.list("note_notify_sent", channel=channel, at=at_ms)


def note_failed(tx: Transaction, channel: str, receipt: str, fault: str, failures: int, at: datetime) -> None:
    """What was on its way was not taken: all of it is told later, if it still waits then. `failures` in a row."""
    tx.list("end_notify_send", channel=channel, receipt=receipt)
    retry_at = to_millis(at + plan_backoff(failures))
    tx.list("note_notify_fault", channel=channel, fault=fault, failures=failures, at=to_millis(at), retry_at=retry_at)


def note_lost(tx: Transaction, channel: str, receipt: str) -> None:
    """What was on its way never arrived, for the hive ended first."""
    tx.list("end_notify_send", channel=channel, receipt=receipt)


def note_tested(tx: Transaction, channel: str, fault: str, at: datetime) -> None:
    """A test message arrived, or did not."""
    if fault:
        tx.list("note_notify_broken", channel=channel, fault=fault, at=to_millis(at))
    else:
        tx.list("note_notify_works", channel=channel, at=to_millis(at))


def _list_ids(plan: Plan, reason: Reason) -> list[int]:
    return [item.sighting.id for item in plan.items if item.reason is reason]


def _parse_ids(text: str) -> Iterable[int]:
    return [int(value) for value in json.loads(text)]


def _instant(millis: int | None) -> datetime | None:
    return None if millis is None else from_millis(millis)
