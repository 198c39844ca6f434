"""The inbox: messages leased to this harness, from the daemon's broker and back to it."""

import asyncio
import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hyperhive.core.errors import HiveError, UnavailableError
from hyperhive.core.messages import Message, MessageState
from hyperhive.harness.link import Link
from hyperhive.wire.agent_link import ACK, RECV, REQUEUE, AckParams, RecvParams, RequeueParams

log = logging.getLogger("hive.inbox")

# What the daemon takes in one request.
_IDS_LIMIT = 500
_REASON_LIMIT_CHARS = 500
_INSIST_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one `recv` brought, and how many more were waiting then."""

    messages: tuple[Message, ...]
    waiting: int


class Inbox:
    """Leases messages and settles them.

    A message is held from its delivery until the daemon has confirmed that it was acked or requeued; what is held is
    told at each connect, so that the daemon keeps exactly those leases.
    """

    def __init__(self) -> None:
        self._held: dict[int, None] = {}
        self._settling: set[int] = set()
        self._returning: set[asyncio.Task[None]] = set()

    def holding(self) -> Sequence[int]:
        return tuple(self._held)

    def unsettled(self) -> list[int]:
        """What is held and not being settled already."""
        return [message_id for message_id in self._held if message_id not in self._settling]

    async def fetch(self, link: Link, limit: int, wait_s: float, deadline_s: float | None = None) -> Delivery:
        """Leases up to `limit` messages, waiting up to `wait_s` for one. Raises HiveError.

        If the caller is cancelled or `deadline_s` passes, messages that come all the same go straight back.
        """
        params = RecvParams(max=limit, wait_s=wait_s)
        answer = await link.request(RECV, params, deadline_s=deadline_s, late=lambda late: self._take_late(link, late))
        delivery = _parse_delivery(answer)
        self._held.update((message.id, None) for message in delivery.messages)
        return delivery

    async def ack(self, link: Link, ids: Iterable[int]) -> None:
        """Settles messages for good, however long the daemon is away or its disk is full."""
        for some in _split(ids):
            with self._settled(some):
                await self._insist(link, ACK, AckParams(ids=some))

    async def requeue(self, link: Link, ids: Iterable[int], reason: str, *, failed: bool) -> None:
        """Gives messages back, to be delivered again, however long that takes."""
        for some in _split(ids):
            with self._settled(some):
                await self._insist(link, REQUEUE, _requeue_params(some, reason, failed))

    def give_back(self, link: Link, ids: Iterable[int], reason: str) -> None:
        """Begins to requeue messages that no turn has seen: from now on they are not part of one."""
        listed = list(ids)
        if listed:
            self._settling.update(listed)
            task = asyncio.create_task(self.requeue(link, listed, reason, failed=False))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def give_all_back(self, link: Link, reason: str, deadline_s: float) -> None:
        """Requeues all that is held, if the daemon takes it within `deadline_s`. Raises HiveError if not."""
        for some in _split(self._held):
            await link.request(REQUEUE, _requeue_params(some, reason, False), deadline_s=deadline_s)

    async def _insist(self, link: Link, method: str, params: Any) -> None:
        """Asks until the daemon does it. Given up, the messages would be settled with a turn they are not part of."""
        while True:
            try:
                await link.request(method, params)
            except HiveError as error:
                log.warning("%s is refused, trying again: %r", method, error.message)
                await asyncio.sleep(_INSIST_EVERY_S)
            else:
                return

    @contextlib.contextmanager
    def _settled(self, ids: list[int]) -> Generator[None]:
        """Messages are held until the block ends well; they stay held if it does not."""
        self._settling.update(ids)
        try:
            yield
            for message_id in ids:
                self._held.pop(message_id, None)
        finally:
            self._settling.difference_update(ids)

    def _take_late(self, link: Link, answer: Any) -> None:
        try:
            ids = [message.id for message in _parse_delivery(answer).messages]
        except HiveError as error:
            log.warning("%s", error.message)
            return
        self._held.update((message_id, None) for message_id in ids)
        self.give_back(link, ids, "nobody waited for them any more")


def _requeue_params(ids: list[int], reason: str, failed: bool) -> RequeueParams:
    return RequeueParams(ids=ids, reason=reason[:_REASON_LIMIT_CHARS], failed=failed)


def _split(ids: Iterable[int]) -> Iterator[list[int]]:
    listed = list(ids)
    for start in range(0, len(listed), _IDS_LIMIT):
        yield listed[start : start + _IDS_LIMIT]


def _parse_delivery(answer: Any) -> Delivery:
    try:
        messages = tuple(_parse_message(message) for message in answer["messages"])
        return Delivery(messages, int(answer["waiting"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UnavailableError("the daemon's answer to recv is not one", "the daemon and the harness differ") from error


def _parse_message(wire: Any) -> Message:
    return Message(
        id=int(wire["id"]),
        sender=str(wire["sender"]),
        recipient=str(wire["recipient"]),
        body=str(wire["body"]),
        sent_at=datetime.fromisoformat(wire["sent_at"]),
        state=MessageState.LEASED,
        deliveries=int(wire["deliveries"]),
        thread=wire["thread"],
        in_reply_to=wire["in_reply_to"],
        # Only that it is one is told: of the others it is nobody's business.
        broadcast=int(wire["id"]) if wire["broadcast"] else None,
        question=wire.get("question"),
        answer_to=wire.get("answer_to"),
    )
