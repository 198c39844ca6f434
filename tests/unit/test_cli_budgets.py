"""`hive budget` and `hive grant`: what they send and what they show."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_process import asked, call
from fake_hive import NOW, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.budgets import parse_tokens, parse_usd, render_budgets, render_left, render_limits
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import ConflictError, InvalidInputError
from hyperhive.wire.operator.budgets import Budget

HIVE = Budget(
    agent="*",
    tokens_per_day=2_000_000,
    usd_per_day=5.0,
    granted_tokens=0,
    granted_usd=2.5,
    day_tokens=1_234_567,
    day_usd=3.456,
    day_unpriced=True,
    problem="prices.toml: line 3: \x1b[2J",
)
ALICE = HIVE.model_copy(
    update={"agent": "alice", "tokens_per_day": None, "granted_usd": 0.0, "day_unpriced": False, "problem": ""}
)


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        fake.answers |= {
            "GET /api/budget": answer_with([HIVE, ALICE]),
            "PUT /api/budget": answer_with(HIVE),
            "POST /api/budget/grant": answer_with(HIVE),
            "POST /api/agents/alice/grant": answer_with(ALICE),
        }
        yield fake


async def test_all_budgets_are_shown_with_what_is_granted_and_what_is_not_known(hive: FakeHive) -> None:
    done = await call(hive.data, "budget")
    head, first, second, problem = done.stdout.decode().splitlines()
    assert head.split() == ["BUDGET", "TOKENS", "OF", "SPENT", "OF", "GRANTED"]
    assert first.split() == ["hive", "1,234,567", "2,000,000", "$3.46", "and", "unknown", "$7.50", "$2.50"]
    assert second.split() == ["alice", "1,234,567", "-", "$3.46", "$5.00"]
    assert problem == "prices.toml: line 3: \\x1b[2J"
    assert json.loads((await call(hive.data, "budget", "--json")).stdout)[1]["agent"] == "alice"
    assert asked(hive) == ["GET /api/budget"] * 2


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        (["--tokens", "3_000_000"], {"tokens_per_day": 3_000_000, "usd_per_day": 5.0}),
        (["--tokens", "none"], {"tokens_per_day": None, "usd_per_day": 5.0}),
        (["--usd", "0.5"], {"tokens_per_day": 2_000_000, "usd_per_day": 0.5}),
        (["--usd", "none", "--tokens", "0"], {"tokens_per_day": 0, "usd_per_day": None}),
    ],
)
async def test_the_hives_budget_is_set_and_what_is_not_named_stays(
    hive: FakeHive, args: list[str], sent: dict[str, float | None]
) -> None:
    done = await call(hive.data, "budget", *args)
    assert done.status == 0, done.error_text
    assert asked(hive) == ["GET /api/budget", "PUT /api/budget", "GET /api/budget"]
    assert hive.received[1].body == sent


@pytest.mark.parametrize("args", [["--tokens", "many"], ["--tokens", "-1"], ["--usd", "much"], ["--tokens", ""]])
async def test_what_is_no_amount_is_refused_before_anything_is_sent(hive: FakeHive, args: list[str]) -> None:
    done = await call(hive.data, "budget", *args)
    assert done.status == 1
    assert "hint: " in done.error_text
    assert asked(hive) == []


@pytest.mark.parametrize(
    ("args", "line", "sent", "said"),
    [
        (
            [],
            "POST /api/budget/grant",
            {},
            "granted to the hive; within 24 hours it may now take 2,000,000 tokens and $7.50",
        ),
        (["alice"], "POST /api/agents/alice/grant", {}, "granted to alice; within 24 hours it may now take $5.00"),
        (
            ["alice", "--tokens", "9", "--usd", "1.5"],
            "POST /api/agents/alice/grant",
            {"tokens": 9, "usd": 1.5},
            "granted",
        ),
    ],
)
async def test_a_grant_is_one_request(
    hive: FakeHive, args: list[str], line: str, sent: dict[str, float], said: str
) -> None:
    done = await call(hive.data, "grant", *args)
    assert said in done.stdout.decode()
    assert (asked(hive), hive.received[0].body) == ([line], sent)


async def test_a_grant_without_a_budget_is_refused_with_what_to_do(hive: FakeHive) -> None:
    hive.answers["POST /api/agents/alice/grant"] = refuse_with(ConflictError("alice has no budget", "set one"), 409)
    done = await call(hive.data, "grant", "alice")
    assert (done.status, "hint: set one" in done.error_text) == (1, True)
    assert (await call(hive.data, "grant", "..")).status == 1
    assert (await call(hive.data, "grant", "alice", "--tokens", "0")).status == 2


def test_a_grant_that_is_not_enough_says_so() -> None:
    row = {"tokens_per_day": 300, "granted_tokens": 150, "day_tokens": 16_486, "usd_per_day": None, "day_usd": 0.1}
    assert render_left(row) == "it has taken 16,486 of 450 tokens: still parked, grant more"
    assert render_left({**row, "granted_tokens": 20_000}) == "within 24 hours it may now take 20,300 tokens"


def test_amounts_are_read_as_people_write_them() -> None:
    assert [parse_tokens(text) for text in ("5", "1,000", "none")] == [5, 1000, None]
    assert [parse_usd(text) for text in ("5", ".5", "none")] == [5.0, 0.5, None]
    for text in ("٣", "1e3", " "):
        with pytest.raises(InvalidInputError):
            parse_tokens(text)


def test_rows_of_another_version_are_shown_as_unknown() -> None:
    shown = render_budgets([{"agent": "a\x1b[2J"}], Screen(NOW))
    assert "\x1b" not in shown
    assert "?" in shown
    assert render_limits({}) == "anything"
