"""`hive devices`: browsers that are told what needs the operator are listed, muted, tried out and removed."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli_process import call
from fake_hive import NOW, FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.devices import render_devices
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import NotFoundError
from hyperhive.wire.operator.needs import Device

PHONE = Device(
    id=3,
    name="Chrome on \x1b[2JAndroid",
    service="push.example",
    added_at=NOW - timedelta(days=2),
    muted=False,
    sent_at=NOW - timedelta(minutes=5),
    error="",
)
LAPTOP = PHONE.model_copy(
    update={"id": 4, "name": "Firefox", "muted": True, "sent_at": None, "error": "the push service answered 503"}
)


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path) as hive:
        hive.answers |= {
            "GET /api/devices": answer_with([PHONE, LAPTOP]),
            "PUT /api/devices/3": answer_with(PHONE),
            "POST /api/devices/3/test": answer_with(None, 202),
            "DELETE /api/devices/3": answer_with(None, 204),
            "DELETE /api/devices/9": refuse_with(NotFoundError("there is no device 9", "list them"), 404),
        }
        yield hive


async def test_devices_are_listed_with_what_became_of_the_newest_push(hive: FakeHive) -> None:
    done = await call(hive.data, "devices")
    assert done.status == 0, done.stderr
    _, phone, laptop = done.stdout.decode().splitlines()
    assert phone.split()[0] == "3"
    assert phone.rstrip().endswith("on")
    assert "never" in laptop
    assert laptop.rstrip().endswith("muted: the push service answered 503")
    assert "\x1b" not in done.stdout.decode()
    shown = json.loads((await call(hive.data, "devices", "--json")).stdout)
    assert [row["id"] for row in shown] == [3, 4]


@pytest.mark.parametrize(
    ("option", "method", "path", "body"),
    [
        ("--mute", "PUT", "/api/devices/3", {"muted": True}),
        ("--unmute", "PUT", "/api/devices/3", {"muted": False}),
        ("--test", "POST", "/api/devices/3/test", {}),
        ("--remove", "DELETE", "/api/devices/3", None),
    ],
)
async def test_a_device_is_changed_by_its_number(
    hive: FakeHive, option: str, method: str, path: str, body: dict[str, bool] | None
) -> None:
    done = await call(hive.data, "devices", option, "3")
    assert done.status == 0, done.stderr
    [one] = hive.received
    assert (one.method, one.path, one.body) == (method, path, body)


async def test_one_change_at_a_time_and_a_device_that_is_not_there_is_told(hive: FakeHive) -> None:
    assert (await call(hive.data, "devices", "--mute", "3", "--remove", "3")).status == 2
    assert (await call(hive.data, "devices", "--mute", "0")).status == 2
    assert (await call(hive.data, "devices", "--remove", "9")).status == 1


def test_without_a_device_it_is_said_where_one_comes_from() -> None:
    assert "in the page" in render_devices([], Screen(now=NOW))
