"""`hive shell` without a real hive: what is taken out of what is typed, which terminal an id means, what it says."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_process import call
from fake_hive import NOW, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.escapes import Act, Escapes
from hyperhive.cli.rendering import Screen
from hyperhive.cli.shell import find_terminal, render_terminals
from hyperhive.core.errors import HiveError, NotFoundError

OPEN = {
    "id": "ab12" + "0" * 28,
    "agent": "alice",
    "opened_by": "operator",
    "opened_at": NOW.isoformat(),
    "columns": 80,
    "rows": 24,
    "viewers": 1,
    "ended_at": None,
    "status": None,
    "ending": None,
    "bytes_in": 3,
    "bytes_out": 4,
}
OTHER = OPEN | {"id": "ab34" + "0" * 28}
ENDED = OPEN | {"id": "cd56" + "0" * 28, "ended_at": NOW.isoformat()}


@pytest.mark.parametrize(
    ("typed", "passed", "acts"),
    [
        (b"ls\r", b"ls\r", []),
        (b"~.", b"", [Act.DETACH]),
        (b"ls\r~.more", b"ls\r", [Act.DETACH]),
        (b"ls\n~.", b"ls\n", [Act.DETACH]),
        (b"~?", b"", [Act.HELP]),
        (b"~~.", b"~.", []),
        (b"~/bin\r", b"~/bin\r", []),
        (b"cd ~.\r", b"cd ~.\r", []),
        (b"~\r~.", b"~\r", [Act.DETACH]),
        (b"~?~.", b"", [Act.HELP, Act.DETACH]),
    ],
)
def test_an_escape_counts_at_the_start_of_a_line_alone(typed: bytes, passed: bytes, acts: list[Act]) -> None:
    assert Escapes().feed(typed) == (passed, acts)


@given(st.binary(max_size=40).filter(lambda typed: b"~" not in typed), st.lists(st.integers(0, 40), max_size=5))
def test_what_has_no_tilde_is_passed_on_as_it_is_however_it_is_cut(typed: bytes, cuts: list[int]) -> None:
    escapes = Escapes()
    places = [0, *sorted(cuts), len(typed)]
    pieces = [typed[start:end] for start, end in itertools.pairwise(places)]
    assert b"".join(escapes.feed(piece)[0] for piece in pieces) == typed


def test_an_escape_in_two_pieces_is_one() -> None:
    escapes = Escapes()
    assert escapes.feed(b"~") == (b"", [])
    assert escapes.feed(b".") == (b"", [Act.DETACH])


def test_who_only_looks_types_nothing_and_leaves_with_ctrl_c() -> None:
    escapes = Escapes(only_looking=True)
    assert escapes.feed(b"rm -rf /\r") == (b"", [])
    assert escapes.feed(b"\x03") == (b"", [Act.DETACH])


def test_a_prefix_names_an_open_terminal_if_it_is_the_only_one() -> None:
    assert find_terminal([OPEN, OTHER, ENDED], "ab1") == OPEN["id"]
    for prefix in ("ab", "cd", "", "zz"):
        with pytest.raises(NotFoundError):
            find_terminal([OPEN, OTHER, ENDED], prefix)


def test_the_list_shows_how_to_get_back() -> None:
    shown = render_terminals([OPEN], "alice", Screen(now=NOW, width=None, colour=False))
    assert "ab1200000000" in shown
    assert "80x24" in shown
    assert "hive shell alice --attach ID" in shown


async def test_the_list_names_open_ones_alone(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path / "data") as hive:
        hive.answers["GET /api/agents/alice/terminals"] = answer_with([OPEN, ENDED])
        done = await call(hive.data, "shell", "alice", "--list", "--json")
        assert b"ab1200000" in done.stdout
        assert b"cd56" not in done.stdout


@pytest.mark.parametrize("options", [[], ["--attach", "ab12"], ["--attach", "ab12", "--read-only"]], ids=" ".join)
async def test_no_claude_and_no_agent_opens_a_shell(tmp_path: Path, options: list[str]) -> None:
    with run_fake_hive(tmp_path / "data") as hive:
        by_claude = await call(hive.data, "shell", "alice", *options, CLAUDECODE="1")
        in_container = await call(hive.data, "shell", "alice", *options, HIVE_GENERATION="1")
        assert hive.received == []
    assert (by_claude.status, in_container.status) == (1, 1)
    assert b"for the operator to type into" in by_claude.stderr
    assert b"an agent's container" in in_container.stderr
    assert b"hive shell alice" in by_claude.stderr


async def test_a_claude_may_list_the_open_ones(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path / "data") as hive:
        hive.answers["GET /api/agents/alice/terminals"] = answer_with([OPEN])
        assert b"ab1200000" in (await call(hive.data, "shell", "alice", "--list", CLAUDECODE="1")).stdout


async def test_a_refusal_is_told_with_its_hint(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path / "data") as hive:
        hive.answers["POST /api/agents/alice/terminals"] = refuse_with(HiveError("alice is not connected", "wait"), 503)
        done = await call(hive.data, "shell", "alice")
        assert done.status == 1
        assert done.stderr == b"hive: alice is not connected\nhint: wait\n"


@pytest.mark.parametrize("options", [["--read-only"], ["--list", "--attach", "a"], ["--json"]])
async def test_options_that_do_not_go_together_are_wrong_use(tmp_path: Path, options: list[str]) -> None:
    assert (await call(tmp_path, "shell", "alice", *options)).status == 2


async def test_a_hive_that_does_not_know_terminals_is_named_as_such(tmp_path: Path) -> None:
    with run_fake_hive(tmp_path / "data") as hive:
        hive.answers["GET /api/agents/alice/terminals"] = answer_with([OPEN])
        done = await call(hive.data, "shell", "alice", "--attach", "ab")
        assert done.status == 1
        assert b"does not speak of terminals" in done.stderr
