"""The agent link: what a harness and the daemon say to each other over `/run/hive/hive.sock`.

JSON-RPC 2.0 lines (see `wire.jsonrpc`), requests in both directions on one connection. Who the caller is follows
from the socket alone: no request has a sender field. Every request of the harness may be repeated after a
reconnect: `send`, `ask` and `ask_operator` carry an idempotency key, all others are idempotent by themselves.

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
MESSAGE_STATUS = "message_status"
"""params MessageStatusParams -> {"receipts": [ReceiptFields]}: what became of a message of the caller's."""
ASK = "ask"
"""params AskParams -> {"id": int}: asks another agent; the answer arrives as a message."""
ANSWER = "answer"
"""params AnswerParams -> {}: answers a question that the caller was asked. Again with the same answer is no error."""
CANCEL_QUESTION = "cancel_question"
"""params CancelQuestionParams -> {}: takes back a question of the caller's to anyone. Again is no error."""
ASK_OPERATOR = "ask_operator"
EVENTS_APPEND = "events.append"
TURN_STATE = "turn.state"
ASK_PERMISSION = "ask_permission"
PARK = "park"
"""params ParkParams -> ParkFields | None: the agent cannot go on; the daemon decides for how long. None: it can."""
REMIND_ME = "remind_me"
"""params RemindMeParams -> ReminderFields."""
CANCEL_REMINDER = "cancel_reminder"
"""params CancelReminderParams -> {}: again is no error, once it was sent it is."""
LIST_REMINDERS = "list_reminders"
"""params {} -> {"reminders": [ReminderFields]}: those of the caller that wait."""
NOTES_COMPACTED = "notes.compacted"
"""params NotesCompactedParams -> NotesDecision: both versions are kept on the host before anything is written."""
TERMINAL_ENDED = "terminal.ended"
"""params TerminalEndedParams -> {}: a shell is gone, and all it wrote is on its way. Again is no error."""
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
SET_PARK = "park.set"
"""params SetParkParams -> {}: why no messages come now; null: they come again."""
SET_MODEL = "model.set"
"""params {"model": str} -> {}: the model from the next turn on, kept over restarts; empty: the config's."""
COMPACT = "turn.compact"
"""params {} -> {"accepted": bool}: compacts the conversation once no turn runs; false: there is none to compact."""
LOGIN_START = "login.start"
"""params {} -> {"url": str}: begins a login of claude; the operator opens the link and gets a code. One at a time."""
LOGIN_FINISH = "login.finish"
"""params {"code": str} -> LoginFields: ends it with the code. Refused with `invalid_input` for a wrong one."""
LOGIN_CANCEL = "login.cancel"
"""params {} -> {}: ends a login that was begun, if any."""
SET_NOTES = "notes.set"
"""params SetNotesParams -> {"written": bool}: writes /state/notes.md, unless it is not what it was."""
TERMINAL_OPEN = "terminal.open"
"""params TerminalSizeParams -> {}: opens a shell on a terminal, and connects it to terminal.sock."""
TERMINAL_RESIZE = "terminal.resize"
"""params TerminalSizeParams -> {}."""
TERMINAL_CLOSE = "terminal.close"
"""params {"id": str} -> {}: hangs up, then kills what is left of it. One that is not there is no error."""

# -- the way out -------------------------------------------------------------------------------------------

EGRESS_PORT = 3128
"""The port on the container's loopback at which the harness takes what goes to egress.sock."""
MODEL_PORT = 7080
"""The port at which it takes what goes to model.sock, where claude has a login of its own."""

# -- git bundles that carry proposals ----------------------------------------------------------------------

# As base64 it takes two thirds of the longest line.
BUNDLE_LIMIT_BYTES = 512 * 1024
COMMIT_REF = "refs/hive/commit"
"""The ref of the proposed commit in a bundle."""
NOTES_REF = "refs/hive/notes"
"""The ref of the staged notes of a two-step spawn in a bundle: a commit without parents."""


class HelloParams(TypedDict):
    """First on every connection. `generation` is the one the container was started with: any but the newest is refused.

    `holding` are the messages leased to this harness: the daemon keeps those leases and requeues all others. `version`
    is that of the hyperhive whose program the harness is; one that does not say it is older.
    """

    protocol: int
    generation: int
    holding: list[int]
    version: NotRequired[str]


class HelloResult(TypedDict):
    """`events_stored_seq` is the highest event the daemon has: the harness replays what follows it."""

    agent: str
    manager: bool
    events_stored_seq: int
    config: "HarnessConfig"
    park: "ParkFields | None"


class McpServerFields(TypedDict):
    command: str
    args: Sequence[str]
    env: Mapping[str, str]


class HarnessConfig(TypedDict):
    """What of an agent's config the harness carries out.

    `commit` names the config; `model` is empty for claude's default; `prompt` is the text of `prompt.md`, empty if
    there is none; `warm_s` is None for the daemon's setting. `compact_at` is the part of the context, of 1, at which
    the conversation is compacted; `notes_limit` is in bytes, 0 for none.
    """

    commit: str
    model: str
    prompt: str
    warm_s: float | None
    compact_at: float
    notes_limit: int
    policy: PolicyFields
    mcp_servers: Mapping[str, McpServerFields]


class SetConfigParams(TypedDict):
    config: HarnessConfig


class ParkFields(TypedDict):
    """Why no messages come (`core.parking`). `until` is empty when it does not end by itself."""

    kind: str
    since: str
    until: str
    reason: str


class SetParkParams(TypedDict):
    park: ParkFields | None


