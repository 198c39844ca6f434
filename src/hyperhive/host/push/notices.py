"""What a push says: that something needs the operator, or that it does no more. Never an agent's own words."""

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from hyperhive.core.needs import Need
from hyperhive.host.push.post import Push

# How long a push service keeps it for a device that is off, unless it is of no use before.
LIFETIME = timedelta(hours=24)
TITLE_LIMIT_CHARS = 200
# Waiting for one device. Over it the oldest is let go: what needs the operator is in the page all the same.
BOX_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Notice:
    """`key` is the need's. `gone` withdraws what was said of it before; a `test` is never withdrawn."""

    key: str
    kind: Literal["need", "gone", "test"]
    fields: dict[str, Any]
    urgency: str
    expires_at: datetime

    def render_push(self, at: datetime) -> Push:
        content = json.dumps({"kind": self.kind, "key": self.key} | self.fields, separators=(",", ":")).encode()
        return Push(content, max(int((self.expires_at - at).total_seconds()), 0), self.urgency, render_topic(self.key))


def tell(need: Need, at: datetime) -> Notice:
    """Only what the hive itself says of a need: `detail` may hold an agent's words and stays here."""
    fields = {"need": need.kind.value, "title": need.title[:TITLE_LIMIT_CHARS], "acts": list(need.acts)}
    ends_at = at + LIFETIME if need.deadline is None else min(need.deadline, at + LIFETIME)
    return Notice(need.key, "need", fields, urgency="high", expires_at=ends_at)


def withdraw(key: str, at: datetime) -> Notice:
    return Notice(key, "gone", {}, urgency="normal", expires_at=at + LIFETIME)


def try_out(at: datetime) -> Notice:
    """What the operator sends to see whether a device takes it."""
    fields = {"title": "this device is told what needs you"}
    return Notice("test", "test", fields, urgency="high", expires_at=at + timedelta(minutes=5))


def render_topic(key: str) -> str:
    """The topic of all that is said of a need: at most 32 characters of base64url (RFC 8030), which keys are not."""
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()[:24]).decode("ascii")


class Box:
    """What waits to be sent to one device: the newest of each key, the oldest first, and what stands there already."""

    def __init__(self) -> None:
        self._waiting: dict[str, Notice] = {}
        self._flying: Notice | None = None
        # The keys of what was told and not withdrawn.
        self.told: set[str] = set()

    def put(self, notice: Notice) -> None:
        """A withdrawal of what was never told takes back what waits, and nothing is sent."""
        self._waiting.pop(notice.key, None)
        flying = self._flying is not None and self._flying.key == notice.key
        if notice.kind == "gone" and notice.key not in self.told and not flying:
            return
        self._waiting[notice.key] = notice
        if len(self._waiting) > BOX_LIMIT:
            del self._waiting[next(iter(self._waiting))]

    def find_first(self, at: datetime) -> Notice | None:
        """What is to be sent next; what is of no use any more is let go."""
        for notice in list(self._waiting.values()):
            if notice.expires_at > at:
                return notice
            del self._waiting[notice.key]
        return None

    def send(self, notice: Notice) -> None:
        """It is under way, and may arrive whatever is heard of it."""
        self._flying = notice

    def land(self, *, taken: bool) -> None:
        """What was under way is taken, or it is not known to be."""
        notice, self._flying = self._flying, None
        if notice is None or not taken:
            return
        self.drop(notice)
        if notice.kind == "need":
            self.told.add(notice.key)
        elif notice.kind == "gone":
            self.told.discard(notice.key)

    def drop(self, notice: Notice) -> None:
        """It is of no use. What was put in its place meanwhile stays."""
        if self._waiting.get(notice.key) is notice:
            del self._waiting[notice.key]

    def clear(self) -> None:
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
