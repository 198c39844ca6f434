"""The operator's HTTP API: what requests and answers hold. The routes are in `host/api`, the document in OpenAPI.

Instants are aware and in UTC. Every refusal is an `ErrorBody`.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hyperhive.core.approvals import ApprovalKind, ApprovalStatus
from hyperhive.core.effects import Effect
from hyperhive.core.messages import MessageState, Priority, SenderKind
from hyperhive.core.needs import NeedKind
from hyperhive.core.notifying import Hold
from hyperhive.core.parking import ParkKind
from hyperhive.core.policy import Verdict
from hyperhive.core.questions import QuestionKind, QuestionStatus
from hyperhive.core.terminals import ANSWER_LIMIT_CHARS, COLUMNS_LIMIT, ROWS_LIMIT, Ending
from hyperhive.core.tokens import TokenScope


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorBody(Model):
    code: str = Field(description="Stable, for programs: invalid_input, not_found, conflict, refused, …")
    message: str
    hint: str = ""


class Park(Model):
    """Why an agent runs no turns."""

    kind: ParkKind
    since: datetime
    until: datetime | None = Field(description="When it ends by itself; None: only by an act of the operator.")
    reason: str
    hive: bool = Field(description="Whether it is the whole hive's.")


class Hive(Model):
    """`rehearsal` means that no model is behind this hive: every page says so."""

    version: str
    rehearsal: bool
    upstream: str = Field(description="The Messages API the gateway forwards to, without credentials.")
    credential: str = Field(description="What the gateway adds: 'api_key', 'token' or 'none'.")
    driver: str
    started_at: datetime
    park: Park | None = Field(description="Why the whole hive runs no turns; None if it does.")
    port_problems: list[str] = Field(description="Which agents have no page at their own port, and what to do.")


class AgentRow(Model):
    """One agent. `state` is what is known now; what is not known is 'unknown'."""

    name: str
    manager: bool
    state: str = Field(
        description="stopped, starting, stopping, hibernated, failed, crashed, unknown, "
        "or while the harness is connected its turn state: offline, needs_login, idle, thinking, compacting, parked"
    )
    reason: str = Field(description="Why, when the state alone does not tell.")
    since: datetime
    driver: str
    model: str = Field(description="The model claude last reported; empty before the first turn.")
    waiting: int = Field(description="Messages queued for it.")
    turns: int = Field(description="Turns ended since it was spawned.")
    last_outcome: str = Field(description="How the last turn ended; empty before the first.")
    spawned_at: datetime
    commit: str = Field(description="The deployed commit of its config; empty before the first start.")
    config_error: str = Field(description="Why the last approved config failed; empty once another one is deployed.")
    needs_update: str = Field(
        description="Why what runs is not what is deployed and installed; empty if it is, or nothing runs."
    )
    updating: bool = Field(description="Whether it is to be built anew, once its turn is over.")
    park: Park | None = Field(description="Why no turns are run; None if they are.")
    chosen_model: str = Field(description="The model that was chosen by hand; empty: the config's.")
    context_tokens: int = Field(description="Of the last inference; 0 when not known.")
    context_limit: int = Field(description="The model's window; 0 when not known.")
    session_usd: float | None = Field(description="What claude counts for the conversation; None when not known.")
    day_tokens: int = Field(description="Input, output and cache writes of the last 24 hours.")
    day_usd: float = Field(description="What those cost, by the price table.")
    day_unpriced: bool = Field(description="Whether some of it was by a model that the price table does not know.")
    budget_tokens: int | None = Field(description="For 24 hours, with what was granted; None: no limit.")
    budget_usd: float | None = Field(description="For 24 hours, with what was granted; None: no limit.")
    login: str = Field(description="none, own, hive (the daemon holds the credential), or unknown.")
    login_account: str
    login_expires_at: datetime | None


class Updating(Model):
    agents: list[str] = Field(
        description="Those that are built anew, each once its turn is over; empty: none is stale."
    )


class KeptState(Model):
    """What is left of a destroyed agent until it is purged."""

    name: str
    spawned_at: datetime
    destroyed_at: datetime
    size_bytes: int
    credentials: bool = Field(description="Whether a login of claude is among it.")


class Draft(Model):
    """An agent that the manager is drafting: a config, no container."""

    name: str
    requested_by: str
    created_at: datetime
    size_bytes: int


class SpawnRequest(Model):
    name: str


class PauseRequest(Model):
    reason: str = Field(default="", max_length=2000, description="For the rows and whoever asks why.")


class ModelRequest(Model):
    model: str = Field(max_length=200, description="The model from the next turn on; empty: the config's.")


class Accepted(Model):
    accepted: bool


class LoginStarted(Model):
    """`url` is the page where the operator gets a code."""

    url: str


class LoginCode(Model):
    code: str = Field(min_length=1, max_length=4096)


class Login(Model):
    kind: str = Field(description="none, own or hive.")
    account: str
    expires_at: datetime | None


class Budget(Model):
    """A budget for a rolling day, and what was spent of it. `agent` is '*' for the whole hive."""

    agent: str
    tokens_per_day: int | None
    usd_per_day: float | None
    granted_tokens: int
    granted_usd: float
    day_tokens: int
    day_usd: float
    day_unpriced: bool
    problem: str = Field(description="Of the hive's: why prices.toml is not in force; empty if it is, or is not there.")


class BudgetRequest(Model):
    """The hive's budget; None: no limit."""

    tokens_per_day: int | None = Field(default=None, ge=0, le=10**12)
    usd_per_day: float | None = Field(default=None, ge=0, le=10**6, allow_inf_nan=False)


