"""What each thing that waits for the operator comes to as a `Need`. Pure.

Titles are the hive's own words and names that were checked; what an agent wrote is in `detail` alone.
"""

from collections.abc import Iterable
from datetime import datetime

from hyperhive.core.approvals import Approval, ApprovalKind
from hyperhive.core.messages import Message
from hyperhive.core.needs import DETAIL_LIMIT_CHARS, Need, NeedKind
from hyperhive.core.parking import EVERYONE, Park, ParkKind, decide_park
from hyperhive.core.questions import Question, QuestionKind
from hyperhive.core.text import cut_chars
from hyperhive.host.store.rows import AgentRecord, Desired

# What is the hive's has its name for a ref: no agent can have that one.
HIVE_REF = "hyperhive"
MORE_REF = "more"
# A container that crashed once was started again, and that was all.
CRASHES_AGAIN = 2

_APPROVAL_TITLES = {
    ApprovalKind.SPAWN: "a new agent {agent} waits for approval",
    ApprovalKind.APPLY: "a change of the config of {agent} waits for approval",
    ApprovalKind.REVERT: "a revert of the config of {agent} waits for approval",
}


def view_approval(approval: Approval) -> Need:
    spawn = approval.kind is ApprovalKind.SPAWN
    return Need(
        kind=NeedKind.APPROVAL,
        ref=str(approval.id),
        agent=approval.agent,
        title=_APPROVAL_TITLES[approval.kind].format(agent=approval.agent),
        detail=_cut(approval.description),
        since=approval.requested_at,
        deadline=None,
        by_default="it is not spawned until you decide" if spawn else "nothing is changed until you decide",
        acts=("approve", "deny"),
    )


def view_runaway(one: str, other: str, since: datetime) -> Need:
    return Need(
        kind=NeedKind.RUNAWAY,
        # No name has a dot in it.
        ref=f"{one}.{other}",
        agent=None,
        title=f"{one} and {other} answered each other without end",
        detail="Look at what they say to each other in the message flow before you let them go on.",
        since=since,
        deadline=None,
        by_default="their messages to each other are refused until you let them go on",
        acts=("release",),
    )


def view_question(question: Question) -> Need:
    kind, title, by_default = {
        QuestionKind.QUESTION: (
            NeedKind.QUESTION,
            f"{question.agent} asks you a question",
            f"it expires, and {question.agent} is told that nobody answered",
        ),
        QuestionKind.PERMISSION: (
            NeedKind.PERMISSION,
            f"{question.agent} waits for your word on a tool call",
            "the call is denied",
        ),
        QuestionKind.NOTES: (
            NeedKind.NOTES,
            f"a rewrite of the notes of {question.agent} waits for your word",
            "the old notes stay",
        ),
    }[question.kind]
    return Need(
        kind=kind,
        ref=str(question.id),
        agent=question.agent,
        title=title,
        detail=_cut(question.question),
        since=question.asked_at,
        deadline=question.expires_at,
        by_default=by_default,
        acts=("answer",),
    )


def view_parks(parks: Iterable[Park], at: datetime) -> list[Need]:
    """Of `parks`, those that hold and wait for the operator, but for what `view_crash` tells."""
    views = {ParkKind.LOGIN: _view_login, ParkKind.BUDGET: _view_budget, ParkKind.LIMIT: _view_limit}
    holding = [park for park in parks if park.kind in views and decide_park([park], at) is not None]
    # A limit that ends by itself asks nothing of anybody.
    return [views[park.kind](park) for park in holding if park.kind is not ParkKind.LIMIT or park.until is None]


