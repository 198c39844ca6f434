"""How questions travel: each function is a part of a transaction, with the message that belongs to it.

A message that asks, or tells an end, is marked with the id of its question. Only what stands here sets these marks: no
text of an agent can pass for a question of somebody else, or for an answer.
"""

from collections.abc import Sequence

from hyperhive.core.events import EventName
from hyperhive.core.messages import Message, MessageState
from hyperhive.core.names import OPERATOR, SYSTEM
from hyperhive.core.question_texts import render_answer, render_asking, render_end
from hyperhive.core.questions import Question, QuestionStatus
from hyperhive.host.leases import tell_state
from hyperhive.host.message_records import list_known, queue_message
from hyperhive.host.store.store import Transaction
from hyperhive.system.clock import to_millis


def send_question(tx: Transaction, question: Question) -> None:
    """Has the agent asked. Raises NotFoundError if it is not there."""
    message = queue_message(tx, question.agent, question.asked, render_asking(question))
    tx.list("mark_asking", id=message.id, question=question.id, expires_at=to_millis(question.expires_at))
    tx.list("set_question_message", id=question.id, message=message.id)


def send_answer(tx: Transaction, question: Question, chosen: Sequence[str], text: str) -> None:
    """Gives the asker the answer, as a message of whoever was asked."""
    if _is_there(tx, question.agent):
        asking = _find_asking(tx, question)
        in_reply_to = None if asking is None or tx.find("get_message", id=asking) is None else asking
        body = render_answer(question, chosen, text)
        _mark(tx, question, queue_message(tx, question.asked, question.agent, body, in_reply_to=in_reply_to))


def send_end(tx: Transaction, question: Question, status: QuestionStatus, reason: str, by: str) -> None:
    """Tells both sides that there is no answer; not the one by whom it ended, and nobody of what he has not seen."""
    told = [question.agent]
    if question.asked != OPERATOR and not _withdraw(tx, question, f"the question was {status}"):
        told.append(question.asked)
    for name in told:
        if name != by and _is_there(tx, name):
            _mark(tx, question, queue_message(tx, SYSTEM, name, render_end(question, status, reason)))


def _mark(tx: Transaction, question: Question, message: Message) -> None:
    tx.list("mark_answering", id=message.id, question=question.id)


def _withdraw(tx: Transaction, question: Question, note: str) -> bool:
    """Takes back the message that asks, if it can be. True: whoever was asked never saw it."""
    asking = _find_asking(tx, question)
    if asking is None:
        return True
    if tx.list("withdraw_message", id=asking, at=tx.at_ms, note=note):
        tell_state(tx, EventName.MESSAGE_EXPIRED, question.asked, [asking], MessageState.EXPIRED, note)
    found = tx.find("find_message_state", id=asking)
    return found is not None and found["deliveries"] == 0


def _find_asking(tx: Transaction, question: Question) -> int | None:
    message = tx.get("find_question_message", id=question.id)["message"]
    return None if message is None else int(message)


def _is_there(tx: Transaction, name: str) -> bool:
    return bool(list_known(tx, [name]))
