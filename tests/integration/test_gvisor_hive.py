"""A hive whose containers have gVisor's kernel: an agent is spawned, answers, and outlives its daemon."""

from collections.abc import Iterator

import pytest

from hive_process import HiveProcess
from image_hive import run_image_hive


@pytest.fixture(scope="module")
def hive() -> Iterator[HiveProcess]:
    with run_image_hive("gvisor") as hive:
        yield hive


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