class GrantRequest(Model):
    """What may be spent on top for 24 hours; with nothing given, half of each budget."""

    tokens: int | None = Field(default=None, ge=1, le=10**12)
    usd: float | None = Field(default=None, gt=0, le=10**6, allow_inf_nan=False)


class Reminder(Model):
    id: int
    agent: str
    note: str
    due_at: datetime
    created_at: datetime


class ScheduledMessage(Model):
    """An entry of the schedule in an agent's deployed config."""

    agent: str
    cron: str = Field(description="Minute, hour, day, month, weekday, in UTC.")
    message: str
    next_at: datetime | None = Field(description="None: never.")
    last_at: datetime | None = Field(description="The newest of its times that was sent; None: none yet.")


class NotesVersion(Model):
    """One change of an agent's notes that the hive made or kept."""

    commit: str
    at: datetime
    kind: Literal["compacted", "asked", "restored", "kept"] = Field(
        description="asked: it lost so much that the operator is asked before it is written."
    )
    size_before: int
    size_after: int


class RestoreRequest(Model):
    commit: str = Field(max_length=64)


class StatsSeries(Model):
    """One line of a chart. See docs/reference/stats.md."""

    key: str
    unit: str
    fold: Literal["sum", "max", "last", "mean", "percentile"] = Field(
        description="How a longer slot's figure follows from what was counted in it."
    )
    scope: Literal["agent", "hive", "both"]
    meaning: str


class StatsPage(Model):
    """Series as columns: `at` and each of `series` have the same length. None: not known."""

    agent: str = Field(description="'*' for the whole hive.")
    since: datetime = Field(alias="from", description="The start of the first slot: at most one slot before `since`.")
    step_s: int = Field(description="The length of a slot. The last one is not over.")
    at: list[int] = Field(description="The start of each slot, in seconds since 1970.")
    series: dict[str, list[float | None]]
    totals: dict[str, float | None] = Field(description="Each series over the whole time as one slot.")
    units: dict[str, str]
    tools: dict[str, int] = Field(description="Calls of each tool in that time, the most called first.")


class UsageRow(Model):
    """What requests to the model service used and cost together."""

    name: str = Field(description="Of an agent, a day (UTC) or a model; the rest is other, (purged), (none).")
    requests: int
    failures: int
    unpriced: int = Field(description="Requests with tokens that have no price: what they cost is not in `cost_usd`.")
    work_tokens: int
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    cost_usd: float


class StatsUsage(Model):
    """The same requests by agent, by day and by model."""

    agent: str = Field(description="'*' for the whole hive.")
    since: datetime = Field(alias="from")
    agents: list[UsageRow] = Field(description="The most tokens first; at most 200, the others as one.")
    days: list[UsageRow] = Field(description="Days in UTC on which there were requests, in order.")
    models: list[UsageRow] = Field(description="As agents.")
    total: UsageRow


