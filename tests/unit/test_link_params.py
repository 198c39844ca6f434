"""The host's checked models and the wire's contract name the same fields."""

from typing import Any

import pytest
from pydantic import ValidationError

from hyperhive.host.link import params
from hyperhive.wire import agent_link, tools

PAIRS = [
    "HelloParams",
    "RecvParams",
    "AckParams",
    "RequeueParams",
    "SendParams",
    "AskOperatorParams",
    "AskParams",
    "AnswerParams",
    "CancelQuestionParams",
    "MessageStatusParams",
    "AgentEvent",
    "EventsAppendParams",
    "TurnStateParams",
    "AskPermissionParams",
    "ParkParams",
    "LoginFields",
    "NotesCompactedParams",
    "SpawnParams",
    "SpawnDraftParams",
    "SpawnCommitParams",
    "ApplyCommitParams",
    "RemindMeParams",
    "CancelReminderParams",
    "TerminalEndedParams",
    "TerminalHead",
    "AgentNameParams",
]


@pytest.mark.parametrize("name", PAIRS)
def test_both_sides_name_the_same_fields(name: str) -> None:
    model: type[params.Params] = getattr(params, name)
    contract: Any = getattr(agent_link, name)
    assert set(model.model_fields) == set(contract.__annotations__)
    required = {field for field, info in model.model_fields.items() if info.is_required()}
    assert required == set(contract.__required_keys__)


def test_every_tool_has_a_method_and_a_schema() -> None:
    methods = {value for key, value in vars(agent_link).items() if key.isupper() and isinstance(value, str)}
    for tool in tools.TOOLS:
        assert tool.method in methods
        assert set(tool.required) <= set(tool.properties)
        assert tool.input_schema["additionalProperties"] is False


def test_only_the_manager_is_offered_the_managers_tools() -> None:
    assert {tool.name for tool in tools.list_tools(manager=False)} == {
        *("send", "message_status", "recv", "ask_operator", "ask", "answer", "cancel_question"),
        *("remind_me", "list_reminders", "cancel_reminder"),
    }
    assert {"request_apply_commit", "request_spawn", "list_agents", "kill", "start", "restart"} <= {
        tool.name for tool in tools.list_tools(manager=True)
    }


@pytest.mark.parametrize("at", ["", "now", "\u2028", "2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "2026-W99-1"])
def test_an_event_that_happened_at_no_instant_is_refused(at: str) -> None:
    with pytest.raises(ValidationError):
        params.AgentEvent(seq=1, at=at, kind="notice", body={})


@pytest.mark.parametrize("at", ["20260101T000000Z", "2026-01-01T01:00:00+01:00", "2026-W01-4T00:00:00+00:00"])
def test_an_events_instant_is_kept_in_one_form(at: str) -> None:
    assert params.AgentEvent(seq=1, at=at, kind="notice", body={}).at == "2026-01-01T00:00:00+00:00"
