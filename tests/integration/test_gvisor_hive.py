"""A hive whose containers have gVisor's kernel: an agent is spawned, answers, and outlives its daemon."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_process import HiveProcess, end_hive
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
        hive = HiveProcess(data, flags=("--rehearsal", "--driver", "gvisor")).start()
        try:
            yield hive
        finally:
            end_hive(hive)


def test_an_agent_answers_and_goes_on_while_its_daemon_is_killed_and_comes_back(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "nestor"})
    hive.wait_state("nestor", "idle")
    hive.post("/api/messages", {"to": "nestor", "body": "say: here i am"})
    assert hive.wait_inbox("here i am")["sender"] == "nestor"
    before = (hive.run / "containers/nestor/container.json").read_bytes()
    hive.kill()
    hive.start()
    hive.wait_state("nestor", "idle")
    hive.post("/api/messages", {"to": "nestor", "body": "say: still here"})
    assert hive.wait_inbox("still here")["sender"] == "nestor"
    # It was not started again.
    assert (hive.run / "containers/nestor/container.json").read_bytes() == before