def view_crash(record: AgentRecord, failing: Park | None, crashes: int, troubled_at: datetime) -> Need | None:
    """An agent that gave up (`failing`), that could not be started, or that crashed `crashes` times in a row.

    None: all is well, or it is not to run at all.
    """
    if record.desired is not Desired.RUNNING:
        return None
    name = record.name
    if record.over_quota:
        title, detail, since = f"{name} was stopped: it takes too much of the disk", record.over_quota, troubled_at
        by_default = "it does not run, and its messages wait"
    elif failing is not None:
        title, detail, since = f"{name} has given up", failing.reason, failing.since
        by_default = "it stays as it is, and its messages wait"
    elif record.failure:
        title, detail, since = f"{name} could not be started", record.failure, troubled_at
        tries = "the hive tries it again by itself" if crashes else "it is not started"
        by_default = f"{tries}, and its messages wait"
    elif crashes >= CRASHES_AGAIN:
        title, since = f"the container of {name} crashes again and again", troubled_at
        detail = f"{crashes} times in a row"
        by_default = "the hive starts it again, and gives up after some more"
    else:
        return None
    return Need(
        kind=NeedKind.CRASH,
        ref=name,
        agent=name,
        title=title,
        detail=_cut(detail),
        since=since,
        deadline=None,
        by_default=by_default,
        acts=_crash_acts(record, failing),
    )


def view_full_disk(since: datetime) -> Need:
    """The disk is at the reserve that agents leave."""
    return Need(
        kind=NeedKind.CRASH,
        # No name has a dot in it.
        ref=f"{HIVE_REF}.disk",
        agent=None,
        title="the hive's disk is nearly full",
        detail="hive quota tells what agents take of it; other programs may have filled it, too",
        since=since,
        deadline=None,
        by_default="agents that fill it are stopped, and what agents send is refused before it is full",
        acts=(),
    )


def view_letter(message: Message, died_at: datetime) -> Need:
    """A message that was given up."""
    note = f"{message.note}\n" if message.note else ""
    return Need(
        kind=NeedKind.DEAD_LETTER,
        ref=str(message.id),
        agent=message.recipient,
        title=f"a message of {message.sender} to {message.recipient} was given up",
        detail=_cut(f"{note}{message.body}"),
        since=died_at,
        deadline=None,
        by_default="it stays undelivered",
        acts=("requeue", "dismiss"),
    )


def view_more_letters(count: int, since: datetime) -> Need:
    """The dead letters beyond those that are listed one by one."""
    return Need(
        kind=NeedKind.DEAD_LETTER,
        ref=MORE_REF,
        agent=None,
        title=f"{count} more messages were given up",
        detail="each is listed once those before it are queued again or dismissed",
        since=since,
        deadline=None,
        by_default="they stay undelivered",
        acts=(),
    )


def _crash_acts(record: AgentRecord, failing: Park | None) -> tuple[str, ...]:
    if record.failure or record.over_quota:
        return ("start",)
    return ("resume",) if failing is not None else ()


def _view_login(park: Park) -> Need:
    if park.agent == EVERYONE:
        title = "the credential of the hive is refused"
        return _view_park(park, NeedKind.LOGIN, title, "no agent runs turns, and messages wait", ("resume",))
    title = f"{park.agent} needs a login"
    return _view_park(park, NeedKind.LOGIN, title, "it runs no turns, and its messages wait", ("login",))


def _view_budget(park: Park) -> Need:
    title = "the budget of the hive is spent" if park.agent == EVERYONE else f"the budget of {park.agent} is spent"
    by_default = "it goes on by itself" if park.until else "it runs no turns until you grant more"
    return _view_park(park, NeedKind.BUDGET, title, by_default, ("grant",))


def _view_limit(park: Park) -> Need:
    who = "the hive" if park.agent == EVERYONE else park.agent
    title = f"{who} waits after a usage limit"
    return _view_park(park, NeedKind.LIMIT, title, "it runs no turns until you resume it", ("resume",))


def _view_park(park: Park, kind: NeedKind, title: str, by_default: str, acts: tuple[str, ...]) -> Need:
    everyone = park.agent == EVERYONE
    return Need(
        kind=kind,
        ref=HIVE_REF if everyone else park.agent,
        agent=None if everyone else park.agent,
        title=title,
        detail=_cut(park.reason),
        since=park.since,
        deadline=park.until,
        by_default=by_default,
        acts=acts,
    )


def _cut(text: str) -> str:
    return cut_chars(text.strip(), DETAIL_LIMIT_CHARS)
