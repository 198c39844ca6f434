"""What the commands print, without a hive: tables line up, agents cannot draw outside of their place."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fake_hive import AGENT, APPLY, APPROVAL, DRAFT, HIVE, KEPT, MESSAGE, NOW, PERMISSION, QUESTION, REVIEW
from hyperhive.cli.agents import render_agents, render_kept
from hyperhive.cli.approvals import render_approvals
from hyperhive.cli.drafts import render_drafts
from hyperhive.cli.hive import render_summary
from hyperhive.cli.messages import render_inbox, render_questions
from hyperhive.cli.rendering import (
    Column,
    Screen,
    render_age,
    render_block,
    render_exact_line,
    render_exact_text,
    render_full_table,
    render_json,
    render_size,
    render_table,
    wrap_prose,
    wrap_text,
)
from hyperhive.cli.review import Request
from hyperhive.core.text import text_width
from hyperhive.wire.operator.base import Model

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
    assert head.split() == ["NAME", "STATE", "SINCE", "WAITING", "TURNS", "MODEL", "COMMIT", "REASON"]
    assert line.split() == ["alice", "idle", "5", "min", "2", "7", "claude-test", "cccccccc"]


def test_what_parks_an_agent_is_shown_with_how_long_it_lasts_and_what_it_says_forges_no_line() -> None:
    until = (NOW + timedelta(minutes=12, seconds=30)).isoformat()
    limit = {"kind": "limit", "until": until, "reason": "five_hour\n\x1b[2J"}
    shown = render_agents([row(AGENT, state="parked", park=limit | {"hive": True})], SCREEN)
    assert shown.splitlines()[1].endswith("usage limit, the whole hive, 12 min left: five_hour \\x1b[2J")
    paused = {"kind": "paused", "until": None, "reason": "lunch", "hive": False}
    assert render_agents([row(AGENT, state="stopped", park=paused)], SCREEN).endswith("paused: lunch")


def test_the_summary_says_what_agents_need_that_are_parked_and_that_a_pause_needs_nobody() -> None:
    park = {"kind": "budget", "until": None, "reason": "12 of 10 tokens", "hive": True}
    summary = {
        **row(HIVE, park=park),
        "data": "/d",
        "agents": {"parked": 3},
        "parked_agents": {"login": 1, "failing": 2, "paused": 4},
        "pending_approvals": 0,
        "open_questions": 0,
    }
    assert render_summary(summary, SCREEN).splitlines()[-1] == (
        "needs you  1 to log in (hive login NAME), 2 that keep failing (hive logs NAME, hive resume NAME),"
        " more to spend for the whole hive (hive grant)"
    )


def test_a_field_that_is_missing_is_shown_as_unknown() -> None:
    assert render_agents([{"name": "alice"}], SCREEN).splitlines()[1].split()[:3] == ["alice", "?", "?"]


def test_every_field_that_is_shown_is_one_of_the_api() -> None:
    shown = [
        render_agents([row(AGENT)], SCREEN),
        render_kept([row(KEPT)], SCREEN),
        render_drafts([row(DRAFT)], SCREEN),
        render_approvals([Request(row(APPROVAL)), Request(row(APPLY), row(REVIEW))], SCREEN),
        render_inbox([row(MESSAGE)], SCREEN),
        render_summary(
            {
                **row(HIVE),
                "data": "/d",
                "agents": {"idle": 1},
                "parked_agents": {},
                "pending_approvals": 1,
                "open_questions": 1,
            },
            SCREEN,
        ),
    ]
    assert not [text for text in shown if "?" in text]
    assert "?" not in render_questions([row(QUESTION)], SCREEN).replace("which colour?", "")


@pytest.mark.parametrize(
    "text",
    [
        render_agents(
            [
                row(
                    AGENT,
                    reason=HOSTILE,
                    model=HOSTILE,
                    name=HOSTILE,
                    state=HOSTILE,
                    commit=HOSTILE,
                    config_error=HOSTILE,
                )
            ],
            SCREEN,
        ),
        render_kept([row(KEPT, name=HOSTILE, destroyed_at=HOSTILE)], SCREEN),
        render_drafts([row(DRAFT, name=HOSTILE, requested_by=HOSTILE, created_at=HOSTILE)], SCREEN),
        render_approvals(
            [
                Request(row(APPROVAL, description=HOSTILE, requested_by=HOSTILE, agent=HOSTILE)),
                Request(row(APPROVAL), problem=HOSTILE),
            ],
            SCREEN,
        ),
        render_inbox([row(MESSAGE, body=HOSTILE, sender=HOSTILE)], SCREEN),
        render_questions([row(QUESTION, question=HOSTILE, options=[HOSTILE], answer=HOSTILE)], SCREEN),
    ],
)
def test_text_of_agents_neither_controls_the_terminal_nor_forges_a_line(text: str) -> None:
    assert not set(text) & set("\x1b\r\u202e")
    assert not [line for line in text.splitlines() if line.startswith("#99")]


def test_an_approval_is_shown_in_full_however_narrow_the_screen() -> None:
    description = "a " * 500 + "END"
    assert "END" in render_approvals([Request(row(APPROVAL, description=description))], replace(SCREEN, width=20))


def test_the_inbox_shows_the_newest_last_and_marks_what_is_new() -> None:
    text = render_inbox([row(MESSAGE, id=9), row(MESSAGE, id=8, state="acked", in_reply_to=4)], SCREEN)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert heads == ["#8 from alice, 30 s ago, answers #4", "#9 from alice, 30 s ago, new"]


def test_a_question_shows_its_options_and_its_deadline() -> None:
    text = render_questions([row(QUESTION)], SCREEN)
    assert "[2] mauve" in text
    assert text.startswith("#5 alice asks, 2 min ago; expires in 1 d\n")


def test_a_question_between_agents_says_who_asks_whom() -> None:
    assert render_questions([row(QUESTION, asked="bob")], SCREEN).startswith("#5 alice asks bob, 2 min ago; expires")


def test_a_permission_says_that_silence_denies_it() -> None:
    head, _, *options = render_questions([row(PERMISSION)], SCREEN).splitlines()
    assert head == "#6 alice asks for permission, 2 min ago; denied if nobody answers within 10 min"
    assert [line.strip() for line in options] == ["[1] allow once", "[2] allow for 30 minutes", "[3] deny"]


def test_a_question_about_notes_says_what_it_is_and_that_silence_keeps_them() -> None:
    notes = row(QUESTION, kind="notes", options=["apply", "keep the old"])
    head = render_questions([notes], SCREEN).splitlines()[0]
    assert head == (
        "#5 a rewrite of the notes of alice, 2 min ago; the notes stay as they are if nobody answers within 1 d"
    )


def test_a_question_that_ended_has_no_deadline() -> None:
    head = render_questions([row(QUESTION, status="answered", answer="amber")], SCREEN).splitlines()[0]
    assert head == "#5 alice asks, 2 min ago, answered"


def test_an_option_cannot_bring_another_one_along() -> None:
    text = render_questions([row(QUESTION, options=["deny\n    [2] allow", "x"])], SCREEN)
    assert [line.strip()[:3] for line in text.splitlines()[2:]] == ["[1]", "[2]"]


def test_the_last_config_that_failed_is_told_below_the_agent() -> None:
    agents = [row(AGENT, config_error="no package\njq"), row(AGENT, name="bob")]
    _, _, error, bob = render_agents(agents, SCREEN).splitlines()
    assert error == "  config: no package jq"
    assert bob.startswith("bob")
    narrow = render_agents(agents, replace(SCREEN, width=20)).splitlines()[2]
    assert (text_width(narrow), narrow[-1]) == (20, "…")


def test_kept_state_says_whether_a_login_is_among_it() -> None:
    assert render_kept([row(KEPT)], SCREEN).splitlines()[1].split() == [
        *("gone", "3", "h", "ago", "4", "d", "2.4", "MiB", "yes"),
    ]


def test_nothing_is_said_in_words() -> None:
    assert render_approvals([], SCREEN) == "nothing waits for you"
    assert render_inbox([], SCREEN) == "no messages"
    assert render_questions([], SCREEN) == "no questions"
    assert "hive spawn" in render_agents([], SCREEN)
    assert render_drafts([], SCREEN) == "no drafts"
    assert render_kept([], SCREEN) == "nothing is kept of destroyed agents"


def test_a_long_line_of_a_block_goes_on_indented_at_a_blank() -> None:
    text = "one two three " + "x" * 30
    block = render_block("head", text, replace(SCREEN, width=16))
    assert block.splitlines() == [
        "head",
        "    one two",
        "    three",
        "    " + "x" * 12,
        "    " + "x" * 12,
        "    " + "x" * 6,
    ]


@pytest.mark.parametrize("text", ["", " ", "a b", "你好 " * 9, "x" * 50, " x" * 25, "a  " * 20, "e\u0301" * 30])
def test_wrapping_loses_nothing_and_keeps_to_the_width(text: str) -> None:
    for wrap in (wrap_text, wrap_prose):
        pieces = wrap(text, 7)
        assert "".join(pieces) == text
        assert max(text_width(piece) for piece in pieces) <= 7


@pytest.mark.parametrize("width", [None, 20, 60])
def test_a_full_table_shows_all_of_every_cell(width: int | None) -> None:
    columns = [Column("A", lambda r: r[0]), Column("B", lambda r: r[1])]
    table = render_full_table(columns, [("x" * 40, "y" * 90)], replace(SCREEN, width=width))
    assert (table.count("x"), table.count("y")) == (40, 90)
    assert width is None or max(text_width(line) for line in table.splitlines()) <= width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u00a0b", "a\\xa0b"),
        ("a\u200db", "a\\u200db"),
        ("a\u3164b", "a\\u3164b"),
        ("a\ufe0fb", "a\\ufe0fb"),
        ("a\U000e0101b", "a\\U000e0101b"),
        ("a\ue000b", "a\\ue000b"),
        ("a\u2028b", "a\\u2028b"),
        ("ä你é\tb\nc", "ä你é\tb\nc"),
    ],
)
def test_what_cannot_be_seen_is_named_where_it_is_applied(text: str, shown: str) -> None:
    assert render_exact_text(text) == shown


def test_an_exact_line_is_one_line() -> None:
    assert render_exact_line("a\tb\nc") == "a\\tb\\nc"


def test_a_block_keeps_lines_apart_from_the_heading() -> None:
    assert render_block("head", "one\ntwo", SCREEN) == "head\n    one\n    two"


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
