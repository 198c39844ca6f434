"""An agent that opens all terminals there are: no control group counts them, and the machine has some thousand."""

import os
import sys
from collections.abc import Iterator

import pytest

from escape_rig import Yard, endure_while, open_yard, spawn
from hive_process import wait_for
from hyperhive.system.terminal_room import TERMINALS_LIMIT

# Only root can bound them, see docs/threats.md.
KINDS = ("bubblewrap", "nspawn", "gvisor") if os.geteuid() == 0 else ()

# Holds what it got until it is told to end.
HOLD = """
import os, resource, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
opened = []
try:
    while not Path("/state/over").exists():
        opened.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
except OSError as error:
    Path("/state/told").write_text(f"{len(opened)} {error.strerror}\\n")
while not Path("/state/over").exists():
    time.sleep(0.05)
"""
HELD_S = 60.0


@pytest.fixture(scope="module", params=KINDS)
def yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    with open_yard(str(request.param)) as yard:
        yield yard


def ask_for_shell(yard: Yard, name: str) -> tuple[int, str]:
    """How the operator's wish for a terminal in an agent's container ended, and what was said."""
    with yard.hive.client() as client:
        answer = client.post(f"/api/agents/{name}/terminals", json={"columns": 80, "rows": 24}, timeout=60)
        return answer.status_code, answer.text


def test_messages_while_an_agent_holds_all_terminals(yard: Yard) -> None:
    has_own_kernel = yard.driver.name == "gvisor"
    with spawn(yard) as mallory, spawn(yard) as other:
        state = yard.hive.data / "agents" / mallory / "state"
        with yard.attack(mallory, sys.executable, "-c", HOLD, each_s=HELD_S):
            try:
                wait_for((state / "told").exists, "all terminals to be open", hive=yard.hive)
                status, told = endure_while(yard, "all terminals", lambda: ask_for_shell(yard, other))
                assert status == 201, told
                opened, _, why = (state / "told").read_text().partition(" ")
                # A kernel of its own has its own: what it gives there takes nothing of this machine.
                assert has_own_kernel or (int(opened), why) == (TERMINALS_LIMIT, "No space left on device\n")
                # In its own container there is none left, and it is said so.
                status, told = ask_for_shell(yard, mallory)
                assert has_own_kernel or (status, "there is no terminal to be had" in told) == (503, True), told
            finally:
                (state / "over").touch()
        wait_for(lambda: ask_for_shell(yard, mallory)[0] == 201, "a terminal to be free again", hive=yard.hive)
