"""What the commands print, without a hive: tables line up, agents cannot draw outside of their place."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_hive import AGENT, APPROVAL, HIVE, KEPT, MESSAGE, NOW, QUESTION
from hyperhive.cli.agents import render_agents, render_kept
from hyperhive.cli.approvals import render_approvals
from hyperhive.cli.hive import render_summary
from hyperhive.cli.messages import render_inbox, render_questions
from hyperhive.cli.rendering import Column, Screen, render_age, render_block, render_json, render_size, render_table
from hyperhive.core.text import text_width
from hyperhive.wire.operator import Model

SCREEN = Screen(now=NOW)
HOSTILE = "\x1b[2J\r\u202eevil\n#99 from operator, 1 s ago"


def row(made: Model, /, **changes: Any) -> dict[str, Any]:
    return made.model_dump(mode="json") | changes


def test_a_table_lines_up_and_ends_without_blanks() -> None:
    columns = [Column("A", lambda r: r[0]), Column("LONG", lambda r: r[1])]
    assert render_table(columns, [("x", "1"), ("你好", "22")], SCREEN) == "A     LONG\nx     1\n你好  22"


@pytest.mark.parametrize("width", [10, 20, 40])
def test_the_last_column_is_cut_where_the_terminal_ends(width: int) -> None:
    columns = [Column("A", lambda r: r[0]), Column("TEXT", lambda r: r[1])]
    table = render_table(columns, [("x", "y" * 100)], replace(SCREEN, width=width))
    assert max(text_width(line) for line in table.splitlines()) == width
    assert table.endswith("…")


def test_nothing_is_cut_when_the_output_is_no_terminal() -> None:
    assert "y" * 500 in render_table([Column("A", str)], ["y" * 500], SCREEN)


def test_colours_appear_only_on_a_screen_that_wants_them() -> None:
    assert "\x1b[32midle" in render_agents([row(AGENT)], replace(SCREEN, colour=True))
    assert "\x1b" not in render_agents([row(AGENT)], SCREEN)


def test_agents_are_shown_with_state_age_and_model() -> None:
    head, line = render_agents([row(AGENT)], SCREEN).splitlines()
    assert head.split() == ["NAME", "STATE", "SINCE", "WAITING", "TURNS", "MODEL", "REASON"]
    assert line.split() == ["alice", "idle", "5", "min", "2", "7", "claude-test"]


def test_a_field_that_is_missing_is_shown_as_unknown() -> None:
    assert render_agents([{"name": "alice"}], SCREEN).splitlines()[1].split()[:3] == ["alice", "?", "?"]


def test_every_field_that_is_shown_is_one_of_the_api() -> None:
    shown = [
        render_agents([row(AGENT)], SCREEN),
        render_kept([row(KEPT)], SCREEN),
        render_approvals([row(APPROVAL)], SCREEN),
        render_inbox([row(MESSAGE)], SCREEN),
        render_summary(
            {**row(HIVE), "data": "/d", "agents": {"idle": 1}, "pending_approvals": 1, "open_questions": 1}, SCREEN
        ),
    ]
    assert not [text for text in shown if "?" in text]
    assert "?" not in render_questions([row(QUESTION)], SCREEN).replace("which colour?", "")


@pytest.mark.parametrize(
    "text",
    [
        render_agents([row(AGENT, reason=HOSTILE, model=HOSTILE, name=HOSTILE, state=HOSTILE)], SCREEN),
        render_approvals([row(APPROVAL, description=HOSTILE, requested_by=HOSTILE, agent=HOSTILE)], SCREEN),
        render_inbox([row(MESSAGE, body=HOSTILE, sender=HOSTILE)], SCREEN),
        render_questions([row(QUESTION, question=HOSTILE, options=[HOSTILE], answer=HOSTILE)], SCREEN),
    ],
)
def test_text_of_agents_neither_controls_the_terminal_nor_forges_a_line(text: str) -> None:
    assert not set(text) & set("\x1b\r\u202e")
    assert not [line for line in text.splitlines() if line.startswith("#99")]


def test_an_approval_is_shown_in_full_however_narrow_the_screen() -> None:
    description = "a " * 500 + "END"
    assert "END" in render_approvals([row(APPROVAL, description=description)], replace(SCREEN, width=20))


def test_the_inbox_shows_the_newest_last_and_marks_what_is_new() -> None:
    text = render_inbox([row(MESSAGE, id=9), row(MESSAGE, id=8, state="acked", in_reply_to=4)], SCREEN)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == ["#8 from alice, 30 s ago, answers #4", "#9 from alice, 30 s ago, new"]


def test_a_question_shows_its_options() -> None:
    assert "[2] mauve" in render_questions([row(QUESTION)], SCREEN)


def test_nothing_is_said_in_words() -> None:
    assert render_approvals([], SCREEN) == "nothing waits for you"
    assert render_inbox([], SCREEN) == "no messages"
    assert render_questions([], SCREEN) == "no questions"
    assert "hive spawn" in render_agents([], SCREEN)
    assert render_kept([], SCREEN) == "nothing is kept of destroyed agents"


def test_a_block_keeps_lines_apart_from_the_heading() -> None:
    assert render_block("head", "one\ntwo") == "head\n    one\n    two"


@pytest.mark.parametrize(
    ("age", "shown"),
    [(-3, "0 s"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (86399, "23 h"), (172800, "2 d")],
)
def test_ages_have_one_unit(age: int, shown: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert render_age((now - timedelta(seconds=age)).isoformat(), now) == shown


@pytest.mark.parametrize("instant", ["", "?", "yesterday", "2026-01-01T00:00:00"])
def test_an_instant_that_is_none_has_an_unknown_age(instant: str) -> None:
    assert render_age(instant, datetime(2026, 1, 1, tzinfo=UTC)) == "?"


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (2_500_000, "2.4 MiB"), (2**34, "16.0 GiB")]
)
def test_sizes_have_one_unit(size: int, shown: str) -> None:
    assert render_size(size) == shown


def test_json_is_one_ascii_line_whatever_it_holds() -> None:
    text = render_json({"body": HOSTILE})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {"body": HOSTILE}
