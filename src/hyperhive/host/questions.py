"""Questions: asked at once, answered later, by a message. They end answered, cancelled or expired.

What agents ask one another comes through `agent_questions`; here is what the operator does with questions, and what all
of them have in common. A tool call that waits for the operator's word asks a question, too, of the kind `permission`
(see `permissions`): that one is answered to the waiting call and sends no message. One of the kind `notes` is the
hive's own (see `notes`): its answer is carried out, and nobody is sent it either.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.core.names import OPERATOR
from hyperhive.core.questions import (
    NOTES_OPTIONS,
    PERMISSION_OPTIONS,
    TTL_DEFAULT_S,
    Question,
    QuestionKind,
    QuestionStatus,
    check_question,
)
from hyperhive.host.present import show_question
from hyperhive.host.question_messages import send_answer, send_end, send_question
from hyperhive.host.store.rows import to_question
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now, to_millis

# An agent with this many open questions has to wait for answers: the operator's attention is the scarce thing.
OPEN_LIMIT = 20
# The same of questions to other agents, and how many one agent is asked at a time: each costs somebody a turn.
OPEN_BETWEEN_LIMIT = 20
ASKED_LIMIT = 50
EXPIRY_CHECK_S = 1.0

_DENY = next(option for option, decision in PERMISSION_OPTIONS.items() if decision == "deny")
# What free text alone comes to, where something is done or not done by the answer.
_REFUSALS = {QuestionKind.PERMISSION: _DENY, QuestionKind.NOTES: NOTES_OPTIONS[1]}

Settle = Callable[[Question, Sequence[str]], Awaitable[str]]
"""Does what the chosen options ask for. Says why that can never be done any more, or nothing once it is done.

