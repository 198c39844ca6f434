"""What an approval looks like before it is decided: nothing is cut, hidden, or drawn by what an agent wrote."""

from dataclasses import replace
from typing import Any

import pytest

from fake_hive import AGENT_TOML, APPROVAL, COMPARISON, NOTES, NOW, REVERT, REVIEW
from hyperhive.cli.diffs import SIDE_BY_SIDE_COLUMNS, DiffStyle, render_file_head, render_files, render_stat
from hyperhive.cli.rendering import Screen
from hyperhive.cli.review import EFFECTS, Request, render_request, render_review
from hyperhive.core.effects import Effect
from hyperhive.core.text import text_width
from hyperhive.wire.operator.base import Model

SCREEN = Screen(now=NOW)
WIDE = replace(SCREEN, width=SIDE_BY_SIDE_COLUMNS + 10)
PLAIN = DiffStyle()
HOSTILE = "\x1b[2J\r\u202e\x0b\x0c\x85\u2028\u2029evil\n#99 apply alice, asked for by operator\n  1 1   safe"
LINE_ENDS = "\r\x0b\x0c\x85\u2028\u2029"


def row(made: Model, /, **changes: Any) -> dict[str, Any]:
    return made.model_dump(mode="json") | changes


def render(review: dict[str, Any], *, screen: Screen = SCREEN, style: DiffStyle = PLAIN, since: bool = False) -> str:
    return render_review(review, screen, style, since=since)