class StatsOfAgents(Model):
    """What the series come to over the whole time, for each agent that is not destroyed."""

    since: datetime = Field(alias="from")
    agents: dict[str, dict[str, float | None]]
    units: dict[str, str]


class Approval(Model):
    id: int
    kind: ApprovalKind
    agent: str
    status: ApprovalStatus
    requested_by: str
    description: str
    requested_at: datetime
    resolved_at: datetime | None
    reason: str | None
    commit: str | None = Field(description="The pinned commit that is applied if this is approved.")
    base: str | None = Field(description="The commit that was deployed when this was asked for.")
    reverts_to: int | None = Field(description="The approval whose config a revert brings back; 0: the first config.")


class DenyRequest(Model):
    reason: str = Field(default="", max_length=2000)


class DiffLine(Model):
    kind: Literal["context", "added", "removed"]
    old: int | None = Field(description="The line's number before, from 1.")
    new: int | None = Field(description="The line's number after, from 1.")
    text: str = Field(description="Without its line end.")


class DiffHunk(Model):
    header: str = Field(description="Such as '@@ -1,3 +1,4 @@'.")
    lines: list[DiffLine]


class FileDiff(Model):
    """How one file differs. A binary file, and one whose diff is too long to send, has no hunks and says so."""

    path: str
    change: Literal["added", "removed", "changed"]
    binary: bool
    executable: bool | None = Field(description="Set if that changes: whether it may be executed now.")
    old_size_bytes: int
    new_size_bytes: int
    added: int = Field(description="Lines.")
    removed: int = Field(description="Lines.")
    large: bool = Field(description="Shown folded.")
    truncated: bool = Field(description="The hunks are not all of it.")
    hunks: list[DiffHunk]


class NotesDiff(Model):
    """What a version of the notes changed against the one before it."""

    version: NotesVersion
    files: list[FileDiff]


class MeaningRow(Model):
    """What a change means, in the words of the config. `area` is the key of the config, or 'files'."""

    area: str
    change: Literal["added", "removed", "changed"]
    subject: str = Field(description="What of the area: a package, a recipient, 'github.command', a file.")
    before: str
    after: str
    effect: Effect


class Comparison(Model):
    """What `commit` changes against `base` (empty: against nothing)."""

    base: str
    commit: str
    files: list[FileDiff]
    meaning: list[MeaningRow]
    effect: Effect


class Review(Model):
    """All that the operator decides on."""

    approval: Approval
    comparison: Comparison | None = Field(description="None for a spawn with the default config.")
    earlier: int | None = Field(description="An earlier proposal for this agent that was not applied.")
    since_earlier: Comparison | None = Field(description="What differs from that one.")
    notes: list[FileDiff] = Field(description="Staged notes of a two-step spawn.")
    warnings: list[str]


class ConfigFile(Model):
    path: str
    size_bytes: int
    executable: bool
    text: str | None = Field(description="None for a binary file, or a large one.")


class Permission(Model):
    """One thing that an agent may do, may do after a question, or may not do, and the rule that says so."""

    area: Literal["run", "reach", "read", "message", "spend"]
    subject: str
    verdict: Verdict
    rule: str


class AgentConfigView(Model):
    """The applied config of an agent."""

    agent: str
    commit: str
    files: list[ConfigFile]
    problem: str = Field(description="Why it cannot be used; empty if it can.")
    config: dict[str, Any] | None = Field(description="All keys with their values; None if it cannot be used.")
    permissions: list[Permission]


class ConfigVersion(Model):
    """One entry of a config's history. `approval` is 0 for the first config."""

    approval: int
    status: ApprovalStatus
    commit: str
    at: datetime
    description: str
    reason: str
    current: bool
    tag: str = Field(description="Such as 'deployed/3'.")


class RevertRequest(Model):
    to: int = Field(ge=0, lt=2**63, description="The number of a deployed approval; 0: the first config.")


class PolicyCheckRequest(Model):
    """One question: a tool with its arguments, a shell command, or a recipient."""

    tool: str | None = Field(default=None, max_length=200)
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])
    bash: str | None = Field(default=None, max_length=20_000)
    recipient: str | None = Field(default=None, max_length=200)


