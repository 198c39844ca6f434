"""A hive whose containers are systemd-nspawn's: an agent is spawned, answers, and outlives its daemon."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_process import HiveProcess, find_processes
from hyperhive.core.uids import has_range
from image_hive import run_image_hive


@pytest.fixture(scope="module")
def hive() -> Iterator[HiveProcess]:
    with run_image_hive("nspawn") as hive:
        yield hive


def test_an_agent_answers_and_goes_on_while_its_daemon_is_killed_and_comes_back(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "nestor"})
    hive.wait_state("nestor", "idle")
    hive.post("/api/messages", {"to": "nestor", "body": "say: here i am"})
    assert hive.wait_inbox("here i am")["sender"] == "nestor"
    before = find_processes(hive, "nestor")
    assert before
    hive.kill()
    assert find_processes(hive, "nestor") == before
    hive.start()
    hive.wait_state("nestor", "idle")
    assert find_processes(hive, "nestor") == before
    hive.post("/api/messages", {"to": "nestor", "body": "say: still here"})
    assert hive.wait_inbox("still here")["sender"] == "nestor"


def test_its_folders_belong_to_a_uid_with_a_range_of_its_own(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "melina"})
    hive.wait_state("melina", "idle")
    uids = {name: (hive.data / "agents" / name / "state").stat().st_uid for name in ("manager", "melina")}
    assert len(set(uids.values())) == 2
    for name, uid in uids.items():
        assert has_range(uid)
        assert (hive.data / "agents" / name / "claude").stat().st_uid == uid
        assert (hive.run / "agents" / name / "hive.sock").stat().st_uid == uid
    record = json.loads((hive.run / "containers/melina/container.json").read_text())
    assert Path(f"/proc/{record['init']['pid']}").stat().st_uid == uids["melina"]
