"""What waits for the operator: one queue of everything that does not go on, or goes on otherwise, without them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

# Of a text that an agent or claude wrote: enough to know what it is about.
DETAIL_LIMIT_CHARS = 500

_NEVER = datetime.max.replace(tzinfo=UTC)


class NeedKind(StrEnum):
    APPROVAL = "approval"
    QUESTION = "question"
    # a tool call waits for the answer
    PERMISSION = "permission"
    # a rewrite of an agent's notes
    NOTES = "notes"
    LOGIN = "login"
    # an agent that gave up, or whose container crashes again and again
    CRASH = "crash"
    BUDGET = "budget"
    # a usage limit of the service after which an agent is not to go on by itself
    LIMIT = "limit"
    DEAD_LETTER = "dead_letter"
    # a pair of agents whose messages are held back
    RUNAWAY = "runaway"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that waits. `ref` tells it from others of its kind: an id as text, or a name.

    `title` is one line and never holds an agent's own text; `detail` may. `by_default` says what happens at
    `deadline`, or as long as nobody acts. `acts` are what can be done with one click, in the words of the pages:
    approve, deny, answer, login, grant, resume, start, requeue, dismiss.
    """

    kind: NeedKind
    ref: str
    agent: str | None
    title: str
    detail: str
    since: datetime
    deadline: datetime | None
    by_default: str
    acts: tuple[str, ...]

    @property
    def key(self) -> str:
        """What the queue, notifications and links know it by, such as `approval-12`."""
        return f"{self.kind.value}-{self.ref}"

    @property
    def link(self) -> str:
        """Its place in the pages: a path and a fragment."""
        return f"/#need-{self.key}"


def sort_needs(needs: Iterable[Need]) -> list[Need]:
    """The most urgent first: what has a deadline, the nearest first; then what waits for longest."""
    return sorted(needs, key=lambda need: (need.deadline or _NEVER, need.since, need.key))