def fill_hostile(value: Any) -> Any:
    """`value` with every text in it replaced, whatever it was."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, dict):
        return {key: fill_hostile(part) for key, part in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [fill_hostile(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def file_of(*lines: tuple[str, int | None, int | None, str], **changes: Any) -> dict[str, Any]:
    made = [{"kind": kind, "old": old, "new": new, "text": text} for kind, old, new, text in lines]
    return row(AGENT_TOML, hunks=[{"header": "@@ -1 +1 @@", "lines": made}], **changes)


# -- one approval ------------------------------------------------------------------------------------------


def test_a_review_shows_what_is_pinned_what_it_means_and_what_changes() -> None:
    text = render(row(REVIEW))
    assert text.startswith("#7 apply alice, asked for by manager 4 min ago\n    she needs the tracker\n")
    assert f"commit  {'d' * 40}\nbase    {'c' * 40}\n" in text
    assert "warning: an MCP server runs as the agent\n" in text
    assert "what it means, after a build, with a restart of the container\n" in text
    assert "since #5, which was not applied: 1 file, +2 -1 lines: hive show 7 --since" in text
    assert text.endswith("hive approve 7 · hive deny 7 --reason TEXT")


def test_the_meaning_is_an_aligned_table() -> None:
    lines = render(row(REVIEW)).splitlines()
    start = next(index for index, line in enumerate(lines) if "AREA" in line)
    head, jq, model = lines[start : start + 3]
    assert head.split() == ["AREA", "SUBJECT", "EFFECT", "BEFORE", "AFTER"]
    assert jq.split() == ["+", "packages", "jq", "rebuild", "jq"]
    assert model.split() == ["~", "model", "model", "next", "turn", "old", "claude-test"]
    assert head.index("AFTER") == jq.rindex("jq") == model.index("claude-test")


def test_every_effect_has_words() -> None:
    assert set(EFFECTS) == set(Effect)


def test_a_meaning_is_never_cut_however_narrow_the_screen() -> None:
    meaning = [row(COMPARISON.meaning[0], after="Ω" * 300, subject="ß" * 90)]
    text = render(row(REVIEW, comparison=row(COMPARISON, meaning=meaning)), screen=replace(SCREEN, width=60))
    assert (text.count("Ω"), text.count("ß")) == (300, 90)
    assert max(text_width(line) for line in text.splitlines() if "Ω" in line) <= 60


def test_the_diff_has_the_numbers_and_signs_of_its_lines() -> None:
    lines = render_files([row(AGENT_TOML)], SCREEN, PLAIN).splitlines()
    assert lines == [
        "~ agent.toml  changed, +2 -1, 30 B → 90 B",
        "  @@ -1,2 +1,3 @@",
        "  1 1   warm_s = 60.0",
        '  2   - packages = ["git"]',
        '    2 + packages = ["git", "jq"]',
        '    3 + \tmodel = "claude-test"',
    ]


def test_a_spawn_with_the_default_config_has_nothing_to_compare() -> None:
    review = row(REVIEW, approval=row(APPROVAL), comparison=None, earlier=None, since_earlier=None, notes=[])
    text = render(review)
    assert "a new agent with the default config" in text
    assert "commit" not in text


def test_notes_of_a_new_agent_are_shown_as_a_diff_of_their_own() -> None:
    text = render(row(REVIEW))
    assert "notes for its first turn: 1 file, +1 -0 lines\n+ notes.md  added, +1 -0, 6 B\n" in text
    assert "    1 + start here\n" in text


def test_what_differs_from_the_earlier_proposal_is_shown_on_demand() -> None:
    text = render(row(REVIEW), since=True)
    assert "since #5, which was not applied\n" in text
    assert text.count('    2 + packages = ["git", "jq"]') == 2
    assert "what it means is not known" in text
    none = render(row(REVIEW, earlier=None, since_earlier=None), since=True)
    assert "there is no earlier proposal to compare with" in none


def test_a_revert_names_what_it_brings_back_and_a_failure_its_reason() -> None:
    text = render(row(REVIEW, approval=row(REVERT, status="failed", reason="no package\njq")))
    assert "brings back deployed/3\n" in text
    assert text.splitlines()[0].endswith(", failed")
    assert "reason:\n    no package\n    jq\n" in text
    assert text.endswith("hive config alice --history")


def test_several_files_are_listed_before_their_diffs() -> None:
    text = render(row(REVIEW, comparison=row(COMPARISON, files=[row(AGENT_TOML), row(NOTES)])))
    listed = (
        "2 files, +3 -1 lines\n  ~ agent.toml  changed, +2 -1, 30 B → 90 B\n  + notes.md  added, +1 -0, 6 B\n\n~ agent"
    )
    assert listed in text


def test_a_change_of_nothing_says_so() -> None:
    text = render(row(REVIEW, comparison=row(COMPARISON, files=[], meaning=[])))
    assert "it changes nothing" in text


def test_a_change_that_cannot_be_shown_is_not_taken_for_none() -> None:
    review = row(REVIEW, comparison=None, earlier=None, since_earlier=None)
    for text in (render(review), render_request(Request(row(REVIEW.approval), review), SCREEN)):
        assert "what it changes cannot be shown" in text
        assert "default config" not in text


def test_the_base_is_what_the_diff_is_against() -> None:
    assert f"base    {'e' * 40}\n" in render(row(REVIEW, comparison=row(COMPARISON, base="e" * 40)))


def test_a_request_of_the_list_has_meaning_and_stat_but_no_diff() -> None:
    text = render_request(Request(row(REVIEW.approval), row(REVIEW)), SCREEN)
    assert "jq" in text
    assert "warning: an MCP server runs as the agent" in text
    assert "~ agent.toml  changed, +2 -1" in text
    assert "notes for its first turn: 1 file" in text
    assert "@@" not in text
    assert text.endswith("hive show 7 for the diff")


# -- files -------------------------------------------------------------------------------------------------


def test_a_large_file_is_one_line_until_it_is_wanted() -> None:
    large = row(AGENT_TOML, large=True)
    assert len(render_files([large], SCREEN, PLAIN).splitlines()) == 2
    assert "--full" in render_files([large], SCREEN, PLAIN)
    assert render_files([large], SCREEN, DiffStyle(full=True)) == render_files([row(AGENT_TOML)], SCREEN, PLAIN)


def test_a_diff_that_is_not_all_there_says_so_even_in_full() -> None:
    cut = row(AGENT_TOML, truncated=True, large=True, hunks=[])
    for style in (PLAIN, DiffStyle(full=True)):
        assert "not all of this file's diff is here" in render_files([cut], SCREEN, style)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"binary": True, "hunks": []}, "changed, binary, 30 B → 90 B"),
        ({"executable": True}, "may be executed now"),
        ({"executable": False}, "may not be executed any more"),
        ({"change": "removed"}, "- agent.toml  removed, +2 -1, 30 B"),
    ],
)
def test_the_heading_of_a_file_says_what_is_special(changes: dict[str, Any], shown: str) -> None:
    assert shown in render_file_head(row(AGENT_TOML, **changes), SCREEN)


def test_the_stat_counts_files_and_lines() -> None:
    assert render_stat([row(AGENT_TOML), row(NOTES)]) == "2 files, +3 -1 lines"


def test_a_long_line_goes_on_behind_the_gutter() -> None:
    text = "x" * 30 + "  1 1   forged"
    shown = render_files([file_of(("added", None, 1, text))], replace(SCREEN, width=38), PLAIN)
    body = shown.splitlines()[2:]
    assert [line[:6] for line in body] == ["    1 ", "      "]
    assert "".join(line[8:] for line in body) == text


def test_a_blank_at_the_end_is_named() -> None:
    lines = [("removed", 1, None, "x"), ("added", None, 1, "x "), ("added", None, 2, "\t")]
    shown = render_files([file_of(*lines)], SCREEN, PLAIN)
    assert [line[6:] for line in shown.splitlines()[2:]] == ["- x", "+ x\\x20", "+ \\t"]


def test_a_line_stays_one_line_whatever_is_in_it() -> None:
    for end in [*LINE_ENDS, "\n"]:
        shown = render_files([file_of(("added", None, 1, f"a{end}+ b"))], SCREEN, PLAIN)
        assert len(shown.splitlines()) == 3


def test_a_tab_is_as_wide_as_on_a_terminal_and_stays_a_tab_elsewhere() -> None:
    file = file_of(("context", 1, 1, "\tx"))
    assert render_files([file], SCREEN, PLAIN).endswith("  1 1   \tx")
    assert render_files([file], replace(SCREEN, width=80), PLAIN).endswith("  1 1           x")


def test_side_by_side_sets_what_was_beside_what_will_be() -> None:
    shown = render_files([row(AGENT_TOML)], WIDE, DiffStyle(side_by_side=True)).splitlines()[2:]
    halves = [[half.strip() for half in line.split(" │ ")] for line in shown]
    assert halves == [
        ["1   warm_s = 60.0", "1   warm_s = 60.0"],
        ['2 - packages = ["git"]', '2 + packages = ["git", "jq"]'],
        ["", '3 +         model = "claude-test"'],
    ]
    assert len({line.index("│") for line in shown}) == 1


def test_side_by_side_pairs_each_run_of_changes_by_itself() -> None:
    lines = [
        ("removed", 1, None, "a"),
        ("removed", 2, None, "b"),
        ("added", None, 1, "A"),
        ("removed", 3, None, "c"),
        ("added", None, 2, "C"),
        ("added", None, 3, "D"),
        ("context", 4, 4, "e"),
    ]
    shown = render_files([file_of(*lines)], WIDE, DiffStyle(side_by_side=True)).splitlines()[2:]
    halves = [[half.strip() for half in line.split(" │")] for line in shown]
    assert halves == [["1 - a", "1 + A"], ["2 - b", ""], ["3 - c", "2 + C"], ["", "3 + D"], ["4   e", "4   e"]]


def test_side_by_side_wraps_in_its_own_half() -> None:
    file = file_of(("removed", 1, None, "o" * 100), ("added", None, 1, "你" * 70))
    shown = render_files([file], WIDE, DiffStyle(side_by_side=True)).splitlines()[2:]
    assert max(text_width(line) for line in shown) <= SIDE_BY_SIDE_COLUMNS + 10
    assert ("".join(shown).count("o"), "".join(shown).count("你")) == (100, 70)


def test_a_narrow_screen_gets_one_below_the_other_and_is_told() -> None:
    for screen in (SCREEN, replace(SCREEN, width=SIDE_BY_SIDE_COLUMNS - 1)):
        text = render(row(REVIEW), screen=screen, style=DiffStyle(side_by_side=True))
        assert "not side by side" in text
        assert '  2   - packages = ["git"]' in text


def test_colours_tell_added_from_removed_only_where_they_are_wanted() -> None:
    shown = render_files([row(AGENT_TOML)], replace(SCREEN, colour=True), PLAIN)
    assert '\x1b[32m+ packages = ["git", "jq"]\x1b[0m' in shown
    assert '\x1b[31m- packages = ["git"]\x1b[0m' in shown
    assert "\x1b" not in render(row(REVIEW), since=True)


# -- hostile -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("screen", [SCREEN, WIDE, replace(SCREEN, width=40)], ids=["pipe", "wide", "narrow"])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_no_field_of_a_review_controls_the_terminal_or_forges_a_line(screen: Screen, side_by_side: bool) -> None:
    style = DiffStyle(full=True, side_by_side=side_by_side)
    hostile = fill_hostile(row(REVIEW))
    requests = render_request(Request(hostile["approval"], hostile, HOSTILE), screen)
    for text in (render(hostile, screen=screen, style=style, since=True), requests):
        assert not set(text) & {"\x1b", "\u202e", *LINE_ENDS}
        assert not [line for line in text.split("\n") if line.startswith(("#99", "  1 1   safe"))]
        # The line that begins with a number is the one of ours, and there is but one.
        assert len([line for line in text.split("\n") if line.startswith("#")]) == 1


def test_text_that_pushes_past_the_edge_cannot_begin_a_line_of_ours() -> None:
    screen = replace(SCREEN, width=60)
    forged = "x" * 60 + "#99 apply alice"
    text = render(fill_with(row(REVIEW), forged), screen=screen, style=DiffStyle(full=True), since=True)
    body = [line for line in text.split("\n") if "#99" in line]
    assert body
    assert not [line for line in body if line.startswith("#99")]


def fill_with(review: dict[str, Any], text: str) -> dict[str, Any]:
    """`review` with `text` where an agent can write at length: the description, the values, and the lines."""
    comparison = review["comparison"]
    meaning = [row | {"before": text, "after": text} for row in comparison["meaning"]]
    files = [file_of(("added", None, 1, text))]
    changed = comparison | {"meaning": meaning, "files": files}
    approval = review["approval"] | {"description": text}
    return review | {"approval": approval, "comparison": changed, "since_earlier": changed}


def test_the_gutter_is_the_only_place_of_numbers() -> None:
    text = render_files([file_of(("added", None, 10, "x" * 100), ("removed", 10, None, "y"))], WIDE, PLAIN)
    assert [line[:10] for line in text.splitlines()[2:]] == ["     10 + ", "  10    - "]
