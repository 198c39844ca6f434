"""The agent's tools: each call becomes one request on the agent link, its answer plain text."""

import base64
import json
import os
from typing import Any

from hyperhive.core.errors import HiveError, InvalidInputError, UnavailableError, render_error
from hyperhive.core.messages import RECV_MAX_MESSAGES, RECV_WAIT_LIMIT_S, Message, render_envelope
from hyperhive.harness.engine_wire import ToolResult
from hyperhive.harness.inbox import Inbox
from hyperhive.harness.link import Link
from hyperhive.harness.proposals import Proposal, Proposals
from hyperhive.harness.wake import plan_wake
from hyperhive.wire import agent_link
from hyperhive.wire.tools import TOOLS, Tool

# How long a tool waits for the daemon beyond what it was asked to wait: a restart of the daemon takes seconds.
_DEADLINE_S = 60.0
_PROPOSALS = frozenset({agent_link.REQUEST_APPLY_COMMIT, agent_link.REQUEST_SPAWN_COMMIT})
_WITH_KEY = frozenset({agent_link.SEND, agent_link.ASK_OPERATOR, agent_link.ASK, agent_link.REMIND_ME}) | _PROPOSALS
_TOOLS_BY_NAME = {tool.name: tool for tool in TOOLS}
# Calls without an answer whose keys are remembered; an agent repeats a failed call soon or not at all.
_UNANSWERED_LIMIT = 32


class Toolbox:
    """Answers tool calls. What `recv` fetches stays in the inbox unsettled: it is settled with the turn.

    A call that was not answered in time keeps its idempotency key: repeated word for word, it counts once.
    """

    def __init__(
        self, link: Link, inbox: Inbox, deadline_s: float = _DEADLINE_S, proposals: Proposals | None = None
    ) -> None:
        self._link = link
        self._inbox = inbox
        self._proposals = proposals or Proposals()
        self._deadline_s = deadline_s
        self._unanswered: dict[str, str] = {}

    async def call(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        """The result of a call. A refusal is a result too, which tells the agent what to do."""
        try:
            tool = _TOOLS_BY_NAME.get(name)
            if tool is None:
                raise InvalidInputError(f"there is no tool {name[:80]!r}")
            if tool.method == agent_link.RECV:
                return ToolResult(text=await self._recv(arguments))
            if tool.method in _PROPOSALS:
                return ToolResult(text=await self._propose(tool, arguments))
            answer = await self._request(tool, arguments, [tool.name, arguments])
            return ToolResult(text=_render_answer(tool, arguments, answer))
        except HiveError as error:
            return ToolResult(text=render_error(error), is_error=True)

    async def _recv(self, arguments: dict[str, Any]) -> str:
        wait_s = _parse_number(arguments, "wait_seconds", 0, 0, RECV_WAIT_LIMIT_S)
        limit = int(_parse_number(arguments, "max", RECV_MAX_MESSAGES, 1, RECV_MAX_MESSAGES))
        delivery = await self._inbox.fetch(self._link, limit, wait_s, deadline_s=wait_s + self._deadline_s)
        shown, rest = plan_wake(delivery.messages)
        self._inbox.give_back(self._link, [message.id for message in rest], "too long for one answer of recv")
        return _render_delivery(shown, delivery.waiting + len(rest))

    async def _propose(self, tool: Tool, arguments: dict[str, Any]) -> str:
        """Makes the bundle and sends it. Under the same key only as long as it is the same commit."""
        ref = _parse_text(arguments, "commit_ref", "HEAD")
        params = {key: arguments[key] for key in ("description",) if key in arguments}
        if tool.method == agent_link.REQUEST_SPAWN_COMMIT:
            params["name"] = name = _parse_text(arguments, "name")
            proposal = await self._proposals.make_spawn(name, ref)
            params["notes"] = proposal.notes
        else:
            params["agent"] = name = _parse_text(arguments, "agent")
            proposal = await self._proposals.make_apply(name, ref)
        params |= {"commit": proposal.commit, "bundle": base64.b64encode(proposal.bundle).decode()}
        call = [tool.name, arguments, proposal.commit, proposal.notes]
        return _render_proposal(tool, name, proposal, await self._request(tool, params, call))

    async def _request(self, tool: Tool, params: dict[str, Any], call: list[Any]) -> Any:
        """The daemon's answer. `call` is what makes two calls the same one."""
        words = json.dumps(call, sort_keys=True)
        params = dict(params)
        if tool.method in _WITH_KEY:
            params["idempotency_key"] = self._unanswered.get(words) or os.urandom(16).hex()
        try:
            answer = await self._link.request(tool.method, params, deadline_s=self._deadline_s)
        except UnavailableError as error:
            if tool.method not in _WITH_KEY:
                raise
            self._remember(words, params["idempotency_key"])
            raise UnavailableError(
                f"{error.message}: it is not known whether this was done",
                "repeat the call later with the very same arguments: it then counts once, never twice",
            ) from error
        self._unanswered.pop(words, None)
        return answer

    def _remember(self, call: str, key: str) -> None:
        self._unanswered[call] = key
        while len(self._unanswered) > _UNANSWERED_LIMIT:
            del self._unanswered[next(iter(self._unanswered))]


def _parse_text(arguments: dict[str, Any], name: str, default: str | None = None) -> str:
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} is a text")
    return value


