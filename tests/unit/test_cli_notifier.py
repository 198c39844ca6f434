"""`hive notify`: what is set up, what is held back, what is wrong; and a test."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli_process import asked, call
from fake_hive import NOW, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.doctor import check_notifiers, judge_notifiers
from hyperhive.cli.doctor_checks import CheckStatus
from hyperhive.cli.notifier import render_notifier
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import NotFoundError
from hyperhive.core.notifying import Hold
from hyperhive.core.paths import Roots
from hyperhive.wire.operator.needs import HeldNeed, NotifierState, NotifyChannel, NotifyTest

PHONE = NotifyChannel(
    name="ntfys",
    sending=False,
    last_sent_at=NOW - timedelta(hours=3),
    ok_at=NOW - timedelta(minutes=5),
    fault="",
    fault_at=None,
    failures=0,
    retry_at=None,
    held=[],
)
MAIL = PHONE.model_copy(
    update={
        "name": "mailto",
        "last_sent_at": None,
        "ok_at": None,
        "fault": "the login was refused",
        "fault_at": NOW - timedelta(minutes=2),
        "failures": 3,
        "retry_at": NOW + timedelta(minutes=2),
        "held": [
            HeldNeed(key="approval-1", title="bob \x1b[2J waits", by=Hold.BACKOFF, until=NOW + timedelta(minutes=2))
        ],
    }
)
STATE = NotifierState(
    file="/data/notify.urls",
    problem="",
    dwell_s=60,
    cooldown_s=300,
    remind_s=14400,
    quiet="22:00-08:00",
    quiet_deadlines=False,
    quiet_until=NOW + timedelta(hours=2),
    time_zone="Europe/Berlin",
    channels=[PHONE, MAIL],
)
EMPTY = STATE.model_copy(update={"channels": [], "quiet": "", "quiet_until": None, "remind_s": 0})
PLAIN = Screen(now=NOW)


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path) as hive:
        hive.answers |= {"GET /api/notifier": answer_with(STATE)}
        yield hive


async def test_the_notifiers_are_shown_with_what_they_hold_back_and_what_is_wrong(hive: FakeHive) -> None:
    done = await call(hive.data, "notify")
    assert done.status == 0, done.stderr
    text = done.stdout.decode()
    assert "told after 60 s, 300 s apart, once more after 14400 s, quiet 22:00-08:00 (Europe/Berlin)" in text
    assert "the login was refused" in text
    assert "last try failed" in text
    assert "\x1b" not in text


async def test_json_is_what_the_hive_says(hive: FakeHive) -> None:
    done = await call(hive.data, "notify", "--json")
    assert json.loads(done.stdout) == STATE.model_dump(mode="json")


async def test_a_test_tells_what_became_of_each_message(hive: FakeHive) -> None:
    results = [NotifyTest(channel="ntfys", fault=""), NotifyTest(channel="mailto", fault="the login was refused")]
    hive.answers["POST /api/notifier/test"] = answer_with(results)
    done = await call(hive.data, "notify", "test")
    assert (done.status, done.stdout) == (1, b"ntfys: arrived\nmailto: the login was refused\n")
    hive.answers["POST /api/notifier/test"] = answer_with(results[:1])
    done = await call(hive.data, "notify", "test", "--channel", "ntfys")
    assert (done.status, done.stdout) == (0, b"ntfys: arrived\n")
    assert asked(hive) == ["POST /api/notifier/test"] * 2
    hive.answers["POST /api/notifier/test"] = refuse_with(NotFoundError("there is no notifier", "write URLs"), 404)
    assert (await call(hive.data, "notify", "test")).status == 1


async def test_a_channel_without_a_test_and_another_act_are_wrong_use(hive: FakeHive) -> None:
    for arguments in (["--channel", "ntfys"], ["send"]):
        assert (await call(hive.data, "notify", *arguments)).status == 2
    assert asked(hive) == []


def test_without_channels_it_is_said_how_to_get_some() -> None:
    text = render_notifier(EMPTY.model_dump(mode="json"), PLAIN)
    assert "no notifiers: write apprise URLs into the file" in text
    assert "no quiet hours" in text
    assert "no reminders" in text
    broken = EMPTY.model_copy(update={"problem": "line 3 is no URL"})
    assert "line 3 is no URL" in render_notifier(broken.model_dump(mode="json"), PLAIN)


# -- doctor ------------------------------------------------------------------------------------------------


def test_the_doctor_names_what_does_not_arrive() -> None:
    check = judge_notifiers(STATE.model_dump(mode="json"))
    assert (check.status, check.detail) == (CheckStatus.WARN, "mailto: the login was refused")
    assert check.mend == "hive notify test"
    fine = judge_notifiers(STATE.model_copy(update={"channels": [PHONE]}).model_dump(mode="json"))
    assert (fine.status, fine.detail) == (CheckStatus.OK, "ntfys")
    broken = judge_notifiers(EMPTY.model_copy(update={"problem": "it is no text"}).model_dump(mode="json"))
    assert broken.status is CheckStatus.WARN


def test_the_doctor_looks_at_the_file_before_it_asks(tmp_path: Path) -> None:
    roots = Roots(tmp_path, tmp_path / "run")
    assert check_notifiers(roots, {}).status is CheckStatus.OK
    file = tmp_path / "notify.urls"
    file.touch(mode=0o644)
    check = check_notifiers(roots, {})
    assert (check.status, check.mend) == (CheckStatus.MISSING, f"chmod 600 {file}")
    file.chmod(0o600)
    assert check_notifiers(roots, os.environ | {"HIVE_NOTIFY": str(file)}).status is CheckStatus.WARN
