"""When a rewrite of an agent's notes may be written; what the session that rewrites them is asked, and may answer."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.notes import (
    RewriteDecision,
    decide_rewrite,
    decode_notes,
    encode_notes,
    hash_notes,
    measure_loss,
)
from hyperhive.harness.notes import (
    Attempt,
    Outcome,
    is_rewrite_due,
    parse_attempt,
    parse_rewritten,
    render_attempt,
    render_marks,
    render_notes_prompt,
)

MARK = "0123456789abcdef"
BEGIN, END = render_marks(MARK)
AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
LIMIT = 1000

# Lines as agents write them, and as nobody should.
_lines = st.one_of(
    st.sampled_from(
        ["# work", "## ideas", "- [ ] call bob", "- [x] called bob", "", "===== notes", END, "\x1b[2J", "\0"]
    ),
    st.text(max_size=30),
)
_notes = st.lists(_lines, max_size=30).map("\n".join)


def test_a_rewrite_that_keeps_what_is_open_is_written() -> None:
    before = "# work\n" + "- [x] done with this\n" * 20 + "- [ ] call bob\n# facts\nthe id is 17\n"
    after = "# work\n- [ ] call bob\n# facts\nthe id is 17\n" + "a line\n" * 10
    assert decide_rewrite(before, after) is RewriteDecision.APPLY


@pytest.mark.parametrize("after", ["", " \n\t\n", "x" * 100, "y" * 101])
def test_an_empty_rewrite_and_one_that_is_no_shorter_leave_the_notes_as_they_are(after: str) -> None:
    assert decide_rewrite("x" * 100, after) is RewriteDecision.KEEP


def test_a_rewrite_that_keeps_less_than_a_fifth_is_asked_about() -> None:
    assert decide_rewrite("x" * 100, "x" * 19) is RewriteDecision.ASKED
    assert decide_rewrite("x" * 100, "x" * 20) is RewriteDecision.APPLY


def test_a_rewrite_that_drops_more_than_half_of_the_headings_is_asked_about() -> None:
    before = "# a\n# b\n# c\n# d\n" + "text\n" * 10
    assert decide_rewrite(before, "# a\n## B \n" + "text\n" * 9) is RewriteDecision.APPLY
    assert decide_rewrite(before, "# a\n" + "text\n" * 9) is RewriteDecision.ASKED


def test_dropped_open_tasks_are_not_made_up_for_by_headings_that_stay() -> None:
    headings = "".join(f"# part {number}\n" for number in range(20))
    before = headings + "- [ ] pay\n* [ ] call\n- [ ] write\n" + "text\n" * 10
    assert decide_rewrite(before, headings + "- [ ] pay\n- [ ] call\n") is RewriteDecision.APPLY
    assert decide_rewrite(before, headings + "- [ ] pay\n- [x] call\n- [x] write\n") is RewriteDecision.ASKED


def test_a_task_that_stood_there_twice_counts_twice() -> None:
    loss = measure_loss("- [ ] call\n- [ ] call\n", "- [ ] call\n")
    assert (loss.tasks, loss.tasks_lost) == (2, 1)


@given(_notes, _notes)
def test_no_notes_are_ever_written_empty_or_longer_without_asking(before: str, after: str) -> None:
    if decide_rewrite(before, after) is RewriteDecision.APPLY:
        assert after.strip()
        assert len(encode_notes(after)) < len(encode_notes(before))
        assert len(encode_notes(after)) >= 0.2 * len(encode_notes(before))


@given(_notes)
def test_notes_lose_nothing_against_themselves(notes: str) -> None:
    loss = measure_loss(notes, notes)
    assert (loss.headings_lost, loss.tasks_lost) == (0, 0)


@given(st.text(alphabet=st.characters(), max_size=40))
def test_any_text_has_one_hash_before_and_after_a_file(text: str) -> None:
    # Half of a surrogate pair included.
    assert hash_notes(decode_notes(encode_notes(text))) == hash_notes(text)


# -- when --------------------------------------------------------------------------------------------------


def attempt(outcome: Outcome, ago: timedelta, size_bytes: int = 2000) -> Attempt:
    return Attempt(AT - ago, outcome, size_bytes)


def test_only_notes_over_the_limit_are_rewritten_and_without_one_none() -> None:
    assert not is_rewrite_due(LIMIT, LIMIT, None, AT)
    assert is_rewrite_due(LIMIT + 1, LIMIT, None, AT)
    assert not is_rewrite_due(10**9, 0, None, AT)


@pytest.mark.parametrize(
    ("outcome", "pause"),
    [
        (Outcome.HELPED, timedelta(minutes=10)),
        (Outcome.USELESS, timedelta(hours=1)),
        (Outcome.ASKED, timedelta(days=1)),
        (Outcome.SET, timedelta(days=1)),
    ],
)
def test_after_an_attempt_there_is_a_pause(outcome: Outcome, pause: timedelta) -> None:
    second = timedelta(seconds=1)
    assert not is_rewrite_due(2000, LIMIT, attempt(outcome, pause - second), AT)
    assert is_rewrite_due(2000, LIMIT, attempt(outcome, pause), AT)
    # A clock that was set back does not put it off.
    assert is_rewrite_due(2000, LIMIT, attempt(outcome, -second), AT)


def test_short_notes_that_the_operator_set_may_soon_be_too_long_again() -> None:
    assert is_rewrite_due(2000, LIMIT, attempt(Outcome.SET, timedelta(minutes=11), LIMIT // 2), AT)


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", "null", '{"at": 1e400, "outcome": "helped", "size_bytes": 1}', "[" * 9999, '"at"']
)
def test_what_is_no_attempt_is_none(text: str | None) -> None:
    assert parse_attempt(text) is None


@given(st.sampled_from(Outcome), st.integers(0, 2**40))
def test_an_attempt_is_remembered_as_it_was(outcome: Outcome, size_bytes: int) -> None:
    assert parse_attempt(render_attempt(Attempt(AT, outcome, size_bytes))) == Attempt(AT, outcome, size_bytes)


# -- what is asked and answered ----------------------------------------------------------------------------


@given(_notes)
def test_the_notes_stand_in_the_prompt_as_they_are_between_lines_that_they_do_not_have(notes: str) -> None:
    prompt = render_notes_prompt(notes, 32 * 1024, MARK) if MARK not in notes else ""
    if prompt:
        assert prompt.endswith(f"The notes:\n{BEGIN}\n{notes}\n{END}\n")
        assert "16,384 bytes" in prompt
        assert notes.count(MARK) == 0


def test_notes_never_get_a_mark_that_they_hold() -> None:
    with pytest.raises(AssertionError):
        render_notes_prompt(f"a\n{END}\n", LIMIT, MARK)


@given(_notes.filter(lambda text: MARK not in text and bool(text.strip())))
def test_an_answer_between_the_two_lines_is_read_whole(text: str) -> None:
    assert parse_rewritten(f"\n{BEGIN}\n{text}\n{END}\n\n", MARK) == text.strip("\n") + "\n"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "the notes",
        BEGIN,
        f"{BEGIN}\ntext",
        f"text\n{END}",
        f"Here they are:\n{BEGIN}\ntext\n{END}",
        f"{BEGIN}\ntext\n{END}\nI hope this helps",
        f"```\n{BEGIN}\ntext\n{END}\n```",
        f"{BEGIN}\na\n{END}\n{BEGIN}\nb\n{END}",
        f"{BEGIN}\n{MARK}\n{END}",
        f"{END}\ntext\n{BEGIN}",
        f"{BEGIN} {END}",
        "\n".join(render_marks("f" * 16)),
    ],
)
def test_any_other_answer_is_none(answer: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_rewritten(answer, MARK)


def test_nothing_between_the_lines_is_an_empty_text() -> None:
    assert parse_rewritten(f"{BEGIN}\n{END}", MARK) == ""
    assert parse_rewritten(f"{BEGIN}\n \n{END}", MARK) == ""