def _parse_number(arguments: dict[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = arguments.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidInputError(f"{name} is a number from {least:g} to {most:g}")
    return value


def _render_delivery(messages: list[Message], waiting: int) -> str:
    if not messages:
        return "no messages"
    parts = [render_envelope(message) for message in messages]
    if waiting:
        parts.append(f"{waiting} more waiting: call recv again for them.")
    return "\n\n".join(parts)


def _render_answer(tool: Tool, arguments: dict[str, Any], answer: Any) -> str:
    if (said := _render_said(tool, arguments, answer)) is not None:
        return said
    match tool.method, answer:
        case agent_link.REMIND_ME, {"id": int(reminder_id), "due_at": str(due_at)}:
            return f"reminder {reminder_id} is set: its note arrives as a message from 'system' at {due_at}"
        case agent_link.CANCEL_REMINDER, _:
            return f"reminder {arguments['id']} is cancelled"
        case agent_link.LIST_REMINDERS, {"reminders": []}:
            return "no reminders wait"
        case agent_link.REQUEST_SPAWN, {"approval_id": int(approval_id)}:
            return _render_approval(approval_id)
        case agent_link.REQUEST_SPAWN_DRAFT, _:
            name = arguments["name"]
            return (
                f"the draft of {name} is there: edit and commit its config in /agents/{name}/config, "
                f"put notes for it into /agents/{name}/state, then call request_spawn_commit"
            )
        case _, {**rest} if not rest:
            return "done"
        case _:
            return json.dumps(answer, ensure_ascii=False, indent=1)


def _render_said(tool: Tool, arguments: dict[str, Any], answer: Any) -> str | None:
    """What comes of messages and questions."""
    match tool.method, answer:
        case agent_link.SEND, {"id": int(message_id), "ids": [*ids]}:
            return f"message {message_id} is sent to {len(ids)} agents"
        case agent_link.SEND, {"id": int(message_id)}:
            return f"message {message_id} to {arguments['to']} is sent"
        case agent_link.ASK_OPERATOR, {"id": int(question_id)}:
            return f"question {question_id} is asked; the answer arrives as a message from 'operator'"
        case agent_link.ASK, {"id": int(question_id)}:
            return f"question {question_id} is asked; the answer arrives as a message from {arguments['to']!r}"
        case agent_link.ANSWER, _:
            return f"question {arguments['id']} is answered"
        case agent_link.CANCEL_QUESTION, _:
            return f"question {arguments['id']} is cancelled"
        case _:
            return None


def _render_proposal(tool: Tool, name: str, proposal: Proposal, answer: Any) -> str:
    match answer:
        case {"approval_id": int(approval_id), "status": "pending"}:
            outcome = _render_approval(approval_id)
        case {"approval_id": int(approval_id), "status": str(status)}:
            outcome = f"approval {approval_id} for this is {status} already"
        case _:
            raise UnavailableError(f"the daemon's answer to {tool.name} is not one", "list_agents tells what there is")
    parts = [f"{outcome}\nIt is for commit {proposal.commit[:12]} of {name}, and for no later one."]
    if tool.method == agent_link.REQUEST_SPAWN_COMMIT:
        files = "1 file" if proposal.staged == 1 else f"{proposal.staged} files"
        parts.append(f"Staged for its first turn: {files} of /agents/{name}/state.")
    if proposal.warning:
        parts.append(f"Warning: {proposal.warning}.")
    return "\n".join(parts)


def _render_approval(approval_id: int) -> str:
    return f"approval {approval_id} waits for the operator; the decision arrives as a message from 'system'"
