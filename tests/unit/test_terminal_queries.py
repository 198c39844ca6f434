"""What programs ask a terminal: taken out of what was on it before, and told from what a person types."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.cli.terminal_queries import ReplayFilter, split_answers

QUERIES = [
    b"\x1b[c",
    b"\x1b[0c",
    b"\x1b[>c",
    b"\x1b[=c",
    b"\x1bZ",
    b"\x05",
    b"\x1b[5n",
    b"\x1b[6n",
    b"\x1b[?6n",
    b"\x1b[?2026$p",
    b"\x1b[4$p",
    b"\x1b[x",
    b"\x1b[1;1;1;1;9;9*y",
    b"\x1b[14t",
    b"\x1b[18;2t",
    b"\x1b[21t",
    b"\x1b[>q",
    b"\x1b[>0q",
    b"\x1b[?u",
    b"\x1b[?4m",
    b"\x1b[?1;1;0S",
    b"\x1b]11;?\x07",
    b"\x1b]10;?\x1b\\",
    b"\x1b]4;1;?\x07",
    b"\x1b]4;1;?;2;rgb:0/0/0\x07",
    b"\x1b]52;c;?\x07",
    b"\x1b]1337;ReportCellSize\x07",
    b"\x1bP$qm\x1b\\",
    b"\x1bP+q544e\x1b\\",
    b"\x1b_Gi=1,a=q;AAAA\x1b\\",
    b"\xc2\x9bc",
    b"\xc2\x9b6n",
    b"\xc2\x9d11;?\xc2\x9c",
    b"\xc2\x90$qm\xc2\x9c",
    b"\xc2\x9a",
]
HARMLESS = [
    b"plain, and with a bell \x07\r\n",
    "gr\u00fc\u00dfe \u00a0\u2192 \U0001f600".encode(),
    b"\x1b[31;1mred\x1b[0m",
    b"\x1b[2J\x1b[H\x1b[10;5H",
    b"\x1b[?1049h\x1b[?25l\x1b[?2004h",
    b"\x1b[>4;2m\x1b[=1;1u",
    b"\x1b[22;0t\x1b[8;24;80t",
    b"\x1b[3S\x1b[2q\x1b[!p\x1b[5$x",
    b"\x1b]0;a title? yes\x07",
    b"\x1b]8;;http://a.example/?b\x1b\\link\x1b]8;;\x1b\\",
    b"\x1b]11;#000000\x07\x1b]104\x07",
    b"\x1bc\x1b7\x1b8\x1b(B\x1b=",
]


def show(*pieces: bytes) -> bytes:
    replay = ReplayFilter()
    return b"".join(map(replay.feed, pieces)) + replay.end()


@pytest.mark.parametrize("query", QUERIES, ids=repr)
def test_a_question_of_the_past_is_taken_out(query: bytes) -> None:
    assert show(b"before" + query + b"after") == b"beforeafter"


@pytest.mark.parametrize("shown", HARMLESS, ids=repr)
def test_what_asks_nothing_stays_as_it_is(shown: bytes) -> None:
    assert show(b"before" + shown + b"after") == b"before" + shown + b"after"


@given(st.lists(st.sampled_from(QUERIES + HARMLESS), max_size=8), st.lists(st.integers(0, 120), max_size=6))
def test_it_makes_no_difference_how_it_is_cut(written: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(written)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(places)]
    assert show(*pieces) == show(whole)


def test_a_question_that_ends_in_what_is_new_is_asked() -> None:
    replay = ReplayFilter()
    assert replay.feed(b"text\x1b[6") + replay.end() + b"n" == b"text\x1b[6n"


@pytest.mark.parametrize(
    "piece", [b"\x1b]", b"\xc2\x9d", b"\xc2", b"\x1b[", b"\x1b[1", b"\x1bPx", b"\xc2\x9b1", b"\x1b", b"\x1b]0;\xc2"]
)
def test_a_hostile_past_is_gone_through_in_time(piece: bytes) -> None:
    hostile = piece * (512 * 1024 // len(piece))
    started = time.process_time()
    show(*(hostile[at : at + 65536] for at in range(0, len(hostile), 65536)))
    assert time.process_time() - started < 5


def test_an_image_without_an_end_is_not_kept_back_for_ever() -> None:
    replay = ReplayFilter()
    shown = replay.feed(b"\x1bPq" + b"?" * 100_000)
    assert len(shown) > 90_000


@pytest.mark.parametrize(
    ("came", "pieces"),
    [
        (b"ls\r", [(b"ls\r", False)]),
        (b"\x1b[?1;2c", [(b"\x1b[?1;2c", True)]),
        (b"l\x1b[5;10Rs", [(b"l", False), (b"\x1b[5;10R", True), (b"s", False)]),
        (b"\x1b]11;rgb:0/0/0\x1b\\\x1b[0n", [(b"\x1b]11;rgb:0/0/0\x1b\\", True), (b"\x1b[0n", True)]),
        (b"\x1bP1$r0m\x1b\\", [(b"\x1bP1$r0m\x1b\\", True)]),
        (b"\x1b[?0u\x1b[?2026;2$y", [(b"\x1b[?0u", True), (b"\x1b[?2026;2$y", True)]),
        (b"\x1b[A\x1bOA\x1b[3~\x1b[1;5C\x1b[97;5u", [(b"\x1b[A\x1bOA\x1b[3~\x1b[1;5C\x1b[97;5u", False)]),
        (b"\x1b[200~\xc3\xbc\x1b[201~\x1b", [(b"\x1b[200~\xc3\xbc\x1b[201~\x1b", False)]),
        (b"\x1b]" + b"x" * 200 + b"\x07", [(b"\x1b]" + b"x" * 200 + b"\x07", False)]),
    ],
)
def test_what_a_terminal_answers_is_told_from_what_is_typed(came: bytes, pieces: list[tuple[bytes, bool]]) -> None:
    assert split_answers(came) == pieces


@given(st.binary(max_size=60))
def test_nothing_that_is_typed_is_lost(came: bytes) -> None:
    assert b"".join(piece for piece, _ in split_answers(came)) == came
