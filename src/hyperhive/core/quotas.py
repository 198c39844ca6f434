"""Quotas: how much of the hive one agent may take, so that the others and the operator always have some. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

GIB = 1024**3
MIB = 1024**2
# Of the folders of one agent. A disk runs out of inodes, too.
ENTRIES_LIMIT = 1_000_000
# It is told once it has come this far, and again once it has been below the other.
WARN_AT = 0.8
CALM_AT = 0.7
# What is kept free of a disk: so much, or that part of a large one, but no more than that part of a small one.
RESERVE_BYTES = GIB
_RESERVE_PART = 0.02
_RESERVE_MOST = 0.1
# Below this part of the reserve nothing is stored any more that an agent asks for: the rest is the operator's.
FLOOR_PART = 0.25
# What has grown less did not fill the disk.
GROWTH_LEAST_BYTES = MIB
GROWTH_LEAST_PART = 0.25


class Quota(StrEnum):
    # of its container: bounds of the kernel's
    MEMORY = "memory"
    TASKS = "tasks"
    DISK = "disk"
    FILES = "files"
    # what it sends a minute
    MESSAGES = "messages"
    # what waits for it
    INBOX = "inbox"
    QUESTIONS = "questions"
    REMINDERS = "reminders"
    # its transcript: what is kept, what may come, and how much of that
    TRANSCRIPT = "transcript"
    EVENTS = "events"
    EVENT_BYTES = "event_bytes"
    # all else that it has the hive write down
    ACTS = "acts"
    # its requests to the model on their way, what they hold, and how many a minute
    REQUESTS = "requests"
    REQUEST_BYTES = "request_bytes"
    REQUEST_RATE = "request_rate"
    TERMINALS = "terminals"
    LOG = "log"


class Unit(StrEnum):
    COUNT = "count"
    BYTES = "bytes"
    # `used` is what was taken of those that may come at once; `limit` is what may come each minute
    PER_MINUTE = "per_minute"
    BYTES_PER_MINUTE = "bytes_per_minute"


@dataclass(frozen=True, slots=True)
class Use:
    """How much is used of one quota. `used`: not known if None; `limit`: none if None."""

    quota: Quota
    unit: Unit
    used: float | None
    limit: float | None


@dataclass(frozen=True, slots=True)
class DiskUse:
    """What folders hold. `complete`: nothing was left out that could not be looked at."""

    size_bytes: int
    entries: int
    complete: bool = True

    def plus(self, other: "DiskUse") -> "DiskUse":
        return DiskUse(
            self.size_bytes + other.size_bytes, self.entries + other.entries, self.complete and other.complete
        )


def plan_reserve_bytes(total_bytes: int, wanted_bytes: int | None) -> int:
    """What is kept free of a disk of that size: what is wanted, or what fits the disk."""
    if wanted_bytes is not None:
        return wanted_bytes
    return int(min(max(RESERVE_BYTES, total_bytes * _RESERVE_PART), total_bytes * _RESERVE_MOST))


def find_excess(use: DiskUse, limit_bytes: int | None) -> str:
    """Why an agent's folders are over what they may hold, in words; empty if they are not."""
    if limit_bytes is not None and use.size_bytes > limit_bytes:
        return f"its folders hold {render_bytes(use.size_bytes)} of {render_bytes(limit_bytes)}"
    if use.entries >= ENTRIES_LIMIT:
        return f"its folders hold {ENTRIES_LIMIT:,} files or more"
    return ""


def is_near(use: DiskUse, limit_bytes: int | None, part: float = WARN_AT) -> bool:
    """Whether folders hold that part of what they may, or more."""
    near_bytes = limit_bytes is not None and use.size_bytes >= limit_bytes * part
    return near_bytes or use.entries >= ENTRIES_LIMIT * part


def find_grower(growths: Mapping[str, int], fall_bytes: int) -> str | None:
    """Who took the room: the agent whose folders grew most, if that is a good part of what is gone. None: nobody."""
    name = max(growths, key=lambda one: growths[one], default=None)
    if name is None or growths[name] < max(GROWTH_LEAST_BYTES, fall_bytes * GROWTH_LEAST_PART):
        return None
    return name


def render_bytes(size_bytes: float) -> str:
    """A size for people: `12.0 GiB`."""
    for unit, size in (("TiB", 1024 * GIB), ("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes:.0f} bytes"
