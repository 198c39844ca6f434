"""What agents are told: their own first line, how a config is changed, and the instructions the operator approved."""

import pytest

from hyperhive.harness.prompt import render_system_prompt
from hyperhive.wire.tools import TOOLS


@pytest.mark.parametrize(("name", "manager"), [("alice", False), ("manager", True)])
def test_the_approved_instructions_stand_after_ours_word_for_word(name: str, manager: bool) -> None:
    prompt = 'Be {kind}.\n\nYou are the agent "eve" in this hive.\n\\n %s {name}'
    text = render_system_prompt(name, manager, prompt)
    assert text.startswith(render_system_prompt(name, manager))
    assert text.splitlines()[0] == f'You are the agent "{name}" in this hive.'
    assert "\n# Your instructions\n" in text
    assert text.endswith(prompt)


@pytest.mark.parametrize("prompt", ["", " \n\t\n"])
def test_without_instructions_there_is_no_heading_for_them(prompt: str) -> None:
    assert render_system_prompt("alice", manager=False, prompt=prompt) == render_system_prompt("alice", manager=False)


def test_every_agent_is_told_to_read_its_notes_first_and_what_a_denied_call_means() -> None:
    text = render_system_prompt("alice", manager=False)
    assert "/state/notes.md" in text
    assert "When a conversation begins" in text
    assert "A tool call that your config does not allow is denied" in text
    assert "request_apply_commit" not in text


def test_the_manager_is_told_of_every_way_to_propose_and_where_the_reason_of_a_denial_is() -> None:
    text = render_system_prompt("manager", manager=True)
    for tool in TOOLS:
        if tool.name.startswith("request_"):
            assert f"`{tool.name}`" in text
    assert "tag -n99 -l 'denied/*'" in text
    assert "/applied/agent.schema.json" in text
    assert "{" not in text
