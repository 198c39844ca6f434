"""The rehearsal: what plays the swarm when no model is behind it, as in `hive demo`.

A pure rule. An agent learns its name from the system prompt, reads the envelopes in the newest user text, and deals
with every one of them in order, one tool call for each answer. The same words always get the same answer.
"""

import json
import re
import shlex
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.messages import SenderKind
from hyperhive.core.names import MANAGER, OPERATOR, parse_agent_name, parse_known_agent_name
from hyperhive.testing.messages_api.reply import Reply
from hyperhive.testing.messages_api.request import ParsedRequest, ToolResult
from hyperhive.testing.script import resolve_tool
from hyperhive.testing.steps import Text, ToolUse

_NAME_LINE = re.compile(r'^You are the agent "([^"\n]+)" in this hive\.$', re.MULTILINE)
_ENVELOPE = re.compile(
    r'<message id="(?P<id>\d+)" from="(?P<sender>[^"]*)" kind="(?P<kind>\w+)"(?P<rest>[^>]*)>\n'
    r"(?P<body>.*?)\n</message>",
    re.DOTALL,
)
_ASKS = re.compile(r' question="(\d+)"')
_OPTIONS = re.compile(r"^Choose [^\n]*?: (\[.*\])$", re.MULTILINE)
_ASK_PEER = re.compile(r"^\s*ask\s+(?:the\s+)?([\w-]+)[\s,:]+(\S.*)", re.IGNORECASE | re.DOTALL)
_MORE_WAITING = re.compile(r"^\d+ more waiting: call recv", re.MULTILINE)
_SPAWN = re.compile(r"\b(?:(?:we need|i need|get me|get us|spawn|hire)\s+an?|spawn|hire)\s+([\w-]+)", re.IGNORECASE)
_CALLED = re.compile(r"\b(?:called|named)\s+[\"']?([\w-]+)", re.IGNORECASE)
_CONTROL = re.compile(r"^\s*(stop|kill|start|restart)\s+([\w-]+)[\s.!]*$", re.IGNORECASE)
_TELL = re.compile(r"^\s*(?:tell|ask)\s+(?:the\s+)?([\w-]+)\s+(?:to\s+)?(.+)", re.IGNORECASE | re.DOTALL)
_GIVE_MODEL = re.compile(r"^\s*give\s+(?:the\s+)?([\w-]+)\s+the\s+model\s+([\w.:-]*\w)[\s.!]*$", re.IGNORECASE)
_ALLOW_ONLY = re.compile(r"^\s*allow\s+(?:the\s+)?([\w-]+)\s+only\s+([\w., -]*\w)[\s.!]*$", re.IGNORECASE)
_RUN = re.compile(r"^\s*run:\s*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_QUOTE_LIMIT_CHARS = 300
_OUTPUT_LIMIT_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message as the agent reads it."""

    id: int
    sender: str
    kind: SenderKind
    body: str
    is_reply: bool = False
    # the question that it asks, and whether it tells the end of one
    question: int | None = None
    is_end: bool = False


@dataclass(frozen=True, slots=True)
class Act:
    """One tool call with the words before it. `make_input` may use the result of the call before it."""

    says: str
    tool: str
    make_input: Callable[[ToolResult], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """A key of an agent's config that is to be set to `value`, which is TOML; on NixOS the option of that name."""

    agent: str
    key: str
    value: str


_NO_RESULT = ToolResult(name="", text="", is_error=False)


def parse_envelopes(text: str) -> list[Envelope]:
    """The messages in a wake prompt or in what `recv` returned, in order."""
    return [
        Envelope(
            int(match["id"]),
            match["sender"],
            SenderKind(match["kind"]),
            match["body"],
            is_reply="in_reply_to=" in match["rest"],
            question=int(asks[1]) if (asks := _ASKS.search(match["rest"])) else None,
            is_end="answer_to=" in match["rest"],
        )
        for match in _ENVELOPE.finditer(text)
        if match["kind"] in set(SenderKind)
    ]


def parse_spawn_request(body: str) -> str | None:
    """The name of the agent that the operator wants, if `body` asks for one."""
    match = _SPAWN.search(body)
    if match is None:
        return None
    called = _CALLED.search(body)
    try:
        return parse_agent_name((called or match)[1].lower().replace("_", "-"))
    except InvalidInputError:
        return None


def parse_change(body: str) -> Change | None:
    """The change of an agent's config that the operator wants, if `body` asks for one."""
    if match := _GIVE_MODEL.match(body):
        key, value = "model", match[2]
    elif match := _ALLOW_ONLY.match(body):
        key, value = "bash.allow", [f"{command} *" for command in re.split(r"[\s,]+(?:and\s+)?", match[2])]
    else:
        return None
    try:
        # Such texts are the same in TOML as in JSON.
        return Change(parse_known_agent_name(match[1].lower()), key, json.dumps(value))
    except InvalidInputError:
        return None


def answer_rehearsal(request: ParsedRequest) -> Reply:
    """The rule: the act that is due at this step, or the end of the turn."""
    acts = list(_plan_turn(request))
    if request.steps < len(acts):
        act = acts[request.steps]
        previous = request.tool_results[-1] if request.steps and request.tool_results else _NO_RESULT
        return Reply([Text(act.says), ToolUse(resolve_tool(act.tool, request.tools), act.make_input(previous))])
    return Reply([Text("done." if acts else "noted; nothing to do.")])


def _plan_turn(request: ParsedRequest) -> Iterator[Act]:
    agent = match[1] if (match := _NAME_LINE.search(request.system)) else "agent"
    plan_words = _plan_as_manager if agent == MANAGER else _plan_as_agent

    def plan(agent: str, envelope: Envelope, request: ParsedRequest) -> list[Act]:
        if envelope.question is not None:
            return [_answer(agent, envelope, envelope.question)]
        if envelope.is_end and envelope.kind is not SenderKind.OPERATOR:
            return [] if envelope.kind is SenderKind.SYSTEM else [_pass_on(envelope)]
        return plan_words(agent, envelope, request)

    for envelope in parse_envelopes(request.user_text):
        yield from plan(agent, envelope, request)
    if _MORE_WAITING.search(request.user_text):
        yield Act("there is more in my inbox.", "recv", lambda _: {})
        for envelope in _received(request.tool_results):
            yield from plan(agent, envelope, request)


def _received(results: Sequence[ToolResult]) -> list[Envelope]:
    """The messages that a `recv` of this turn returned, plain or as the one value of a JSON object."""
    for result in results:
        if result.name.endswith("recv") and not result.is_error:
            try:
                value: object = json.loads(result.text)
            except ValueError:
                return parse_envelopes(result.text)
            text = cast("dict[str, object]", value).get("result") if isinstance(value, dict) else value
            return parse_envelopes(str(text))
    return []


# -- the manager ------------------------------------------------------------------------------------------


def _plan_as_manager(_agent: str, envelope: Envelope, request: ParsedRequest) -> list[Act]:
    match envelope.kind:
        case SenderKind.OPERATOR:
            return _plan_order(envelope)
        case SenderKind.SYSTEM:
            return _plan_event(envelope, request)
        case _:
            return _plan_peer(MANAGER, envelope)


def _plan_order(envelope: Envelope) -> list[Act]:
    """What the manager does with the words of the operator."""
    if name := parse_spawn_request(envelope.body):
        return _plan_spawn(name, envelope)
    if match := _CONTROL.match(envelope.body):
        return _plan_control(match[1].lower(), match[2].lower(), envelope)
    if change := parse_change(envelope.body):
        return _plan_change(change, envelope)
    if (match := _TELL.match(envelope.body)) and match[1].lower() not in {"me", "us"}:
        return _plan_tell(match[1].lower(), match[2].strip(), envelope)
    if "who is here" in envelope.body.lower() or "list agents" in envelope.body.lower():
        return [
            Act("let me look.", "list_agents", lambda _: {}),
            _report("here is the hive:", envelope),
        ]
    return _plan_operator_message(MANAGER, envelope)


def _plan_spawn(name: str, envelope: Envelope) -> list[Act]:
    why = f"the operator wrote: “{_quote(envelope.body)}”. {name} will do {_focus(name)}."

    def tell(result: ToolResult) -> dict[str, Any]:
        if result.is_error:
            return _reply(envelope, f"i could not ask for {name}: {result.text}")
        return _reply(
            envelope,
            f"i asked for a new agent, {name}. the approval waits for you: nothing is started before you decide.",
        )

    return [
        Act(f"we have no {name}. i ask for one.", "request_spawn", lambda _: {"name": name, "description": why}),
        Act("the operator has to decide now.", "send", tell),
    ]


def _plan_change(change: Change, envelope: Envelope) -> list[Act]:
    """The manager edits and commits for real, so what the operator is asked to approve is a real commit."""
    why = f"the operator wrote: “{_quote(envelope.body)}”."
    edit = {"command": _render_edit(change), "description": f"change {change.key} of {change.agent}"}

    def propose(result: ToolResult) -> dict[str, Any]:
        # The last line is the commit. If it is a complaint instead, it names no commit and is refused.
        lines = result.text.strip().splitlines() or ["nothing"]
        return {"agent": change.agent, "commit_ref": lines[-1], "description": why}

    def tell(result: ToolResult) -> dict[str, Any]:
        if result.is_error:
            return _reply(envelope, f"i could not propose that for {change.agent}: {result.text}")
        return _reply(
            envelope,
            f"i proposed {change.key} = {change.value} for {change.agent}. the approval waits for you.",
        )

    return [
        Act(f"i change the config of {change.agent} and commit.", "Bash", lambda _: edit),
        Act("i propose that commit.", "request_apply_commit", propose),
        Act("the operator has to decide now.", "send", tell),
    ]


def _render_edit(change: Change) -> str:
    """A command that makes one commit on what is deployed, and writes its name."""
    line = shlex.quote(f"{change.key} = {change.value}")
    key = re.escape(change.key)
    option = shlex.quote(f"  hyperhive.{change.key} = {_render_nix(json.loads(change.value))};")
    # Before the brace that ends the module.
    nix = f"sed -e '/^  hyperhive\\.{key} = /d' -e '${{/^}} *$/d; s/}} *$//}}' agent.nix; echo {option}; echo '}}'"
    # At the top, where no table has begun.
    toml = f"echo {line}; sed '/^{key} = /d' agent.toml"
    steps = (
        f"cd /agents/{change.agent}/config",
        "git fetch --quiet applied",
        "git checkout --quiet -B proposal applied/main",
        f"if [ -e agent.nix ]; then file=agent.nix; {{ {nix}; }} >new; else file=agent.toml; {{ {toml}; }} >new; fi",
        'mv new "$file"',
        f"git commit --quiet --all -m {line}",
        "git rev-parse HEAD",
    )
    # In a shell of its own: claude tells of a folder that was left, below what the command printed.
    return f"({' && '.join(steps)})"


def _render_nix(value: str | list[str]) -> str:
    """A text or a list of texts; none of them has what means something between the quotes of Nix alone."""
    if isinstance(value, str):
        return json.dumps(value)
    return f"[ {' '.join(map(json.dumps, value))} ]"


def _plan_control(verb: str, name: str, envelope: Envelope) -> list[Act]:
    tool = "kill" if verb == "stop" else verb

    def tell(result: ToolResult) -> dict[str, Any]:
        outcome = f"that did not work: {result.text}" if result.is_error else f"{verb} {name}: done."
        return _reply(envelope, outcome)

    return [
        Act(f"{verb} {name}.", tool, lambda _: {"name": name}),
        Act("i report back.", "send", tell),
    ]


def _plan_tell(name: str, words: str, envelope: Envelope) -> list[Act]:
    def tell(result: ToolResult) -> dict[str, Any]:
        outcome = f"i could not reach {name}: {result.text}" if result.is_error else f"i told {name}."
        return _reply(envelope, outcome)

    task = {"to": name, "body": f"The operator asked: {words}"}
    return [
        Act(f"this is for {name}.", "send", lambda _: task),
        Act("i report back.", "send", tell),
    ]


def _plan_event(envelope: Envelope, request: ParsedRequest) -> list[Act]:
    """What the manager does when the hive tells it of a fact."""
    event = _parse_event(envelope.body)
    name = str(event.get("agent") or event.get("name") or "")
    status = event.get("status")
    if event.get("event") == "spawned" and name:
        task = _render_task(name, request)
        return [Act(f"{name} is here. i give it the first task.", "send", lambda _: {"to": name, "body": task})]
    if event.get("event") == "approval_resolved" and status in {"denied", "failed"}:
        reason = str(event.get("reason") or "no reason given")
        understood = _render_outcome(name, str(event.get("kind")), str(status)) + reason
        return [Act("i take note.", "send", lambda _: {"to": OPERATOR, "body": understood})]
    return []


def _render_outcome(name: str, kind: str, status: str) -> str:
    if kind in {"apply", "revert"}:
        why = "your reason" if status == "denied" else "the new one failed"
        return f"understood: {name} keeps its config. {why}: "
    if status == "denied":
        return f"understood: no {name or 'new agent'} for now. your reason: "
    return f"{name or 'the new agent'} was approved but could not be started: "


def _parse_event(body: str) -> dict[str, Any]:
    try:
        value: object = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _render_task(name: str, request: ParsedRequest) -> str:
    """The first task of `name`, from the words the operator asked for it with, as far as they are remembered."""
    texts = [request.user_text, *reversed(request.earlier_texts)]
    wishes = (
        envelope.body
        for text in texts
        for envelope in reversed(parse_envelopes(text))
        if envelope.kind is SenderKind.OPERATOR and parse_spawn_request(envelope.body) == name
    )
    wish = next(wishes, None)
    asked = f"The operator asked: {_quote(wish)}" if wish else "The operator started you."
    return f"{asked}\nIntroduce yourself to the operator and say what you would look into first."


# -- every agent ------------------------------------------------------------------------------------------


def _plan_as_agent(agent: str, envelope: Envelope, _request: ParsedRequest) -> list[Act]:
    match envelope.kind:
        case SenderKind.OPERATOR:
            return _plan_operator_message(agent, envelope)
        case SenderKind.MANAGER if envelope.is_reply:
            # An answer to a question of this agent's, not a task.
            return []
        case SenderKind.MANAGER:
            words = f"this is {agent}. {_quote(envelope.body.removeprefix('The operator asked: '))}: "
            body = f"{words}i would start with {_focus(agent)}."
            if "introduce yourself" in envelope.body.lower():
                body = f"hello, i am {agent}. i would first look into {_focus(agent)}."
            return [
                Act("i report to the operator.", "send", lambda _: {"to": OPERATOR, "body": body}),
            ]
        case SenderKind.PEER:
            return _plan_peer(agent, envelope)
        case SenderKind.SYSTEM:
            return []


def _plan_operator_message(agent: str, envelope: Envelope) -> list[Act]:
    if match := _RUN.search(envelope.body):
        command = match[1].strip()
        call = {"command": command, "description": "asked for by the operator"}
        return [
            Act(f"i run {command}", "Bash", lambda _: call),
            _report(f"`{command}` said:", envelope),
        ]
    if "ask me" in envelope.body.lower():
        question = {
            "question": f"{agent} here. what matters most to you in this?",
            "options": ["that it is right", "that it is soon", "that it is cheap"],
        }
        return [Act("i have a question.", "ask_operator", lambda _: question)]
    if asked := parse_peer_question(envelope.body):
        return [Act(f"i ask {asked['to']}.", "ask", lambda _: dict(asked))]
    return [Act("i answer.", "send", lambda _: _reply(envelope, _render_small_talk(agent, envelope.body)))]


def parse_peer_question(body: str) -> dict[str, str] | None:
    """The question that the operator wants put to another agent, if `body` says so."""
    match = _ASK_PEER.match(body)
    try:
        return None if match is None else {"to": parse_known_agent_name(match[1].lower()), "question": match[2].strip()}
    except InvalidInputError:
        return None


def _answer(agent: str, envelope: Envelope, question: int) -> Act:
    """Answers a question of another agent: the first that is offered, or words."""
    head = envelope.body.partition("\n\n")[0]
    offered: list[str] = json.loads(match[1]) if (match := _OPTIONS.search(head)) else []
    answer = {"options": offered[:1]} if offered else {"text": f"i look at it as {_focus(agent)}."}
    return Act(f"{envelope.sender} asks.", "answer", lambda _: {"id": question, **answer})


def _pass_on(envelope: Envelope) -> Act:
    return Act("i have an answer.", "send", lambda _: {"to": OPERATOR, "body": envelope.body})


def _plan_peer(agent: str, envelope: Envelope) -> list[Act]:
    """Answers a question and nothing else, with no question in it: two agents never keep each other busy."""
    if "?" not in envelope.body:
        return []
    answer = f"{agent} here. i look at it as {_focus(agent)}; more when i know more."
    return [Act(f"{envelope.sender} asks.", "send", lambda _: _reply(envelope, answer))]


def _report(headline: str, envelope: Envelope) -> Act:
    """Tells the operator what the call before it returned."""

    def make_input(result: ToolResult) -> dict[str, Any]:
        output = result.text.strip()[:_OUTPUT_LIMIT_CHARS] or "(nothing)"
        failed = " (it failed)" if result.is_error else ""
        return _reply(envelope, f"{headline}{failed}\n{output}")

    return Act("i report back.", "send", make_input)


def _reply(envelope: Envelope, body: str) -> dict[str, Any]:
    return {"to": envelope.sender, "body": body, "in_reply_to": envelope.id}


def _quote(text: str) -> str:
    return " ".join(text.split())[:_QUOTE_LIMIT_CHARS].rstrip(".!? ")


_FOCUSES = (
    "what is known already and which sources can be trusted",
    "the smallest piece that can be shown today",
    "what could go wrong and how we would notice",
    "who uses this and what hurts them now",
    "the open questions, the cheapest one first",
)
_SMALL_TALK = (
    "got it: “{quote}”. i will look at it with {focus} in mind.",
    "understood. for “{quote}” i would begin with {focus}.",
    "noted: “{quote}”. next i check {focus}.",
)


def _pick(choices: Sequence[str], *words: str) -> str:
    """The same words always pick the same choice."""
    return choices[zlib.crc32("\n".join(words).encode()) % len(choices)]


def _focus(agent: str) -> str:
    return _FOCUSES[0] if agent == "researcher" else _pick(_FOCUSES, agent)


def _render_small_talk(agent: str, body: str) -> str:
    return _pick(_SMALL_TALK, agent, body).format(quote=_quote(body).replace("{", "("), focus=_focus(agent))