Raises HiveError if it was not done now: the question stays open.
"""


class Questions:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._settlers: dict[QuestionKind, Settle] = {}
        self._settling = asyncio.Lock()

    def settle_with(self, kind: QuestionKind, settle: Settle) -> None:
        """Has `settle` do what an answer to a question of that kind asks for, before it counts as answered."""
        self._settlers[kind] = settle

    async def ask(
        self,
        agent: str,
        question: str,
        options: Sequence[str],
        multi: bool,
        ttl_s: float | None,
        idempotency_key: str,
    ) -> Question:
        """Opens a question to the operator and returns it.

        Raises InvalidInputError, or TooLargeError over OPEN_LIMIT open ones.
        """
        lifetime_s = TTL_DEFAULT_S if ttl_s is None else ttl_s
        check_question(question, tuple(options), lifetime_s)
        return await self._store.write(
            lambda tx: open_question(
                tx, QuestionKind.QUESTION, agent, question, options, multi, lifetime_s, idempotency_key
            )
        )

    async def answer(self, question_id: int, options: Sequence[str], text: str) -> Question:
        """Answers an open question to the operator with chosen options, free text, or both.

        The asker gets it as a message; the call that waits for a permission gets it as its decision, and what a
        question about notes wants is done first. Free text alone denies: what was not said is not allowed.
        Raises ConflictError if it has ended, or what was answered cannot be done any more: then it is cancelled.
        Raises RefusedError if it is asked of an agent: nobody answers for another.
        """
        question = await self._store.read(lambda view: get_open(view, question_id))
        if question.asked != OPERATOR:
            raise RefusedError(f"question {question_id} is for {question.asked} to answer", "you can cancel it")
        settle = self._settlers.get(question.kind)
        if settle is None:
            return await self._store.write(lambda tx: answer_question(tx, question_id, options, text))
        # One answer after the other: what the first one does must not meet the second.
        async with self._settling:
            question = await self._store.read(lambda view: get_open(view, question_id))
            failure = await settle(question, _plan_answer(question, options, text))
            if failure:
                await self.cancel(question_id)
                raise ConflictError(failure, "the question is cancelled")
            return await self._store.write(lambda tx: answer_question(tx, question_id, options, text))

    async def cancel(self, question_id: int) -> Question:
        """Ends an open question without an answer, for the operator; the asker is told, and the agent asked."""
        return await self._store.write(
            lambda tx: cancel_question(tx, get_open(tx, question_id), "the operator cancelled it")
        )

    async def get_question(self, question_id: int) -> Question:
        """Also one that has ended. Raises NotFoundError."""
        return await self._store.read(lambda view: get_question(view, question_id))

    async def list_questions(self, status: str | None, everyone: bool = False) -> list[Question]:
        """Those to the operator, the newest first; with `everyone` those between agents, too."""
        rows = await self._store.read(lambda view: view.list("list_questions", status=status, everyone=int(everyone)))
        return [to_question(row) for row in rows]

    async def expire_forever(self) -> None:
        """Ends each question at its deadline, for as long as the daemon runs."""

        def expire(tx: Transaction) -> None:
            for row in tx.list("list_expired_questions", at=tx.at_ms):
                question = to_question(row)
                _end(tx, question, QuestionStatus.EXPIRED, f"{question.asked} did not answer in time")

        while True:
            at = to_millis(now())
            due = await self._store.read(lambda view, at=at: view.list("list_expired_questions", at=at))
            if due:
                await self._store.write(expire)
            await asyncio.sleep(EXPIRY_CHECK_S)


def open_question(
    tx: Transaction,
    kind: QuestionKind,
    agent: str,
    question: str,
    options: Sequence[str],
    multi: bool,
    lifetime_s: float,
    idempotency_key: str,
    asked: str = OPERATOR,
) -> Question:
    """Opens a question, already checked, or gives the one that its agent asked under this key.

    Raises TooLargeError over the limits of open ones, ConflictError if the key is that of another one, NotFoundError if
    the agent that is asked is not there.
    """
    row = tx.find("find_question_by_key", agent=agent, key=idempotency_key)
    if row is not None:
        return _check_same(to_question(row), kind, question, asked)
    _check_limits(tx, kind, agent, asked)
    row = tx.get(
        "insert_question",
        kind=kind,
        agent=agent,
        asked=asked,
        question=question,
        options=json.dumps(list(options)),
        multi=int(multi),
        at=tx.at_ms,
        expires_at=to_millis(tx.at + timedelta(seconds=lifetime_s)),
        key=idempotency_key,
    )
    opened = to_question(row)
    if asked != OPERATOR:
        send_question(tx, opened)
    return _emit(tx, EventName.QUESTION_ASKED, opened)


def cancel_permissions(tx: Transaction, agent: str) -> None:
    """Ends the permission questions of an agent whose harness is gone: nobody waits for them any more."""
    _cancel_all(tx, agent, QuestionKind.PERMISSION)


def cancel_notes_questions(tx: Transaction, agent: str) -> None:
    """Ends the questions about an agent's notes: there is a newer one, or the agent is destroyed."""
    _cancel_all(tx, agent, QuestionKind.NOTES)


def cancel_between(tx: Transaction, agent: str, reason: str) -> None:
    """Ends the questions between an agent that is gone and others; those are told why."""
    for row in tx.list("list_open_between", agent=agent):
        cancel_question(tx, to_question(row), reason)


def cancel_asked_of_operator(tx: Transaction, agent: str) -> None:
    """Ends what an agent that is purged asked the operator: the answer must not reach the next one of its name."""
    _cancel_all(tx, agent, QuestionKind.QUESTION)


def cancel_question(tx: Transaction, question: Question, reason: str, by: str = "") -> Question:
    """Ends an open question without an answer. Both sides are told why, but for the agent `by` whom it is."""
    return _end(tx, question, QuestionStatus.CANCELLED, reason, by)


def _cancel_all(tx: Transaction, agent: str, kind: QuestionKind) -> None:
    for row in tx.list("list_open_questions", agent=agent, kind=kind):
        cancel_question(tx, to_question(row), f"{agent} does not wait for it any more")


