"""What agents do with questions: ask one another, answer, take back. Who may is judged as for messages.

Callers name who they are: identity was established before they got here.
"""

from collections.abc import Sequence

from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError
from hyperhive.core.messages import EVERYBODY
from hyperhive.core.names import OPERATOR, parse_recipient
from hyperhive.core.questions import TTL_DEFAULT_S, Question, QuestionKind, QuestionStatus, check_question
from hyperhive.host.message_records import list_known, no_recipient
from hyperhive.host.questions import (
    Questions,
    answer_question,
    cancel_question,
    get_open,
    open_question,
    render_stored_answer,
)
from hyperhive.host.recipients import Recipients
from hyperhive.host.store.rows import to_question
from hyperhive.host.store.store import Store, Transaction, View


class AgentQuestions:
    def __init__(self, store: Store, questions: Questions, recipients: Recipients) -> None:
        self._store = store
        self._questions = questions
        self._recipients = recipients

    async def ask(
        self,
        asker: str,
        to: str,
        question: str,
        options: Sequence[str],
        multi: bool,
        ttl_s: float | None,
        idempotency_key: str,
    ) -> Question:
        """Asks another agent, or the operator. The answer comes as a message.

        Raises InvalidInputError for what cannot be asked, RefusedError where either of the two may not write to the
        other, NotFoundError for an unknown agent, TooLargeError over the limits of open questions.
        """
        if to == OPERATOR:
            return await self._questions.ask(asker, question, options, multi, ttl_s, idempotency_key)
        asked = _parse_asked(asker, to)
        lifetime_s = TTL_DEFAULT_S if ttl_s is None else ttl_s
        check_question(question, tuple(options), lifetime_s)
        await self._recipients.check(asker, asked)
        if not await self._store.read(lambda view: list_known(view, [asked])):
            raise no_recipient(asked)
        await self._recipients.check_answer(asker, asked)
        return await self._store.write(
            lambda tx: open_question(
                tx, QuestionKind.QUESTION, asker, question, options, multi, lifetime_s, idempotency_key, asked
            )
        )

    async def answer(self, agent: str, question_id: int, options: Sequence[str], text: str) -> Question:
        """Answers a question that the agent is asked. Again with the same answer is no error.

        Raises NotFoundError if it is not asked that question, InvalidInputError for an answer that is none,
        RefusedError if its config does not let it write to the asker any more, ConflictError if the question ended
        otherwise.
        """

        def answer(tx: Transaction) -> Question:
            question = _get_asked(tx, question_id, agent)
            if question.status is QuestionStatus.ANSWERED:
                if question.answer == render_stored_answer(question, options, text):
                    return question
                raise ConflictError(f"question {question_id} is already answered otherwise", "send a message instead")
            return answer_question(tx, question_id, options, text)

        asker = (await self._store.read(lambda view: _get_asked(view, question_id, agent))).agent
        await self._recipients.check(agent, asker)
        return await self._store.write(answer)

    async def cancel(self, agent: str, question_id: int) -> Question:
        """Ends a question that the agent asked, another agent or the operator. Again is no error.

        Raises NotFoundError if it asked no such question, ConflictError if that ended otherwise.
        """

        def cancel(tx: Transaction) -> Question:
            question = _find(tx, question_id)
            if question is None or question.agent != agent:
                raise NotFoundError(f"you asked no question {question_id}", "use the id that asking returned")
            if question.status is QuestionStatus.CANCELLED:
                return question
            return cancel_question(tx, get_open(tx, question_id), f"{agent} cancelled it", by=agent)

        return await self._store.write(cancel)


def _parse_asked(asker: str, to: str) -> str:
    if to == EVERYBODY:
        raise InvalidInputError("a question goes to one agent", "ask each of them, or send a message to '*'")
    asked = parse_recipient(to)
    if asked == asker:
        raise InvalidInputError("you cannot ask yourself", "write what is open to your notes instead")
    return asked


def _get_asked(view: View, question_id: int, agent: str) -> Question:
    question = _find(view, question_id)
    if question is None or question.asked != agent:
        # No word of what others ask each other.
        raise NotFoundError(
            f"you are not asked a question {question_id}", "use the id in the envelope of the message that asks you"
        )
    return question


def _find(view: View, question_id: int) -> Question | None:
    """A question that an agent asked by itself: no permission, and nothing that the hive asks about its notes."""
    row = view.find("get_question", id=question_id)
    question = None if row is None else to_question(row)
    return question if question is not None and question.kind is QuestionKind.QUESTION else None
