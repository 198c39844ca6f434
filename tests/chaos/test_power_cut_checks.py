"""The checks after a power cut find each broken promise, and nothing where all were kept."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from cut_checks import Found, Promises
from cut_messages import LANES, SLEEPER, plan_message
from hyperhive.core.events import EventName
from hyperhive.core.messages import EVERYBODY, Message, MessageState
from hyperhive.core.names import MANAGER, OPERATOR, SYSTEM

SEED = 1
LANE = "alice.1"


def plan_lane(first_id: int = 1, count: int = 3) -> list[Message]:
    """What the first sends of a lane are in the database."""
    messages: list[Message] = []
    for number in range(1, count + 1):
        planned = plan_message(SEED, LANE, number)
        for recipient in planned.recipients:
            message_id = first_id + len(messages)
            messages.append(
                Message(
                    id=message_id,
                    sender=planned.sender,
                    recipient=recipient,
                    body=planned.body,
                    sent_at=datetime.now(UTC),
                    state=MessageState.QUEUED,
                    deliveries=0,
                    priority=planned.priority,
                )
            )
    return messages


def ids_of(messages: list[Message], number: int) -> list[int]:
    return [message.id for message in messages if message.body.startswith(f"{LANE}/{number} ")]


@pytest.fixture
def messages() -> list[Message]:
    return plan_lane()


@pytest.fixture
def promises(messages: list[Message]) -> Promises:
    """Two sends were confirmed, the third was under way; the first was handed out and acked."""
    promises = Promises(SEED)
    for number in (1, 2):
        promises.hear(["sent", f"{LANE}/{number}", ids_of(messages, number)])
    first = messages[0]
    promises.hear(["got", first.recipient, [[first.id, f"{LANE}/1"]]])
    promises.hear(["acked", first.recipient, [first.id]])
    messages[0] = first._replace(state=MessageState.ACKED, deliveries=1)
    return promises


def look(messages: list[Message], *events: EventName, is_parked: bool = False) -> Found:
    return Found(messages, [(place, name, SLEEPER) for place, name in enumerate(events, start=1)], is_parked)


def test_kept_promises_are_not_called_broken(promises: Promises, messages: list[Message]) -> None:
    assert promises.find_broken(look(messages)) == []
    assert promises.find_broken(look([message for message in messages if message.id < ids_of(messages, 3)[0]])) == []


def test_a_broadcast_is_planned_somewhere() -> None:
    planned = [plan_message(SEED, lane, number) for lane in LANES for number in range(1, 50)]
    assert any(message.to == EVERYBODY for message in planned)
    assert any(message.to == OPERATOR for message in planned)


Breaking = Callable[[list[Message]], list[Message]]
BROKEN: dict[str, tuple[Breaking, str]] = {
    "lost": (lambda messages: [m for m in messages if not m.body.startswith(f"{LANE}/2 ")], "lost"),
    "handed out and lost": (lambda messages: messages[1:], "handed out and is lost"),
    "acked and queued again": (lambda ms: [ms[0]._replace(state=MessageState.QUEUED), *ms[1:]], "acked and is queued"),
    "another body": (lambda ms: [ms[0]._replace(body=ms[0].body + "0"), *ms[1:]], "not what was sent"),
    "another sender": (lambda ms: [ms[0]._replace(sender="bob"), *ms[1:]], "not what was sent"),
    "another recipient": (lambda ms: [ms[0]._replace(recipient=SLEEPER), *ms[1:]], "and was sent to"),
    "doubled": (lambda ms: [*ms, ms[-1]._replace(id=99)], "and was sent to"),
    "of another hive": (lambda ms: [*ms, ms[-1]._replace(id=99, body="alice.1/9 00")], "never sent"),
    "out of order": (lambda ms: [*ms[:-1], ms[-1]._replace(id=0)], "not in the order in which it sent"),
    "one id twice": (lambda ms: [*ms[:-1], ms[-1]._replace(id=ms[0].id)], "twice"),
}


@pytest.mark.parametrize(("breaking", "told"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_found(promises: Promises, messages: list[Message], breaking: Breaking, told: str) -> None:
    broken = promises.find_broken(look(breaking(messages)))
    assert any(told in line for line in broken), broken


def test_what_comes_again_after_its_ack_is_found(promises: Promises, messages: list[Message]) -> None:
    promises.hear(["got", messages[0].recipient, [[1, f"{LANE}/1"]]])
    assert "acked and came again" in promises.find_broken(look(messages))[0]


def test_what_comes_after_a_later_one_of_the_same_sender_is_found() -> None:
    same = [number for number in range(1, 99) if is_like_first(number)][:2]
    promises = Promises(SEED)
    recipient = plan_message(SEED, LANE, 1).to
    promises.hear(["got", recipient, [[20, f"{LANE}/{same[1]}"]]])
    promises.hear(["acked", recipient, [20]])
    promises.hear(["got", recipient, [[10, f"{LANE}/{same[0]}"]]])
    assert "after a later one" in promises.broken[0]


def is_like_first(number: int) -> bool:
    first, other = plan_message(SEED, LANE, 1), plan_message(SEED, LANE, number)
    return (first.to, first.priority) == (other.to, other.priority)


def test_an_id_that_is_used_again_is_found(promises: Promises, messages: list[Message]) -> None:
    stored = [message for message in messages if message.id < ids_of(messages, 3)[0]]
    assert promises.find_broken(look(stored)) == []
    promises.hear(["sent", f"{LANE}/3", [stored[-1].id]])
    assert "were used before" in promises.broken[0]


def test_a_repeated_send_that_became_another_message_is_found(promises: Promises, messages: list[Message]) -> None:
    assert promises.find_broken(look(messages)) == []
    promises.hear(["sent", f"{LANE}/3", [99]])
    assert "sent again with its key" in promises.broken[0]


PARKED, RESUMED = EventName.AGENT_PARKED, EventName.AGENT_RESUMED


def test_a_change_without_its_event_and_an_event_without_its_change_are_found(messages: list[Message]) -> None:
    notice = messages[0]._replace(id=99, sender=SYSTEM, recipient=MANAGER, body="{}")

    def find(notices: int, *events: EventName, is_parked: bool, parks: int = 0) -> list[str]:
        told = [notice._replace(id=99 + number) for number in range(notices)]
        return Promises(SEED, parks=parks).find_broken(look(told, *events, is_parked=is_parked))

    assert find(1, PARKED, is_parked=True, parks=1) == []
    assert find(2, PARKED, RESUMED, is_parked=False) == []
    assert "say otherwise" in find(1, PARKED, is_parked=False)[0]
    assert "say otherwise" in find(0, is_parked=True)[0]
    assert "told 0 times" in find(0, PARKED, is_parked=True)[0]
    assert "not told in order" in find(2, RESUMED, PARKED, is_parked=False)[0]
    assert "were confirmed" in find(0, is_parked=False, parks=1)[0]


def test_events_with_a_gap_are_found() -> None:
    found = Found([], [(1, EventName.AGENT_SPAWNED, "alice"), (3, EventName.AGENT_SPAWNED, "bob")], False)
    assert "events are missing" in Promises(SEED).find_broken(found)[0]


def test_what_was_never_delivered_is_found(messages: list[Message]) -> None:
    acked = [message._replace(state=MessageState.ACKED) for message in messages]
    dead = messages[0]._replace(recipient="bob", state=MessageState.DEAD, deliveries=5)
    assert Promises(SEED).find_undelivered(look([*acked, dead])) == []
    assert Promises(SEED).find_undelivered(look([*acked, dead._replace(state=MessageState.QUEUED)])) != []
    assert Promises(SEED).find_undelivered(look([*acked, dead._replace(deliveries=0)])) != []