class ParkParams(TypedDict):
    """`kind` is limit, login or failing. `until` is when the service said that it ends, empty if it did not say."""

    kind: str
    until: str
    reason: str


class LoginFields(TypedDict):
    """The login of claude in this container. `kind` is none, own, or hive (the daemon holds the credential).

    `expires_at` is empty if that is not known; `account` is what claude tells of it, for people.
    """

    kind: str
    account: str
    expires_at: str


class RemindMeParams(TypedDict):
    """Either `at` (RFC 3339, with an offset) or `in_seconds`."""

    note: str
    at: NotRequired[str | None]
    in_seconds: NotRequired[float | None]
    idempotency_key: str


class CancelReminderParams(TypedDict):
    id: int


class ReminderFields(TypedDict):
    id: int
    due_at: str
    note: str


class NotesCompactedParams(TypedDict):
    """What stood in /state/notes.md, and what a second session made of it."""

    before: str
    after: str


class NotesDecision(TypedDict):
    """`apply`: write it. `keep`: do not. `asked`: do not, the operator is asked and SET_NOTES may come later."""

    decision: str


class SetNotesParams(TypedDict):
    """`before_sha256` is of the text that is to be replaced, in hex; empty: whatever is there."""

    text: str
    before_sha256: str


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


class TerminalSizeParams(TypedDict):
    id: str
    columns: int
    rows: int


class TerminalEndedParams(TypedDict):
    """`status` is None if it is not known; 128 and the signal on top if one ended the shell."""

    id: str
    status: int | None


class TerminalHead(TypedDict):
    """The first line on a connection to terminal.sock, as JSON; what follows are the bytes of the terminal, both ways.

    `replay` tells how many of the bytes to come were sent before, on another connection. A connection that the daemon
    does not want is closed. After each hello the harness connects every terminal anew.
    """

    terminal: str
    generation: int
    replay: NotRequired[int]


class RecvParams(TypedDict):
    """Leases up to `max` messages; with none there waits up to `wait_s` (0 looks and returns)."""

    max: int
    wait_s: float


class WireMessage(TypedDict):
    """`question` is the question that it asks the recipient, `answer_to` the one whose end it tells it."""

    id: int
    sender: str
    recipient: str
    body: str
    sent_at: str
    deliveries: int
    thread: int | None
    in_reply_to: int | None
    broadcast: bool
    question: NotRequired[int]
    answer_to: NotRequired[int]


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
    """`to` may be `*`: everybody the caller may write to but the operator. `priority` is high, normal or low.

    Who has not been handed the message after `ttl_seconds` never is.
    """

    to: str
    body: str
    in_reply_to: NotRequired[int | None]
    priority: NotRequired[str]
    ttl_seconds: NotRequired[float | None]
    idempotency_key: str


class SendResult(TypedDict):
    """Sent only once the message is durable on disk. `ids` has one for each recipient of a broadcast."""

    id: int
    ids: NotRequired[list[int]]


class MessageStatusParams(TypedDict):
    id: int


class ReceiptFields(TypedDict):
    """`state` is queued, leased, acked, expired or dead. `settled_at` is empty while it is queued or leased."""

    id: int
    to: str
    state: str
    sent_at: str
    deliveries: int
    settled_at: str
    note: str


class AskOperatorParams(TypedDict):
    question: str
    options: NotRequired[list[str]]
    multi: NotRequired[bool]
    ttl_seconds: NotRequired[float | None]
    idempotency_key: str


class AskParams(TypedDict):
    to: str
    question: str
    options: NotRequired[list[str]]
    multi: NotRequired[bool]
    ttl_seconds: NotRequired[float | None]
    idempotency_key: str


class AnswerParams(TypedDict):
    """Chosen options, free text, or both."""

    id: int
    options: NotRequired[list[str]]
    text: NotRequired[str]


class CancelQuestionParams(TypedDict):
    id: int


class AgentEvent(TypedDict):
    """One entry of an agent's transcript. `seq` counts from 1 without a gap, over all restarts of the harness.

    `kind` is `claude` (body: the raw event of the CLI), `turn.started` (body: prompt, message_ids), `turn.ended`
    (body: TurnEndedFields), `notice` (body: text) or `state` (body: state, reason).
    """

    seq: int
    at: str
    kind: str
    body: dict[str, Any]


class TurnEndedFields(TypedDict):
    """The body of `turn.ended`. Tokens are of the turn; the money is claude's own count for the whole conversation.

    `purpose` is messages, checkpoint or compact. `tools` counts the calls of each tool. `notes_bytes` is the
    size of /state/notes.md, 0 without one.
    """

    outcome: str
    purpose: str
    reason: str
    duration_ms: int
    usage: Mapping[str, Any] | None
    total_cost_usd: float | None
    session_id: str | None
    context_tokens: int
    context_limit: int
    tools: Mapping[str, int]
    notes_bytes: int


class EventsAppendParams(TypedDict):
    events: list[AgentEvent]


class EventsAppendResult(TypedDict):
    stored_seq: int


class TurnStateParams(TypedDict):
    """`model` is the one claude last reported, empty before the first turn; `chosen_model` what /model chose, if any.

    `context_tokens` and `context_limit` are of the last inference, 0 when not known. `session_usd` is what claude
    counts for the conversation, None when not known. `warm` says whether a claude is open.
    """

    state: str
    since: str
    reason: str
    model: str
    chosen_model: str
    context_tokens: int
    context_limit: int
    session_usd: float | None
    warm: bool
    login: LoginFields


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
