"""The kick: one message that tells an agent that its container was started anew, and why.

Whoever finds the conversation where it was, and half of the work gone, should know what happened. Waking from
hibernation is no such thing, nor is a daemon that comes back to a container which ran on.
"""

import json
from dataclasses import dataclass
from enum import StrEnum

from hyperhive.core.messages import Message, MessageState
from hyperhive.core.names import SYSTEM
from hyperhive.host.message_records import queue_message
from hyperhive.host.store.rows import to_message
from hyperhive.host.store.store import Transaction, View

NOTES = "/state/notes.md"


class Why(StrEnum):
    """Why a container is started."""

    # for the first time, or to be of use again: nothing happened that an agent could have missed
    NEEDED = "needed"
    WOKEN = "woken"
    CRASHED = "crashed"
    RESTARTED = "restarted"
    STARTED = "started"
    CONFIGURED = "configured"
    FELL_BACK = "fell_back"
    UPDATED = "updated"
    BOOTED = "booted"


_WORDS = {
    Why.CRASHED: "your container ended unasked ({detail}), and was started again",
    Why.RESTARTED: "{detail} restarted your container",
    Why.STARTED: "{detail} started your container again after it had been stopped",
    Why.CONFIGURED: "your config was changed, and your container restarted with the new one",
    Why.FELL_BACK: "a new config of yours could not be started: your container was restarted with the one before",
    Why.UPDATED: "your container was built anew by the operator's wish, with the newest of the hive and your config",
    Why.BOOTED: "{detail}, and your container was started again",
}


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a container. `detail` is for the words: who asked, or how it had ended.

    `crashes` counts the crashes in a row of which this is the last, 0 if it is none.
    """

    why: Why
    detail: str = ""
    crashes: int = 0


NEEDED = Start(Why.NEEDED)


def decide_kick(start: Start, delivered: bool, last: MessageState | None) -> bool:
    """Whether this start is told. `delivered`: it was ever given a message; `last`: what became of its last kick.

    An agent that crashes again and again is told once: the telling costs a turn, and may be what it crashes of.
    """
    if start.why not in _WORDS or not delivered:
        return False
    return start.why is not Why.CRASHED or (start.crashes <= 1 and last is not MessageState.DEAD)


def render_kick(start: Start) -> str:
    """The body of the message. Only for a start that `decide_kick` lets be told."""
    reason = _WORDS[start.why].format(detail=start.detail)
    return json.dumps({"event": "started", "reason": reason, "notes": NOTES})


def was_delivered(view: View, name: str) -> bool:
    """Whether any message was ever handed out to the agent."""
    return view.find("find_delivered_message", agent=name) is not None


def queue_kick(tx: Transaction, name: str, start: Start, delivered: bool) -> None:
    """Tells an agent of a start, as a part of it. One that waits unread is made to tell of this start instead."""
    last = _find_last(tx, name)
    if not decide_kick(start, delivered, None if last is None else last.state):
        return
    body = render_kick(start)
    if last is not None and last.state is MessageState.QUEUED:
        tx.list("replace_body", id=last.id, body=body)
    elif last is None or last.state is not MessageState.LEASED:
        # What the container before it had leased comes again by itself.
        queue_message(tx, SYSTEM, name, body, idempotency_key=f"kick/{name}/{tx.at_ms}")


def _find_last(view: View, name: str) -> Message | None:
    row = view.find("find_last_kick", first=f"kick/{name}/", behind=f"kick/{name}0")
    return None if row is None else to_message(row)
