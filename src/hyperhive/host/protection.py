"""What keeps agents from flooding each other and the disk: rates of each agent and each pair, and a breaker for two
that answer each other without end.

The operator and `system` are not limited. A refusal tells the agent what to do instead; it is an event, too, once in a
while for each agent and rule.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from hyperhive.core.errors import HiveError, NotFoundError, RefusedError, TooManyError
from hyperhive.core.events import Event, EventName
from hyperhive.core.messages import Message
from hyperhive.core.names import OPERATOR, SYSTEM
from hyperhive.core.quotas import Quota, Unit, Use
from hyperhive.core.rates import Bucket, Exchange, Rate
from hyperhive.host.background import Background
from hyperhive.host.notices import notify_manager
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import from_millis

REFUSED_EVERY_S = 10.0
# With this many known, those at rest are forgotten before there is one more.
_KNOWN_LIMIT = 2_000

Pair = tuple[str, str]
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Rates:
    """What an agent may send in all, and to any one recipient."""

    agent: Rate
    pair: Rate


def plan_rates(agent_per_minute: int, pair_per_minute: int) -> Rates:
    """The rates of so many messages a minute, 0 for no limit: after a pause those of two minutes at once."""
    return Rates(Rate(2 * agent_per_minute, agent_per_minute), Rate(2 * pair_per_minute, pair_per_minute))


class _Known(dict[Key, Value]):
    """What is remembered of each agent or pair; it grows no larger than what goes on."""

    def __init__(self) -> None:
        super().__init__()
        self._look_at = _KNOWN_LIMIT

    def forget(self, is_at_rest: Callable[[Value], bool]) -> None:
        """Drops what is at rest, if it has grown enough since it was last looked through."""
        if len(self) < self._look_at:
            return
        for key in [key for key, value in self.items() if is_at_rest(value)]:
            del self[key]
        self._look_at = max(_KNOWN_LIMIT, 2 * len(self))


class Protection:
    def __init__(
        self, store: Store, background: Background, rates: Rates, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock_s` is a clock that never goes back."""
        self._store = store
        self._background = background
        self._rates = rates
        self._clock_s = clock_s
        self._agents = _Known[str, Bucket]()
        self._pairs = _Known[Pair, Bucket]()
        self._exchanges = _Known[Pair, Exchange]()
        self._runaways: dict[Pair, datetime] = {}
        self._refused_at_s: dict[Pair, float] = {}

    async def load(self) -> None:
        """At the daemon's start."""
        rows = await self._store.read(lambda view: view.list("list_runaways"))
        self._runaways = {(row["one"], row["other"]): from_millis(row["since"]) for row in rows}

    def check(self, sender: str, recipient: str) -> None:
        """Counts a message to be sent. Raises TooManyError or RefusedError if it may not be now."""
        if sender in (OPERATOR, SYSTEM):
            return
        at_s = self._clock_s()
        if _pair(sender, recipient) in self._runaways:
            raise self._refuse(
                sender,
                recipient,
                "runaway",
                RefusedError(
                    f"messages between you and {recipient} are held back: you answered each other without end",
                    "the operator was asked whether you may go on; end your turn, or do something else",
                ),
            )
        wait_s = self._take(self._pairs, (sender, recipient), self._rates.pair, at_s)
        rule, whom = "rate.pair", recipient
        if not wait_s:
            wait_s = self._take(self._agents, sender, self._rates.agent, at_s)
            rule, whom = "rate.agent", "anyone"
        if wait_s:
            raise self._refuse(
                sender,
                recipient,
                rule,
                TooManyError(
                    f"you sent too many messages to {whom}; the next can be sent in {wait_s:.0f} s",
                    "put what you have to say into one message, and wait for the answer",
                ),
            )

    def note_full(self, sender: str, recipient: str) -> None:
        """A message was refused, as too many wait for its recipient."""
        if sender != OPERATOR:
            self._record(sender, recipient, "inbox")

    def find_use(self, agent: str) -> Use:
        """How much of what an agent may send it has sent."""
        limit = self._rates.agent.per_minute
        bucket = self._agents.get(agent)
        used = 0.0 if bucket is None else bucket.find_taken(self._clock_s())
        return Use(Quota.MESSAGES, Unit.PER_MINUTE, used, limit or None)

    def list_runaways(self) -> list[tuple[str, str, datetime]]:
        """The pairs whose messages are held back, and since when."""
        return [(one, other, since) for (one, other), since in self._runaways.items()]

    async def release(self, one: str, other: str) -> None:
        """Lets a pair go on. Raises NotFoundError if its messages are not held back."""
        pair = _pair(one, other)

        def forget(tx: Transaction) -> None:
            if not tx.list("delete_runaway", one=pair[0], other=pair[1]):
                raise NotFoundError(f"messages between {one} and {other} are not held back", "see `hive needs`")
            tx.emit(EventName.PAIR_RESUMED, None, {"agents": list(pair)})

        await self._store.write(forget)

    def on_event(self, event: Event) -> None:
        """Follows what was committed; called by the feed after each commit."""
        if event.name is EventName.MESSAGE_SENT and event.message is not None:
            self._note_sent(event.message)
        elif event.name is EventName.PAIR_PARKED:
            self._runaways[_pair(*event.body["agents"])] = event.at
        elif event.name is EventName.PAIR_RESUMED:
            pair = _pair(*event.body["agents"])
            self._runaways.pop(pair, None)
            self._exchanges.pop(pair, None)
        elif event.name is EventName.AGENT_PURGED and event.agent is not None:
            self._forget_agent(event.agent)

    # -- inside --------------------------------------------------------------------------------------------

    def _note_sent(self, message: Message) -> None:
        sender, recipient = message.sender, message.recipient
        if sender == OPERATOR:
            # They are not among themselves.
            for pair in [pair for pair in self._exchanges if recipient in pair]:
                del self._exchanges[pair]
        if {OPERATOR, SYSTEM} & {sender, recipient}:
            return
        pair, at_s = _pair(sender, recipient), self._clock_s()
        exchange = self._exchanges.get(pair)
        if exchange is None:
            self._exchanges.forget(lambda other: other.is_over(at_s))
            exchange = self._exchanges[pair] = Exchange()
        if exchange.note(sender, at_s) and pair not in self._runaways:
            self._background.soon(self._store.write(lambda tx: _park_pair(tx, pair)))

    def _take(self, buckets: "_Known[Key, Bucket]", key: Key, rate: Rate, at_s: float) -> float:
        if not rate.per_minute:
            return 0.0
        bucket = buckets.get(key)
        if bucket is None:
            buckets.forget(lambda other: other.is_full(at_s))
            bucket = buckets[key] = Bucket(rate, at_s)
        return bucket.take(at_s)

    def _refuse(self, sender: str, recipient: str, rule: str, error: HiveError) -> HiveError:
        """The same error; recorded, if it is time."""
        self._record(sender, recipient, rule)
        return error

    def _record(self, sender: str, recipient: str, rule: str) -> None:
        at_s = self._clock_s()
        key = (sender, rule)
        if at_s - self._refused_at_s.get(key, -REFUSED_EVERY_S) >= REFUSED_EVERY_S:
            self._refused_at_s[key] = at_s
            body = {"recipient": recipient, "rule": rule}
            self._background.soon(self._store.write(lambda tx: tx.emit(EventName.MESSAGE_REFUSED, sender, body)))

    def _forget_agent(self, agent: str) -> None:
        self._agents.pop(agent, None)
        for known in (self._pairs, self._exchanges, self._runaways, self._refused_at_s):
            for pair in [pair for pair in known if agent in pair]:
                del known[pair]


def _pair(one: str, other: str) -> Pair:
    return (one, other) if one < other else (other, one)


def _park_pair(tx: Transaction, pair: Pair) -> None:
    if tx.list("insert_runaway", one=pair[0], other=pair[1], at=tx.at_ms):
        tx.emit(EventName.PAIR_PARKED, None, {"agents": list(pair)})
        notify_manager(tx, "pair_parked", agents=" ".join(pair))
