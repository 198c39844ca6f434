"""A hive whose containers are systemd-nspawn's: an agent is spawned, answers, and outlives its daemon."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_process import HiveProcess, end_hive, find_processes
from hyperhive.core.uids import has_range
from image_cache import find_folder, make_images


@pytest.fixture(scope="module")
def hive() -> Iterator[HiveProcess]:
    make_images()
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        # The base that every test has.
        (data / "images").symlink_to(find_folder())
        hive = HiveProcess(data, flags=("--rehearsal", "--driver", "nspawn")).start()
        try:
            yield hive
        finally:
            end_hive(hive)


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
