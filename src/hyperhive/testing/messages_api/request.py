"""What a rule sees of a request: one frozen view, read once, tolerant of everything it does not know."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

# Texts the CLI puts beside what was really said; they must not hide the newest words of the user.
_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_INTERRUPTED = "[Request interrupted by user"
_ENVELOPE = re.compile(r'<message id="(\d+)"[^>]*>\n(.*?)\n</message>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned, with the name of the tool that was called."""

    name: str
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request for one answer. A turn is what follows the newest text of the user.

    `steps` counts the answers already given in this turn, `attempt` how often this very step was asked before,
    which is more than 0 only after a failure. `earlier_texts` are the user's texts before the newest.
    """

    model: str
    system: str
    tools: tuple[str, ...]
    user_text: str
    earlier_texts: tuple[str, ...]
    tool_results: tuple[ToolResult, ...]
    steps: int
    session: str
    stream: bool
    input_tokens: int
    attempt: int = 0

    @property
    def step_key(self) -> str:
        """The same for every attempt at a step: also when a failed turn's messages come again in a later turn."""
        scripted = [number for number, body in _ENVELOPE.findall(self.user_text) if "%%" in body]
        place = scripted or [len(self.earlier_texts), self.user_text]
        parts = [self.session, place, self.steps, bool(self.tools)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def parse_request(body: Mapping[str, Any], size_bytes: int) -> ParsedRequest:
    """The view of a `/v1/messages` body. Raises ValueError when it has no list of messages."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise ValueError("messages: field required")  # noqa: TRY004 - the wording of the API, answered as a 400
    turn = _read_conversation(_objects(cast("object", messages)))
    return ParsedRequest(
        model=str(body.get("model", "unknown")),
        system="\n".join(_texts(body.get("system"))),
        tools=tuple(str(tool.get("name")) for tool in _objects(body.get("tools"))),
        user_text=turn.texts[-1] if turn.texts else "",
        earlier_texts=tuple(turn.texts[:-1]),
        tool_results=tuple(turn.results),
        steps=turn.steps,
        session=_read_session(body.get("metadata")),
        stream=bool(body.get("stream", False)),
        input_tokens=max(1, size_bytes // 4),
    )


class _Conversation:
    """Walks the messages once and keeps what belongs to the newest turn."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.results: list[ToolResult] = []
        self.steps = 0
        self._names: dict[str, str] = {}

    def add(self, message: Mapping[str, Any]) -> None:
        content: object = message.get("content")
        if message.get("role") == "assistant":
            self.steps += 1
            for block in _objects(content):
                if block.get("type") == "tool_use":
                    self._names[str(block.get("id"))] = str(block.get("name"))
            return
        if message.get("role") != "user":
            # The CLI tells of its surroundings in messages of the system between those of the user.
            return
        whole: object = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in _objects(whole):
            self._add_block(block)

    def _add_block(self, block: Mapping[str, Any]) -> None:
        if block.get("type") == "tool_result":
            name = self._names.get(str(block.get("tool_use_id")), "")
            text = "\n".join(_texts(block.get("content")))
            self.results.append(ToolResult(name, text, block.get("is_error") is True))
        elif block.get("type") == "text":
            text = _REMINDER.sub("", str(block.get("text", ""))).strip()
            if text and not text.startswith(_INTERRUPTED):
                self.texts.append(text)
                self.results.clear()
                self.steps = 0


def _read_conversation(messages: Iterable[Mapping[str, Any]]) -> _Conversation:
    turn = _Conversation()
    for message in messages:
        turn.add(message)
    return turn


def _read_session(metadata: object) -> str:
    """The CLI's session id, which it hides in the `user_id`; the whole value where it is no JSON."""
    if not isinstance(metadata, dict):
        return ""
    user_id = str(cast("dict[str, object]", metadata).get("user_id", ""))
    try:
        value: object = json.loads(user_id)
    except ValueError:
        return user_id
    return str(cast("dict[str, object]", value).get("session_id", user_id)) if isinstance(value, dict) else user_id


def _objects(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _texts(value: object) -> list[str]:
    """The texts of a `content` or `system` field, which is a string or a list of blocks."""
    if isinstance(value, str):
        return [value]
    return [str(block["text"]) for block in _objects(value) if isinstance(block.get("text"), str)]