class PolicyDecision(Model):
    verdict: Verdict
    rule: str
    reason: str


class Message(Model):
    id: int
    sender: str
    kind: SenderKind
    recipient: str
    body: str
    sent_at: datetime
    state: MessageState
    deliveries: int
    thread: int | None
    in_reply_to: int | None
    priority: Priority
    expires_at: datetime | None
    broadcast: int | None = Field(description="Set on each message of a broadcast: the id of its first.")
    settled_at: datetime | None = Field(description="When it was acked, expired or died.")
    note: str | None = Field(description="Why it was given back or died.")


class SendRequest(Model):
    to: str = Field(description="An agent, or '*' for all of them.")
    body: str
    in_reply_to: int | None = Field(default=None, ge=0, lt=2**63)
    priority: Priority = Priority.NORMAL
    ttl_s: float | None = Field(default=None, description="Who has not got it after so many seconds never does.")
    idempotency_key: str | None = Field(default=None, max_length=128)


class Sent(Model):
    id: int
    ids: list[int] = Field(description="One for each recipient.")


class Created(Model):
    id: int


class Question(Model):
    id: int
    kind: QuestionKind
    agent: str
    question: str
    options: list[str]
    multi: bool
    status: QuestionStatus
    asked_at: datetime
    expires_at: datetime
    answer: str | None
    resolved_at: datetime | None
    asked: str = Field(description="Whom `agent` asks: the operator or an agent.")


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


class AnswerRequest(Model):
    """The chosen options, free text, or both."""

    options: list[str] = Field(default_factory=list[str], max_length=12)
    text: str = Field(default="", max_length=16_000)


class TranscriptEvent(Model):
    """One event of an agent's transcript, as the harness recorded it (see `wire.agent_link.AgentEvent`)."""

    seq: int
    at: datetime
    kind: str
    body: dict[str, Any]


class HiveEvent(Model):
    """One entry of the feed: a fact, in the past tense. `agent` is whom it concerns, if anyone."""

    id: int
    at: datetime
    name: str
    agent: str | None
    body: dict[str, Any]


class Journal(Model):
    """A piece of what an agent's container wrote; with a filter only the lines that it is in."""

    text: str
    offset: int = Field(description="Where it begins: `before` for what stands above it.")
    next_offset: int = Field(description="Where it ends: `offset` for what follows.")
    more: bool = Field(description="Whether something stands above it.")


class StateEntry(Model):
    """What has a name in an agent's /state."""

    name: str = Field(description="What cannot be seen or is not UTF-8 is spelled `\\xff`, a backslash as two.")
    kind: Literal["file", "folder", "link", "other"] = Field(
        description="Links are never followed; other: a pipe, a socket or a device."
    )
    size_bytes: int
    changed_at: datetime | None = Field(description="None for a time that no calendar has.")


class StateFolder(Model):
    """A folder of an agent's /state: its first entries by name."""

    path: str = Field(description="Below /state; empty for itself.")
    entries: list[StateEntry]
    more: bool = Field(description="Whether there are others than these.")


class StateFile(Model):
    """A plain file in an agent's /state."""

    path: str
    size_bytes: int
    text: str = Field(description="Its beginning; empty for what is no text.")
    cut: bool = Field(description="Whether there is more of it than is looked at.")
    binary: bool = Field(description="Whether it is no text.")


class TerminalRequest(Model):
    columns: int = Field(ge=1, le=COLUMNS_LIMIT)
    rows: int = Field(ge=1, le=ROWS_LIMIT)


class Terminal(Model):
    """A shell in an agent's container. It is open while `ended_at` is None."""

    id: str
    agent: str
    opened_by: str
    opened_at: datetime
    columns: int
    rows: int
    viewers: int = Field(description="How many look at it now.")
    ended_at: datetime | None
    status: int | None = Field(description="The shell's exit status; None while it is open, or when it is not known.")
    ending: Ending | None = Field(description="Why it ended.")
    bytes_in: int = Field(description="What was typed into it.")
    bytes_out: int = Field(description="What its programs wrote.")