def _check_limits(tx: Transaction, kind: QuestionKind, agent: str, asked: str) -> None:
    if asked == OPERATOR:
        if tx.get("count_open_to_operator", agent=agent, kind=kind)["open"] >= OPEN_LIMIT:
            raise TooLargeError(f"{OPEN_LIMIT} questions are open", "wait for their answers")
        return
    row = tx.get("count_open_between", agent=agent, asked=asked)
    if row["asks"] >= OPEN_BETWEEN_LIMIT:
        raise TooLargeError(
            f"{OPEN_BETWEEN_LIMIT} questions of yours are open", "wait for their answers, or cancel some"
        )
    if row["is_asked"] >= ASKED_LIMIT:
        raise TooLargeError(f"{asked} is asked {ASKED_LIMIT} questions already", "wait, or send it a message")


def _check_same(found: Question, kind: QuestionKind, question: str, asked: str) -> Question:
    # An answer counts for what was asked: the word for one call must not be taken for another's.
    strict = kind is QuestionKind.PERMISSION or asked != OPERATOR
    if found.kind is not kind or found.asked != asked or (strict and found.question != question):
        raise ConflictError("this idempotency key belongs to another question", "use a new key for each question")
    return found


def answer_question(tx: Transaction, question_id: int, options: Sequence[str], text: str) -> Question:
    """Answers an open question; the asker is told. Raises InvalidInputError, NotFoundError, ConflictError."""
    question = get_open(tx, question_id)
    answered = _resolve(tx, question, QuestionStatus.ANSWERED, render_stored_answer(question, options, text))
    if question.kind is QuestionKind.QUESTION:
        send_answer(tx, question, _plan_answer(question, options, text), text.strip())
    return answered


def render_stored_answer(question: Question, options: Sequence[str], text: str) -> str:
    """What is kept of an answer: equal answers come to equal texts. Raises InvalidInputError for one that is none."""
    answer = "\n".join(filter(None, [*_plan_answer(question, options, text), text.strip()]))
    if not answer:
        raise InvalidInputError("the answer is empty", "choose an option or write something")
    return answer


def _plan_answer(question: Question, options: Sequence[str], text: str) -> list[str]:
    """The options that an answer comes to. Raises InvalidInputError for those that cannot be chosen."""
    unknown = [option for option in options if option not in question.options]
    if unknown or (len(options) > 1 and not question.multi):
        raise InvalidInputError(
            f"these cannot be chosen: {', '.join(unknown or options)}",
            f"the question's options, {'any' if question.multi else 'one'} of them: {', '.join(question.options)}"
            if question.options
            else "the question has no options: answer in words",
        )
    if not options and text.strip() and question.kind in _REFUSALS:
        return [_REFUSALS[question.kind]]
    return [option for option in question.options if option in options]


def get_question(tx: View, question_id: int) -> Question:
    """Raises NotFoundError."""
    row = tx.find("get_question", id=question_id)
    if row is None:
        raise NotFoundError(f"there is no question {question_id}", "see `hive questions`")
    return to_question(row)


def get_open(tx: View, question_id: int) -> Question:
    """A question that has not ended. Raises NotFoundError, or ConflictError if it has."""
    question = get_question(tx, question_id)
    if question.status is not QuestionStatus.OPEN:
        raise ConflictError(f"question {question_id} is already {question.status}", "nothing was changed")
    return question


_ENDINGS = {
    QuestionStatus.ANSWERED: EventName.QUESTION_ANSWERED,
    QuestionStatus.CANCELLED: EventName.QUESTION_CANCELLED,
    QuestionStatus.EXPIRED: EventName.QUESTION_EXPIRED,
}


def _end(tx: Transaction, question: Question, status: QuestionStatus, reason: str, by: str = "") -> Question:
    ended = _resolve(tx, question, status, None)
    if question.kind is QuestionKind.QUESTION:
        send_end(tx, question, status, reason, by)
    return ended


def _resolve(tx: Transaction, question: Question, status: QuestionStatus, answer: str | None) -> Question:
    row = tx.get("resolve_question", id=question.id, status=status, answer=answer, at=tx.at_ms)
    return _emit(tx, _ENDINGS[status], to_question(row))


def _emit(tx: Transaction, name: EventName, question: Question) -> Question:
    tx.emit(name, question.agent, {"question": show_question(question).model_dump(mode="json")})
    return question
