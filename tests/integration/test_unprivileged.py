"""The same hive run by a user without any privilege: containers, the story, and nothing of root's needed."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_process import HiveProcess, end_hive, wait_for
from unprivileged import Installation, make_installation


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        Path(folder).chmod(0o755)
        yield make_installation(Path(folder))


@pytest.fixture
def user_hive(installation: Installation) -> Iterator[HiveProcess]:
    environment = {"HOME": str(installation.folder), "PYTHONPATH": ""}
    hive = HiveProcess(installation.folder / "data", environment=environment, python=installation.command)
    hive.start()
    try:
        yield hive
    finally:
        end_hive(hive)


def test_a_swarm_works_for_a_user_without_privileges(installation: Installation, user_hive: HiveProcess) -> None:
    hive = user_hive
    hive.wait_state("manager", "idle")
    hive.post("/api/messages", {"to": "manager", "body": "we need a researcher"})
    [approval] = wait_for(lambda: hive.get("/api/approvals?status=pending"), "an approval", hive=hive)
    hive.post(f"/api/approvals/{approval['id']}/approve")
    hive.wait_inbox("hello, i am researcher")
    command = "id -u; cat /proc/self/uid_map; grep CapEff /proc/self/status; cut -d: -f1 /proc/net/dev | tail -n +3"
    hive.post("/api/messages", {"to": "researcher", "body": f"run: {command}"})
    said = hive.wait_inbox("CapEff")["body"]
    assert "1000" in said.splitlines()[1]
    assert "0000000000000000" in said
    assert "lo" in said
    assert "eth" not in said
    # Every process of the container is the user's own.
    init = json.loads((hive.run / "containers" / "researcher" / "container.json").read_text())["init"]["pid"]
    owner = subprocess.run(["stat", "-c", "%u", f"/proc/{init}"], capture_output=True, text=True, check=True)
    assert int(owner.stdout) == installation.uid


def test_the_daemon_of_a_user_may_be_killed_too(user_hive: HiveProcess) -> None:
    hive = user_hive
    hive.wait_state("manager", "idle")
    hive.kill()
    hive.start()
    hive.wait_state("manager", "idle")
    hive.post("/api/messages", {"to": "manager", "body": '%% tool send {"to": "operator", "body": "here again"}'})
    hive.wait_inbox("here again")
