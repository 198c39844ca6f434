"""Who waits for messages, known to two threads: the one that stores a message hands it out in the same transaction.

Methods say which thread may call them: the event loop's or the writer's. What both touch are single operations on
built-in types, which Python does one at a time.
"""

import contextlib
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Sequence

from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import Message, MessageState

# After these there may be something in the queue, or something holds it back.
_UNSETTLING = frozenset(
    {
        EventName.MESSAGE_SENT,
        EventName.MESSAGE_REQUEUED,
        EventName.AGENT_PARKED,
        EventName.AGENT_HIBERNATED,
        EventName.AGENT_UPDATING,
        EventName.AGENT_HELD,
        EventName.AGENT_DESTROYED,
    }
)
# After these there may be less in it.
_LEAVING = frozenset(
    {EventName.MESSAGE_LEASED, EventName.MESSAGE_ACKED, EventName.MESSAGE_DEAD, EventName.MESSAGE_EXPIRED}
)


class Waiter(ABC):
    """One call of recv. Whoever waits makes it a class of theirs, with what is to be done with the answer."""

    __slots__ = ("_free", "check_at_s", "deadline_s", "found", "generation", "is_gone", "max_messages", "recipient")

    def __init__(self, recipient: str, generation: int, max_messages: int) -> None:
        self.recipient = recipient
        self.generation = generation
        self.max_messages = max_messages
        self.deadline_s = 0.0
        # when the store is asked again, however quiet it was
        self.check_at_s = 0.0
        # what a look into the store has found
        self.found: tuple[list[Message], int] = ([], 0)
        # whoever called is there no more
        self.is_gone = False
        self._free = [True]

    @abstractmethod
    def deliver(self, messages: list[Message], waiting: int) -> None:
        """Called once with what it was handed, and how many more wait."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Called instead, with why it gets nothing."""

    @property
    def is_taken(self) -> bool:
        return not self._free

    def take(self) -> bool:
        """Whether the caller is the one that answers it now. Either thread's: one of them gets True."""
        try:
            return self._free.pop()
        except IndexError:
            return False

    def let_go(self) -> None:
        """Lets it be taken again. For who has taken it."""
        self._free.append(True)

    def leave(self) -> None:
        """For who does not wait any more. What it was handed in this moment is queued again at the next hello."""
        self.is_gone = True
        self.take()


class Waiting:
    def __init__(self) -> None:
        self._lines: defaultdict[str, deque[Waiter]] = defaultdict(deque)
        # For whom nothing is queued and nothing is held back, as far as the transaction under way is concerned.
        self._clear: set[str] = set()
        # How many messages are queued for those who were counted. The writer's alone.
        self._lengths: dict[str, int] = {}
        # The same by sender, for those recipients whose queue is long.
        self._between: dict[str, dict[str, int]] = {}

    # -- the event loop's ----------------------------------------------------------------------------------

    def is_clear(self, recipient: str) -> bool:
        """Whether a look into the store would find nothing now. Where it is not known, it is not."""
        return recipient in self._clear

    def add(self, waiter: Waiter) -> None:
        line = self._lines[waiter.recipient]
        # Those that were answered otherwise are left behind in it. Taken out before it is looked at: between a look and
        # the taking the writer might have taken it.
        with contextlib.suppress(IndexError):
            while (first := line.popleft()).is_taken:
                pass
            line.appendleft(first)
        line.append(waiter)

    def list_waiters(self) -> list[Waiter]:
        """Those in line that nobody has taken."""
        # A copy at once: the writer may take one out meanwhile.
        return [waiter for line in self._lines.values() for waiter in list(line) if not waiter.is_taken]

    def take_all(self, recipient: str) -> list[Waiter]:
        """Those in line that nobody else has taken; they are in line no more."""
        line = self._lines.pop(recipient, None)
        found: list[Waiter] = []
        with contextlib.suppress(IndexError):
            # Not by iterating: the writer may take one out meanwhile.
            while line:
                waiter = line.popleft()
                if waiter.take():
                    found.append(waiter)
        return found

    def list_recipients(self) -> list[str]:
        return list(self._lines)

    # -- the writer's --------------------------------------------------------------------------------------

    def claim(self, recipient: str) -> Waiter | None:
        """Who is to be handed a message to `recipient` at once. None: it is to be queued."""
        if recipient not in self._clear:
            return None
        line = self._lines.get(recipient)
        with contextlib.suppress(IndexError):
            while line:
                waiter = line.popleft()
                if waiter.take():
                    return waiter
        return None

    def note_clear(self, recipient: str) -> None:
        """Nothing is queued for it, and nothing keeps it from being handed what comes."""
        self._clear.add(recipient)
        self._lengths[recipient] = 0

    def note_queued(self, sender: str, recipient: str) -> None:
        """One more is queued for it."""
        self._clear.discard(recipient)
        if sender in (between := self._between.get(recipient, {})):
            between[sender] += 1
        if recipient in self._lengths:
            self._lengths[recipient] += 1

    def find_length(self, recipient: str) -> int | None:
        """How many messages are queued for it; None if they have to be counted."""
        return self._lengths.get(recipient)

    def note_length(self, recipient: str, length: int) -> None:
        self._lengths[recipient] = length

    def find_between(self, sender: str, recipient: str) -> int | None:
        """How many of one sender are queued for it; None if they have to be counted."""
        return self._between.get(recipient, {}).get(sender)

    def note_between(self, sender: str, recipient: str, count: int) -> None:
        self._between.setdefault(recipient, {})[sender] = count

    def forget(self) -> None:
        """What was noted may be of a change that came to nothing: all of it has to be looked for again."""
        self._clear.clear()
        self._lengths.clear()
        self._between.clear()

    def on_change(self, events: Sequence[Event]) -> None:
        """Told of each change before its commit, in the thread that makes it: see `Store.watch`."""
        for event in events:
            if event.name in _LEAVING:
                self._lengths.pop(event.agent or "", None)
                self._between.pop(event.agent or "", None)
            elif event.name in _UNSETTLING:
                if event.agent is None:
                    self._clear.clear()
                elif event.message is None or event.message.state is MessageState.QUEUED:
                    self._clear.discard(event.agent)
                    self._lengths.pop(event.agent, None)
                    if event.message is None:
                        # What was sent was counted: see `note_queued`.
                        self._between.pop(event.agent, None)
