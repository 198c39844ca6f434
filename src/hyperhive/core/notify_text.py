"""What a notification says: titles of needs, deadlines on the operator's clock, links. Never an agent's own text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from urllib.parse import quote

from hyperhive.core.needs import Need, NeedKind
from hyperhive.core.notifying import Item, Reason
from hyperhive.core.text import cut_text, render_safe_line

# Services cut long messages, the smallest at about 1,000 characters.
TITLES_LIMIT = 10
TITLE_LIMIT_CHARS = 120

_WORDS = {
    NeedKind.APPROVAL: ("approval", "approvals"),
    NeedKind.QUESTION: ("question", "questions"),
    NeedKind.PERMISSION: ("tool call", "tool calls"),
    NeedKind.NOTES: ("rewrite of notes", "rewrites of notes"),
    NeedKind.LOGIN: ("login", "logins"),
    NeedKind.CRASH: ("crash", "crashes"),
    NeedKind.BUDGET: ("budget", "budgets"),
    NeedKind.LIMIT: ("usage limit", "usage limits"),
    NeedKind.DEAD_LETTER: ("dead letter", "dead letters"),
    NeedKind.RUNAWAY: ("runaway pair", "runaway pairs"),
}


@dataclass(frozen=True, slots=True)
class Notification:
    title: str
    body: str
    link: str


def render_notification(items: Sequence[Item], at: datetime, zone: tzinfo, base: str) -> Notification:
    """One message about all of `items`, in their order; `base` is the pages' address, without a `/` at its end."""
    if len(items) == 1:
        [item] = items
        link = render_link(item.need, base)
        since = _render_time(item.need.since, at, zone)
        body = f"waiting since {since}{_render_deadline(item.need, at, zone)}\n{link}"
        return Notification(f"hyperhive: {_render_title(item)}", body, link)
    counts = Counter(item.need.kind for item in items)
    summary = ", ".join(f"{count} {_WORDS[kind][count != 1]}" for kind, count in counts.most_common())
    lines: list[str] = []
    for item in items[:TITLES_LIMIT]:
        lines.append(f"- {_render_title(item)}{_render_deadline(item.need, at, zone)}")
        lines.append(f"  {render_link(item.need, base)}")
    if len(items) > TITLES_LIMIT:
        lines.append(f"and {len(items) - TITLES_LIMIT} more")
    lines += ["", f"{base}/"]
    return Notification(f"hyperhive: {len(items)} things need you: {summary}", "\n".join(lines), f"{base}/")


def render_test(base: str) -> Notification:
    return Notification("hyperhive: a test", f"Notifications of this hive arrive here.\n{base}/", f"{base}/")


def render_link(need: Need, base: str) -> str:
    """Where the need is in the pages."""
    return base + quote(need.link, safe="/#:*~,;+&=@")


def _render_title(item: Item) -> str:
    title = cut_text(render_safe_line(item.need.title), TITLE_LIMIT_CHARS)
    return f"still waiting: {title}" if item.reason is Reason.REMINDER else title


def _render_deadline(need: Need, at: datetime, zone: tzinfo) -> str:
    return "" if need.deadline is None else f", until {_render_time(need.deadline, at, zone)}"


def _render_time(instant: datetime, at: datetime, zone: tzinfo) -> str:
    """The time of day, with the date if it is not within half a day."""
    local = instant.astimezone(zone)
    return f"{local:%H:%M}" if abs(instant - at) < timedelta(hours=12) else f"{local:%Y-%m-%d %H:%M}"
