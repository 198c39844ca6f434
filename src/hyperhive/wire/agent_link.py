"""The agent link: what a harness and the daemon say to each other over `/run/hive/hive.sock`.

JSON-RPC 2.0 lines (see `wire.jsonrpc`), requests in both directions on one connection. Who the caller is follows
from the socket alone: no request has a sender field. Every request of the harness may be repeated after a
reconnect: `send` and `ask_operator` carry an idempotency key, all others are idempotent by themselves.

Instants are RFC 3339 strings in UTC. Errors are HiveErrors in the `data` of a JSON-RPC error.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from hyperhive.core.policy import PolicyFields

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
ASK_PERMISSION = "ask_permission"
# for the manager alone
REQUEST_SPAWN = "request_spawn"
REQUEST_SPAWN_DRAFT = "request_spawn_draft"
REQUEST_SPAWN_COMMIT = "request_spawn_commit"
REQUEST_APPLY_COMMIT = "request_apply_commit"
LIST_AGENTS = "list_agents"
KILL = "kill"
START = "start"
RESTART = "restart"

# -- daemon to harness -------------------------------------------------------------------------------------

CANCEL_TURN = "turn.cancel"
"""params {} -> {"cancelled": bool}: interrupts the running turn; false when none runs."""
SET_CONFIG = "config.set"
"""params SetConfigParams -> {}: the config from the next turn on."""

# -- git bundles that carry proposals ----------------------------------------------------------------------

# As base64 it takes two thirds of the longest line.
BUNDLE_LIMIT_BYTES = 512 * 1024
COMMIT_REF = "refs/hive/commit"
"""The ref of the proposed commit in a bundle."""
NOTES_REF = "refs/hive/notes"
"""The ref of the staged notes of a two-step spawn in a bundle: a commit without parents."""


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
    config: "HarnessConfig"


class McpServerFields(TypedDict):
    command: str
    args: Sequence[str]
    env: Mapping[str, str]


class HarnessConfig(TypedDict):
    """What of an agent's config the harness carries out.

    `commit` names the config; `model` is empty for claude's default; `prompt` is the text of `prompt.md`, empty if
    there is none; `warm_s` is None for the daemon's setting.
    """

    commit: str
    model: str
    prompt: str
    warm_s: float | None
    policy: PolicyFields
    mcp_servers: Mapping[str, McpServerFields]


class SetConfigParams(TypedDict):
    config: HarnessConfig


class AskPermissionParams(TypedDict):
    """Asks the operator about a tool call and waits up to `wait_s` for the answer.

    Repeated with the same key it goes on waiting for the same question. `summary` is what the operator reads of
    the call, `rule` the rule that wants the question.
    """

    tool: str
    summary: str
    rule: str
    wait_s: float
    idempotency_key: str


class AskPermissionResult(TypedDict):
    """`decision` is empty while the question is open, then allow_once, allow_30m or deny.

    A question that expired or was cancelled is a denial. `reason` is what the operator wrote, or what happened.
    """

    id: int
    decision: str
    reason: str


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


class SpawnDraftParams(TypedDict):
    name: str


class SpawnCommitParams(TypedDict):
    """`bundle` is a git bundle in base64 whose COMMIT_REF is `commit`; `notes` is its NOTES_REF, empty without any."""

    name: str
    commit: str
    notes: str
    bundle: str
    description: NotRequired[str]
    idempotency_key: str


class ApplyCommitParams(TypedDict):
    """`bundle` is a git bundle in base64 whose COMMIT_REF is `commit`."""

    agent: str
    commit: str
    bundle: str
    description: NotRequired[str]
    idempotency_key: str


class ProposalResult(TypedDict):
    approval_id: int
    status: str


class AgentNameParams(TypedDict):
    name: str