class TerminalResize(Model):
    """From whoever looks at a terminal: this is how much room there is."""

    kind: Literal["resize"]
    columns: int = Field(ge=1, le=COLUMNS_LIMIT)
    rows: int = Field(ge=1, le=ROWS_LIMIT)


class TerminalAck(Model):
    """From whoever looks at a terminal: so many more bytes of its output are dealt with."""

    kind: Literal["ack"]
    count: int = Field(ge=1)


class TerminalAnswer(Model):
    """From whoever looks at a terminal: what that one answers by itself to what a program asked of it."""

    kind: Literal["answer"]
    text: str = Field(min_length=1, max_length=ANSWER_LIMIT_CHARS)


class TerminalReplayed(Model):
    """The next `count` bytes are what was on the terminal before: whoever shows them answers nothing in them."""

    kind: Literal["replayed"]
    count: int


class TerminalResized(Model):
    kind: Literal["resized"]
    columns: int
    rows: int


class TerminalEnded(Model):
    """The last that is said of a terminal."""

    kind: Literal["ended"]
    status: int | None


class EgressRequest(Model):
    """What an agent asked of the egress proxy. A refusal for the same host is told once in ten seconds."""

    agent: str
    at: datetime = Field(description="When it ended.")
    host: str = Field(description="Empty for what was no request; '*' for several hosts that were refused.")
    port: int
    verdict: Literal["allowed", "refused", "failed"]
    rule: str = Field(description="What decided: 'network.allow: *.example.org', 'port', 'address', …")
    bytes_up: int
    bytes_down: int
    elapsed_ms: int


class CancelResult(Model):
    cancelled: bool


class LoginLink(Model):
    """A dashboard address that opens one operator session, once."""

    url: str


class WaitingEvent(Model):
    """What an address that takes nothing is sent again and again, before anything that came later."""

    id: int
    name: str
    agent: str | None
    at: datetime
    count: int = Field(description="How many wait, with this one; of the next 1000 events.")


class WebhookDrop(Model):
    event: int = Field(ge=1, description="The id of the event that waits: another one is not dropped instead.")


class Webhook(Model):
    """An address that is told of events. All of it is shown to nobody: it may hold a secret."""

    id: int
    place: str = Field(description="Its scheme and host.")
    events: list[str] = Field(description="Names, or all that begin alike, such as approval.*; empty: all.")
    bodies: bool = Field(description="Whether it gets the bodies of events too.")
    added_at: datetime
    ok_at: datetime | None = Field(description="When it last took an event.")
    error: str = Field(description="Why the last attempt failed; empty: it was taken.")
    dead: int = Field(description="How many events were given up, of the newest.")
    dead_at: datetime | None = Field(description="When the newest of those was given up.")
    dead_reason: str = Field(description="Why that was.")
    waiting: WaitingEvent | None = Field(description="What was not taken and is tried again; None if nothing failed.")


class WebhookRequest(Model):
    url: str = Field(min_length=1, max_length=1000)
    events: list[str] = Field(default_factory=list[str], max_length=100, description="Empty: all.")
    bodies: bool = False


class NewWebhook(Model):
    webhook: Webhook
    secret: str = Field(description="Of the signatures; it cannot be shown again.")


class WebhookTest(Model):
    fault: str = Field(description="Empty: it was taken.")


class Ready(Model):
    ready: bool
    reasons: list[str] = Field(description="Why not; empty if it is.")


class Token(Model):
    """What a program shows instead of a session. Its secret was shown once."""

    name: str
    scopes: list[TokenScope]
    created_at: datetime
    expires_at: datetime | None = Field(description="None: not before it is revoked.")
    last_used_at: datetime | None = Field(description="To the hour; None: never.")


class TokenRequest(Model):
    name: str = Field(max_length=200)
    scopes: list[TokenScope] = Field(min_length=1, max_length=4)
    expires_s: int | None = Field(default=None, ge=60, le=3650 * 86400, description="None: not before it is revoked.")


class NewToken(Model):
    token: Token
    secret: str = Field(description="For `Authorization: Bearer`; it cannot be shown again.")


class Shutdown(Model):
    """What became of `hive down`: the agents whose containers could not be stopped, none if all went well."""

    left_running: list[str]
