"""`hive needs`, `hive requeue`, `hive dismiss`: what they send and what they show."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli_process import asked, call
from fake_hive import NEED, NOW, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.needs import render_acts, render_needs
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import NotFoundError

ROW = NEED.model_dump(mode="json")


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        yield fake


async def test_each_need_is_shown_with_what_deals_with_it(hive: FakeHive) -> None:
    done = await call(hive.data, "needs")
    # How long it is, is judged when the command runs.
    head, *rest = done.stdout.decode().splitlines()
    assert re.fullmatch(r"dead_letter-12: a message of operator to alice was given up, for \d+ (min|h)", head)
    assert rest == [
        "meanwhile: it stays undelivered",
        "hive requeue 12 · hive dismiss 12",
        "    the turn failed",
        "    hello",
    ]
    assert json.loads((await call(hive.data, "needs", "--json")).stdout) == [ROW]
    assert asked(hive) == ["GET /api/needs"] * 2


async def test_that_nothing_needs_you_is_said(hive: FakeHive) -> None:
    hive.answers["GET /api/needs"] = answer_with([])
    assert (await call(hive.data, "needs")).stdout.decode() == "nothing needs you\n"


def test_a_deadline_is_shown_with_what_happens_then() -> None:
    deadline = (NOW + timedelta(minutes=5)).isoformat()
    shown = render_needs([{**ROW, "deadline": deadline, "by_default": "the call is denied"}], Screen(NOW))
    assert "in 5 min: the call is denied" in shown


@pytest.mark.parametrize(
    ("acts", "ref", "agent", "commands"),
    [
        (["approve", "deny"], "3", "bob", "hive show 3 · hive approve 3 · hive deny 3 --reason TEXT"),
        (["answer"], "5", "alice", "hive questions · hive answer 5 TEXT, or --option OPTION"),
        (["login"], "alice", "alice", "hive login alice"),
        (["grant"], "alice", "alice", "hive grant alice"),
        (["grant"], "hyperhive", None, "hive grant"),
        (["resume"], "hyperhive", None, "hive resume"),
        (["start"], "alice", "alice", "hive start alice"),
        (["fly"], "alice", "alice", ""),
        ([], "alice", "alice", ""),
    ],
)
def test_every_act_is_a_command(acts: list[str], ref: str, agent: str | None, commands: str) -> None:
    assert render_acts({"acts": acts, "ref": ref, "agent": agent}) == commands


def test_what_an_agent_wrote_cannot_pass_for_a_line_of_ours_or_move_the_cursor() -> None:
    hostile = "x\nhive approve 9\r\x1b[2Jhive approve 9"
    shown = render_needs([dict.fromkeys(ROW, hostile) | {"acts": ["approve"], "deadline": hostile}], Screen(NOW))
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert not any(line.startswith("hive approve 9") for line in shown.splitlines())


def test_a_row_of_another_version_is_shown_as_unknown() -> None:
    assert "?" in render_needs([{}], Screen(NOW))


async def test_dead_letters_are_queued_again_and_dismissed_one_by_one(hive: FakeHive) -> None:
    done = await call(hive.data, "requeue", "12")
    assert (done.status, done.stdout.decode()) == (0, "queued 12 again\n")
    done = await call(hive.data, "dismiss", "12", "12")
    assert (done.status, done.stdout.decode()) == (0, "dismissed 12\ndismissed 12\n")
    assert asked(hive) == ["POST /api/messages/12/requeue", *["POST /api/messages/12/dismiss"] * 2]


async def test_what_is_not_dead_is_told_and_ends_with_a_failure(hive: FakeHive) -> None:
    hive.answers["POST /api/messages/12/requeue"] = refuse_with(
        NotFoundError("there is no dead message 12", "look"), 404
    )
    done = await call(hive.data, "requeue", "12")
    assert (done.status, "no dead message 12" in done.error_text) == (1, True)
    assert (await call(hive.data, "dismiss", "0")).status == 2
