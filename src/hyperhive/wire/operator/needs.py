"""What needs the operator, and who tells of it."""

from datetime import datetime

from pydantic import Field

from hyperhive.core.needs import NeedKind
from hyperhive.core.notifying import Hold
from hyperhive.wire.operator.base import Model


class Need(Model):
    """One thing that waits for the operator (see `core.needs`). `title` holds no text of an agent, `detail` may."""

    key: str = Field(description="What it is known by as long as it waits, such as approval-12.")
    kind: NeedKind
    ref: str = Field(description="The id of the approval, question or message, or the name of the agent.")
    agent: str | None
    title: str
    detail: str
    since: datetime
    deadline: datetime | None
    by_default: str = Field(description="What happens at the deadline, or as long as nobody acts.")
    acts: list[str] = Field(description="approve, deny, answer, login, grant, resume, start, requeue, dismiss")
    link: str = Field(description="Its place in the pages: a path and a fragment.")


class PushKey(Model):
    public_key: str = Field(description="The hive's, as an uncompressed point in base64url: the applicationServerKey.")


class Device(Model):
    """A browser that is told by web push what needs the operator."""

    id: int
    name: str
    service: str = Field(description="The host of its push service.")
    added_at: datetime
    muted: bool
    sent_at: datetime | None = Field(description="When it last took a push.")
    error: str = Field(description="Why it did not take the newest one; empty if it did.")


class DeviceRequest(Model):
    """What `PushSubscription.toJSON()` gives, and what the operator is to know it by."""

    endpoint: str = Field(min_length=1, max_length=1000)
    p256dh: str = Field(min_length=1, max_length=200)
    auth: str = Field(min_length=1, max_length=100)
    name: str = Field(default="a browser", min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")


class DeviceChange(Model):
    muted: bool


class HeldNeed(Model):
    """What a notifier does not tell yet."""

    key: str
    title: str
    by: Hold = Field(description="dwell: it is new; cooldown; quiet hours; backoff: the last message did not arrive.")
    until: datetime = Field(description="At most; something more urgent takes it along.")


class NotifyChannel(Model):
    """One notifier. Its URL is a secret and never shown."""

    name: str = Field(description="The scheme of its URL, such as ntfys or mailto-2.")
    sending: bool
    last_sent_at: datetime | None = Field(description="When it was told something that waits.")
    ok_at: datetime | None = Field(description="When it last took a message, a test or not.")
    fault: str = Field(description="What went wrong with the newest message; empty: it arrived.")
    fault_at: datetime | None
    failures: int = Field(description="In a row, tests left out.")
    retry_at: datetime | None
    held: list[HeldNeed]


class NotifierState(Model):
    """What tells the operator outside of the pages what needs them."""

    file: str = Field(description="Where the URLs are to be written.")
    problem: str = Field(description="Why the file as it is now does not count; empty: it does.")
    dwell_s: float
    cooldown_s: float
    remind_s: float = Field(description="0: never.")
    quiet: str = Field(description="The quiet hours; empty: none.")
    quiet_deadlines: bool
    quiet_until: datetime | None = Field(description="Set while they last.")
    time_zone: str
    channels: list[NotifyChannel]


class NotifyTestRequest(Model):
    channel: str | None = Field(default=None, max_length=64, description="Left out: all.")


class NotifyTest(Model):
    channel: str
    fault: str = Field(description="Empty: it arrived.")
