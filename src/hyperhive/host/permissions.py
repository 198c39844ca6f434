"""Permissions: a tool call waits for the operator's word. Who does not get one goes without: everything else denies."""

import asyncio
from collections import defaultdict

from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.core.events import Event, EventName
from hyperhive.core.policy import NOT_UNDERSTOOD_RULE
from hyperhive.core.questions import (
    PERMISSION_OPTIONS,
    PERMISSION_TTL_S,
    QUESTION_LIMIT_CHARS,
    Question,
    QuestionKind,
    QuestionStatus,
)
from hyperhive.core.text import cut_chars, render_safe_line, render_safe_text
from hyperhive.host.questions import open_question
from hyperhive.host.store.rows import to_question
from hyperhive.host.store.store import Store, Transaction

# One request on the link must end before the harness takes the link for dead.
WAIT_LIMIT_S = 170.0
# A wake is only a hint: whoever waits looks again after this long all the same.
RECHECK_S = 5.0

TOOL_LIMIT_CHARS = 200
RULE_LIMIT_CHARS = 500
SUMMARY_LIMIT_CHARS = 3_000

_ENDINGS = frozenset({EventName.QUESTION_ANSWERED, EventName.QUESTION_CANCELLED, EventName.QUESTION_EXPIRED})
_DENY = "deny"


class Permissions:
    """Callers name who they are: identity was established before they got here."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: dict[int, set[asyncio.Event]] = defaultdict(set)

    def on_event(self, event: Event) -> None:
        """Wakes whoever waits for a question that has ended; called by the feed after each commit."""
        if event.name in _ENDINGS:
            for waiter in self._waiters.get(event.body["question"]["id"], ()):
                waiter.set()

    async def ask(
        self, agent: str, tool: str, summary: str, rule: str, wait_s: float, idempotency_key: str
    ) -> tuple[int, str, str]:
        """Asks about one tool call, or goes on waiting for the question asked under the same key.

        Returns the question's id, the decision (a value of PERMISSION_OPTIONS; empty if there is none within
        `wait_s`) and the reason. Raises InvalidInputError for a call without a tool, TooLargeError if too many
        questions of the agent are open, ConflictError if the key is that of another question.
        """
        if not tool.strip():
            raise InvalidInputError("a permission is for a tool", "name the tool")
        text = render_permission_question(tool, summary, rule)
        options = list_options(rule)

        def open_(tx: Transaction) -> Question:
            return open_question(
                tx, QuestionKind.PERMISSION, agent, text, options, False, PERMISSION_TTL_S, idempotency_key
            )

        question = await self._store.write(open_)
        if question.status is QuestionStatus.OPEN:
            question = await self._wait(question, wait_s)
        return question.id, *decide_permission(question)

    async def _wait(self, question: Question, wait_s: float) -> Question:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max(0.0, min(wait_s, WAIT_LIMIT_S))
        waiter = asyncio.Event()
        self._waiters[question.id].add(waiter)
        try:
            while True:
                waiter.clear()
                question = await self._load(question.id)
                left_s = deadline - loop.time()
                if question.status is not QuestionStatus.OPEN or left_s <= 0:
                    return question
                try:
                    async with asyncio.timeout(min(left_s, RECHECK_S)):
                        await waiter.wait()
                except TimeoutError:
                    continue
        finally:
            self._waiters[question.id].discard(waiter)
            if not self._waiters[question.id]:
                del self._waiters[question.id]

    async def _load(self, question_id: int) -> Question:
        row = await self._store.read(lambda view: view.find("get_question", id=question_id))
        if row is None:
            raise NotFoundError(f"there is no question {question_id}", "ask again")
        return to_question(row)


def list_options(rule: str) -> tuple[str, ...]:
    """What the operator may choose. Lines that nobody understands are each granted by themselves."""
    once_only = NOT_UNDERSTOOD_RULE in rule
    return tuple(text for text, value in PERMISSION_OPTIONS.items() if not (once_only and value == "allow_30m"))


def decide_permission(question: Question) -> tuple[str, str]:
    """What a permission question comes to so far: the decision, empty while it is open, and the reason."""
    match question.status:
        case QuestionStatus.OPEN:
            return "", ""
        case QuestionStatus.ANSWERED:
            option, _, reason = (question.answer or "").partition("\n")
            return PERMISSION_OPTIONS.get(option, _DENY), reason
        case QuestionStatus.EXPIRED:
            return _DENY, f"the operator did not answer within {PERMISSION_TTL_S // 60} minutes"
        case QuestionStatus.CANCELLED:
            return _DENY, "the question was cancelled"


def render_permission_question(tool: str, summary: str, rule: str) -> str:
    """What the operator reads. All that the agent could write stands at the end, and shows what it would hide."""
    shown, note = render_safe_text(summary.strip()), ""
    if len(shown) > SUMMARY_LIMIT_CHARS:
        note = f"\nOnly the first {SUMMARY_LIMIT_CHARS} of its {len(shown)} characters are shown."
        shown = shown[:SUMMARY_LIMIT_CHARS]
    head = (
        f"It wants to call {_cut(tool, TOOL_LIMIT_CHARS)}; its config says to ask: {_cut(rule, RULE_LIMIT_CHARS)}\n"
        f"Without an answer the call is denied after {PERMISSION_TTL_S // 60} minutes; an answer in words alone "
        f"denies it, too, and words beside an option are its reason.{note}"
    )
    return f"{head}\n\n{shown}"[:QUESTION_LIMIT_CHARS]


def _cut(text: str, limit_chars: int) -> str:
    return cut_chars(render_safe_line(text.strip()), limit_chars)
