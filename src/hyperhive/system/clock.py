"""The one door for the time of day. Deadlines inside a process use the event loop's monotonic clock instead."""

from datetime import UTC, datetime


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


def to_millis(instant: datetime) -> int:
    """An aware instant as whole milliseconds since the epoch, the form in which it is stored."""
    return int(instant.timestamp() * 1000)


def from_millis(millis: int) -> datetime:
    """The inverse of `to_millis`."""
    return datetime.fromtimestamp(millis / 1000, UTC)
