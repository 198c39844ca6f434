"""What each request of a harness does: check who asks and what, then one call to one service."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from hyperhive.core.errors import InvalidInputError, RefusedError
from hyperhive.core.messages import Message
from hyperhive.core.names import MANAGER
from hyperhive.core.reminders import Reminder
from hyperhive.host.agent_questions import AgentQuestions
from hyperhive.host.agents import Agents
from hyperhive.host.approvals import Approvals
from hyperhive.host.audit import Audit
from hyperhive.host.broker import Acking, Broker
from hyperhive.host.drafts import Drafts
from hyperhive.host.link import params as p
from hyperhive.host.link.connection import Caller, LinkConnection
from hyperhive.host.link_quotas import LinkQuotas
from hyperhive.host.notes import Notes
from hyperhive.host.park_pushes import render_park
from hyperhive.host.parking import Parking
from hyperhive.host.permissions import Permissions
from hyperhive.host.questions import Questions
from hyperhive.host.schedule import Schedule
from hyperhive.host.sends import Sending
from hyperhive.host.stats.stats import Stats
from hyperhive.host.terminals import Terminals
from hyperhive.host.transcripts import Transcripts
from hyperhive.host.troubles import Troubles
from hyperhive.host.waiting import Waiter
from hyperhive.wire import agent_link as wire
from hyperhive.wire.jsonrpc import METHOD_NOT_FOUND, ProtocolError, Request, RequestId

P = TypeVar("P", bound=p.Params)

_MANAGER_ONLY = frozenset(
    {
        wire.REQUEST_SPAWN,
        wire.REQUEST_SPAWN_DRAFT,
        wire.REQUEST_SPAWN_COMMIT,
        wire.REQUEST_APPLY_COMMIT,
        wire.LIST_AGENTS,
        wire.KILL,
        wire.START,
        wire.RESTART,
    }
)


Method = Callable[[Caller, dict[str, Any]], Awaitable[Any]]
# What an agent does all the time is done without a task. Gives an awaitable all the same where it has to look further.
Quick = Callable[[LinkConnection, Caller, Request], Awaitable[Any] | None]


class _LinkWaiter(Waiter):
    """A recv of a harness: its connection is answered."""

    __slots__ = ("_connection", "_request_id")

    def __init__(self, connection: LinkConnection, caller: Caller, max_messages: int, request_id: RequestId) -> None:
        super().__init__(caller.agent, caller.generation, max_messages)
        self._connection = connection
        self._request_id = request_id
        connection.waiters.add(self)

    def deliver(self, messages: list[Message], waiting: int) -> None:
        self._answer({"messages": [_show(message) for message in messages], "waiting": waiting})

    def fail(self, error: Exception) -> None:
        self._answer(error)

    def _answer(self, outcome: wire.RecvResult | Exception) -> None:
        self._connection.waiters.discard(self)
        self._connection.answer(self._request_id, outcome)


class LinkMethods:
    """The table of methods. `serve` is what the link's connections call."""

    def __init__(
        self,
        broker: Broker,
        questions: Questions,
        approvals: Approvals,
        agents: Agents,
        transcripts: Transcripts,
        drafts: Drafts,
        permissions: Permissions,
        stats: Stats,
        parking: Parking,
        troubles: Troubles,
        notes: Notes,
        schedule: Schedule,
        agent_questions: AgentQuestions,
        terminals: Terminals,
        quotas: LinkQuotas,
        audit: Audit,
    ) -> None:
        self._broker = broker
        self._questions = questions
        self._approvals = approvals
        self._agents = agents
        self._transcripts = transcripts
        self._drafts = drafts
        self._permissions = permissions
        self._stats = stats
        self._parking = parking
        self._troubles = troubles
        self._notes = notes
        self._schedule = schedule
        self._agent_questions = agent_questions
        self._terminals = terminals
        self._quotas = quotas
        self._audit = audit
        self._quick: dict[str, Quick] = {
            wire.RECV: self._recv,
            wire.ACK: self._ack,
            wire.SEND: self._send,
        }
        self._methods: dict[str, Method] = {
            wire.REQUEUE: self._requeue,
            wire.MESSAGE_STATUS: self._message_status,
            wire.ASK_OPERATOR: self._ask_operator,
            wire.ASK: self._ask,
            wire.ANSWER: self._answer,
            wire.CANCEL_QUESTION: self._cancel_question,
            wire.EVENTS_APPEND: self._append_events,
            wire.TURN_STATE: self._turn_state,
            wire.ASK_PERMISSION: self._ask_permission,
            wire.PARK: self._park,
            wire.NOTES_COMPACTED: self._notes_compacted,
            wire.TERMINAL_ENDED: self._terminal_ended,
            wire.REMIND_ME: self._remind_me,
            wire.LIST_REMINDERS: self._list_reminders,
            wire.CANCEL_REMINDER: self._cancel_reminder,
            wire.REQUEST_SPAWN: self._request_spawn,
            wire.REQUEST_SPAWN_DRAFT: self._request_spawn_draft,
            wire.REQUEST_SPAWN_COMMIT: self._request_spawn_commit,
            wire.REQUEST_APPLY_COMMIT: self._request_apply_commit,
            wire.LIST_AGENTS: self._list_agents,
            wire.KILL: self._kill,
            wire.START: self._start,
            wire.RESTART: self._restart,
        }

    def serve(self, connection: LinkConnection, request: Request) -> Awaitable[Any] | None:
        """The result of one request, to be awaited; None if the connection is told of it.

        Raises HiveError for a refusal, ProtocolError for an unknown method; so does what is awaited.
        """
        if request.method == wire.HELLO:
            return self._hello(connection, request.params)
        caller = connection.caller
        if caller is None:
            raise RefusedError("say hello first", "the first request of a connection is hello")
        quick = self._quick.get(request.method)
        if quick is not None:
            self._quotas.check(caller.agent, request.method)
            return quick(connection, caller, request)
        method = self._methods.get(request.method)
        if method is None:
            raise ProtocolError(METHOD_NOT_FOUND, f"there is no method {request.method[:80]!r}")
        if request.method in _MANAGER_ONLY and connection.agent != MANAGER:
            raise RefusedError(f"only the manager may {request.method}", "ask the manager with send")
        self._quotas.check(caller.agent, request.method)
        return method(caller, request.params)

    async def _hello(self, connection: LinkConnection, params: dict[str, Any]) -> wire.HelloResult:
        hello = _check(p.HelloParams, params)
        if hello.protocol != wire.PROTOCOL_VERSION:
            self._agents.note_version(connection.agent, hello.version)
            raise InvalidInputError(
                f"the daemon speaks version {wire.PROTOCOL_VERSION} of the agent link, not {hello.protocol}",
                "restart the agent: its program is older or newer than the daemon's",
            )
        await self._agents.connected(connection, hello.generation)
        self._agents.note_version(connection.agent, hello.version)
        self._broker.leave_all(connection.agent)
        await self._broker.reclaim(connection.agent, hello.generation, hello.holding)
        stored_seq = await self._transcripts.newest_seq(connection.agent)
        # Right before the answer, after which it connects them anew.
        self._terminals.greeted(connection.agent, hello.generation)
        return {
            "agent": connection.agent,
            "manager": connection.agent == MANAGER,
            "events_stored_seq": stored_seq,
            # Last of all: a `config.set` or `park.set` that was sent meanwhile is of the same moment or an older one.
            "config": self._agents.harness_config(connection.agent),
            "park": render_park(self._parking.find(connection.agent)),
        }

    def _recv(self, connection: LinkConnection, caller: Caller, request: Request) -> None:
        recv = _check(p.RecvParams, request.params)
        self._broker.recv_soon(_LinkWaiter(connection, caller, recv.max, request.id), recv.wait_s)

    def _ack(self, connection: LinkConnection, caller: Caller, request: Request) -> None:
        ids = _check(p.AckParams, request.params).ids

        def done(outcome: int | Exception) -> None:
            connection.answer(request.id, outcome if isinstance(outcome, Exception) else {"acked": outcome})

        self._broker.ack_soon(Acking(caller.agent, caller.generation, ids, done))

    async def _requeue(self, caller: Caller, params: dict[str, Any]) -> dict[str, int]:
        give = _check(p.RequeueParams, params)
        count = await self._broker.requeue(caller.agent, caller.generation, give.ids, give.reason, give.failed)
        return {"requeued": count}

    def _send(self, connection: LinkConnection, caller: Caller, request: Request) -> Awaitable[Any] | None:
        send = _check(p.SendParams, request.params)

        def done(sent: Sending) -> None:
            connection.answer(request.id, sent.error if sent.error is not None else _show_sent(sent.ids))

        sending = Sending(
            caller.agent,
            send.to,
            send.body,
            send.in_reply_to,
            send.idempotency_key,
            send.priority,
            send.ttl_seconds,
            done,
        )
        return None if self._broker.send_soon(sending) else self._send_checked(sending)

    async def _send_checked(self, sending: Sending) -> wire.SendResult:
        return _show_sent(await self._broker.send_checked(sending))

    async def _message_status(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        message_id = _check(p.MessageStatusParams, params).id
        receipts = await self._broker.list_receipts(caller.agent, message_id)
        return {"receipts": [_show_receipt(message) for message in receipts]}

    async def _ask_operator(self, caller: Caller, params: dict[str, Any]) -> dict[str, int]:
        ask = _check(p.AskOperatorParams, params)
        question = await self._questions.ask(
            caller.agent, ask.question, ask.options, ask.multi, ask.ttl_seconds, ask.idempotency_key
        )
        return {"id": question.id}

    async def _ask(self, caller: Caller, params: dict[str, Any]) -> dict[str, int]:
        ask = _check(p.AskParams, params)
        question = await self._agent_questions.ask(
            caller.agent, ask.to, ask.question, ask.options, ask.multi, ask.ttl_seconds, ask.idempotency_key
        )
        return {"id": question.id}

    async def _answer(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        answer = _check(p.AnswerParams, params)
        await self._agent_questions.answer(caller.agent, answer.id, answer.options, answer.text)
        return {}

    async def _cancel_question(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        await self._agent_questions.cancel(caller.agent, _check(p.CancelQuestionParams, params).id)
        return {}

    async def _append_events(self, caller: Caller, params: dict[str, Any]) -> wire.EventsAppendResult:
        events = _check(p.EventsAppendParams, params).events
        self._quotas.check_events(caller.agent, len(events))
        fresh, stored_seq, stored_bytes = await self._transcripts.append(caller.agent, events)
        self._quotas.note_stored(caller.agent, stored_bytes)
        self._agents.note_events(caller.agent, fresh)
        self._stats.note_events(caller.agent, fresh)
        self._troubles.note_events(caller.agent, fresh)
        self._audit.note_events(caller.agent, fresh)
        return {"stored_seq": stored_seq}

    async def _turn_state(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        self._agents.note_turn(caller.agent, _check(p.TurnStateParams, params))
        return {}

    async def _park(self, caller: Caller, params: dict[str, Any]) -> wire.ParkFields | None:
        park = _check(p.ParkParams, params)
        return render_park(await self._troubles.report(caller.agent, park.kind, park.until, park.reason))

    async def _request_spawn(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        spawn = _check(p.SpawnParams, params)
        approval = await self._approvals.request_spawn(spawn.name, spawn.description, caller.agent)
        return {"approval_id": approval.id, "status": approval.status.value}

    async def _ask_permission(self, caller: Caller, params: dict[str, Any]) -> wire.AskPermissionResult:
        ask = _check(p.AskPermissionParams, params)
        question_id, decision, reason = await self._permissions.ask(
            caller.agent, ask.tool, ask.summary, ask.rule, ask.wait_s, ask.idempotency_key
        )
        return {"id": question_id, "decision": decision, "reason": reason}

    async def _request_spawn_draft(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        await self._drafts.create(_check(p.SpawnDraftParams, params).name, caller.agent)
        return {}

    async def _request_spawn_commit(self, caller: Caller, params: dict[str, Any]) -> wire.ProposalResult:
        spawn = _check(p.SpawnCommitParams, params)
        approval = await self._approvals.request_spawn_commit(
            spawn.name,
            spawn.commit,
            spawn.notes,
            _decode_bundle(spawn.bundle),
            spawn.description,
            caller.agent,
            spawn.idempotency_key,
        )
        return {"approval_id": approval.id, "status": approval.status.value}

    async def _request_apply_commit(self, caller: Caller, params: dict[str, Any]) -> wire.ProposalResult:
        apply = _check(p.ApplyCommitParams, params)
        approval = await self._approvals.request_apply(
            apply.agent,
            apply.commit,
            _decode_bundle(apply.bundle),
            apply.description,
            caller.agent,
            apply.idempotency_key,
        )
        return {"approval_id": approval.id, "status": approval.status.value}

    async def _notes_compacted(self, caller: Caller, params: dict[str, Any]) -> wire.NotesDecision:
        texts = _check(p.NotesCompactedParams, params)
        return {"decision": str(await self._notes.take_rewrite(caller.agent, texts.before, texts.after))}

    async def _terminal_ended(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        ended = _check(p.TerminalEndedParams, params)
        self._terminals.note_ended(caller, ended.id, ended.status)
        return {}

    async def _remind_me(self, caller: Caller, params: dict[str, Any]) -> wire.ReminderFields:
        remind = _check(p.RemindMeParams, params)
        return _show_reminder(
            await self._schedule.remind(caller.agent, remind.note, remind.at, remind.in_seconds, remind.idempotency_key)
        )

    async def _list_reminders(self, caller: Caller, params: dict[str, Any]) -> dict[str, list[wire.ReminderFields]]:
        _check(p.NoParams, params)
        return {"reminders": [_show_reminder(one) for one in await self._schedule.list_reminders(caller.agent)]}

    async def _cancel_reminder(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        await self._schedule.cancel(_check(p.CancelReminderParams, params).id, caller.agent)
        return {}

    async def _list_agents(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        _check(p.NoParams, params)
        rows = await self._agents.rows()
        return {
            "agents": [
                row.model_dump(mode="json", include={"name", "state", "reason", "model", "waiting"}) for row in rows
            ]
        }

    async def _kill(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return await self._steer(self._agents.stop, params)

    async def _start(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return await self._steer(self._agents.start, params)

    async def _restart(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return await self._steer(self._agents.restart, params)

    async def _steer(self, act: Callable[[str, str], Awaitable[None]], params: dict[str, Any]) -> dict[str, Any]:
        name = _check(p.AgentNameParams, params).name
        if name == MANAGER:
            raise RefusedError("the manager cannot do this to itself", "ask the operator")
        await act(name, MANAGER)
        return {}


def _check(model: type[P], params: dict[str, Any]) -> P:
    try:
        return model.model_validate(params)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the request"
        raise InvalidInputError(f"{where}: {first['msg']}", "see the tool's description") from error


def _decode_bundle(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInputError("the bundle is not base64", "use the tool: it makes the bundle") from error


def _show_reminder(reminder: Reminder) -> wire.ReminderFields:
    return {"id": reminder.id, "due_at": reminder.due_at.isoformat(), "note": reminder.note}


def _show(message: Message) -> wire.WireMessage:
    shown: wire.WireMessage = {
        "id": message.id,
        "sender": message.sender,
        "recipient": message.recipient,
        "body": message.body,
        "sent_at": message.sent_at.isoformat(),
        "deliveries": message.deliveries,
        "thread": message.thread,
        "in_reply_to": message.in_reply_to,
        "broadcast": message.broadcast is not None,
    }
    if message.question is not None:
        shown["question"] = message.question
    if message.answer_to is not None:
        shown["answer_to"] = message.answer_to
    return shown


def _show_sent(ids: Sequence[int]) -> wire.SendResult:
    return {"id": ids[0]} if len(ids) == 1 else {"id": ids[0], "ids": list(ids)}


def _show_receipt(message: Message) -> wire.ReceiptFields:
    return {
        "id": message.id,
        "to": message.recipient,
        "state": message.state.value,
        "sent_at": message.sent_at.isoformat(),
        "deliveries": message.deliveries,
        "settled_at": "" if message.settled_at is None else message.settled_at.isoformat(),
        "note": message.note or "",
    }
