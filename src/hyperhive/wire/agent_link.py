"""The agent link: what a harness and the daemon say to each other over `/run/hive/hive.sock`.

JSON-RPC 2.0 lines (see `wire.jsonrpc`), requests in both directions on one connection. Who the caller is follows
from the socket alone: no request has a sender field. Every request of the harness may be repeated after a
reconnect: `send` and `ask_operator` carry an idempotency key, all others are idempotent by themselves.

Instants are RFC 3339 strings in UTC. Errors are HiveErrors in the `data` of a JSON-RPC error.
"""

from typing import Any, NotRequired, TypedDict

PROTOCOL_VERSION = 1

# -- harness to daemon -------------------------------------------------------------------------------------

HELLO = "hello"
RECV = "recv"
ACK = "ack"
REQUEUE = "requeue"
SEND = "send"
ASK_OPERATOR = "ask_operator"
EVENTS_APPEND = "events.append"
TURN_STATE = "turn.state"
# for the manager alone
REQUEST_SPAWN = "request_spawn"
LIST_AGENTS = "list_agents"
KILL = "kill"
START = "start"
RESTART = "restart"

# -- daemon to harness -------------------------------------------------------------------------------------

CANCEL_TURN = "turn.cancel"
"""params {} -> {"cancelled": bool}: interrupts the running turn; false when none runs."""


class HelloParams(TypedDict):
    """First on every connection. `generation` is the one the container was started with: any but the newest is refused.

    `holding` are the messages leased to this harness: the daemon keeps those leases and requeues all others.
    """

    protocol: int
    generation: int
    holding: list[int]


class HelloResult(TypedDict):
    """`events_stored_seq` is the highest event the daemon has: the harness replays what follows it."""

    agent: str
    manager: bool
    events_stored_seq: int


class RecvParams(TypedDict):
    """Leases up to `max` messages; with none there waits up to `wait_s` (0 looks and returns)."""

    max: int
    wait_s: float


class WireMessage(TypedDict):
    id: int
    sender: str
    recipient: str
    body: str
    sent_at: str
    deliveries: int
    thread: int | None
    in_reply_to: int | None


class RecvResult(TypedDict):
    """`waiting` counts what is still queued after these."""

    messages: list[WireMessage]
    waiting: int


class AckParams(TypedDict):
    """Settles leased messages for good. Acking again is no error; a message not leased to the caller is ignored."""

    ids: list[int]


class RequeueParams(TypedDict):
    """Gives leased messages back. `failed` counts against the attempts after which a message is dead."""

    ids: list[int]
    reason: str
    failed: bool


class SendParams(TypedDict):
    to: str
    body: str
    in_reply_to: NotRequired[int | None]
    idempotency_key: str


class SendResult(TypedDict):
    """Sent only once the message is durable on disk."""

    id: int


class AskOperatorParams(TypedDict):
    question: str
    options: NotRequired[list[str]]
    multi: NotRequired[bool]
    ttl_seconds: NotRequired[float | None]
    idempotency_key: str


class AgentEvent(TypedDict):
    """One entry of an agent's transcript. `seq` counts from 1 without a gap, over all restarts of the harness.

    `kind` is `claude` (body: the raw event of the CLI), `turn.started` (body: prompt, message_ids), `turn.ended`
    (body: outcome, cost, usage …), `notice` (body: text) or `state` (body: state, reason).
    """

    seq: int
    at: str
    kind: str
    body: dict[str, Any]


class EventsAppendParams(TypedDict):
    events: list[AgentEvent]


class EventsAppendResult(TypedDict):
    stored_seq: int


class TurnStateParams(TypedDict):
    """`model` is the one claude last reported, empty before the first turn."""

    state: str
    since: str
    reason: str
    model: str


class SpawnParams(TypedDict):
    name: str
    description: NotRequired[str]


class AgentNameParams(TypedDict):
    name: str
