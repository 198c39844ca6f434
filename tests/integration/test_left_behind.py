"""What claude's tools start and leave behind ends with claude, whatever sessions it made and however claude ended."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness_rig import Rig, eventually, open_rig
from hive_process import HiveProcess, find_processes, wait_for
from hyperhive.system.pids import list_children

CLAUDE = "--output-format stream-json"
ENGINE = "hyperhive.harness.engine"
# In a session of its own; forked twice over, so that it is nobody's child; with children that it hands on.
LEFT = "sleep 1000"
LEAVE = (
    "setsid sleep 1000 >/dev/null 2>&1 & (setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null 2>&1 &) ; "
    "nohup setsid -f sh -c 'trap true TERM HUP; while :; do sleep 1000; done' >/dev/null 2>&1"
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path) as opened:
        await opened.start_model()
        await opened.start_peer()
        yield opened


async def leave_behind(rig: Rig, then: str) -> int:
    """Lets a Bash tool leave processes behind, and goes on with `then`. Returns the message's number."""
    number = await rig.put(f'%% tool Bash {{"command": "{LEAVE}"}}\n{then}')
    await eventually(lambda: len(rig.processes(LEFT)) >= 5)
    return number


async def nothing_left(rig: Rig) -> None:
    await eventually(lambda: not rig.processes(LEFT) and not rig.processes(CLAUDE) and not rig.processes(ENGINE), 8)
    assert rig.harness is not None
    # Not as zombies either.
    await eventually(lambda: not list_children(rig.harness.pid) if rig.harness else None, 3)


@pytest.mark.parametrize("victim", [CLAUDE, ENGINE])
async def test_a_killed_claude_or_engine_leaves_nothing_in_the_middle_of_a_turn(rig: Rig, victim: str) -> None:
    await rig.start_harness()
    await leave_behind(rig, "%% sleep 60")
    os.kill(rig.processes(victim)[0], signal.SIGKILL)
    (ended, *_) = await rig.turns_ended(1)
    assert ended["outcome"] == "crash"
    assert "killed (SIGKILL): something else did that" in ended["reason"]
    # The message comes again and so does what it leaves behind, never beside what there was.
    await eventually(lambda: len(rig.events("turn.started")) >= 2)
    assert len(rig.processes(LEFT)) <= 5


@pytest.mark.parametrize("victim", [CLAUDE, ENGINE])
async def test_a_claude_or_engine_that_is_killed_between_turns_leaves_nothing(rig: Rig, victim: str) -> None:
    await rig.start_harness()
    await rig.acked(await leave_behind(rig, "%% say done"))
    assert len(rig.processes(LEFT)) >= 5
    os.kill(rig.processes(victim)[0], signal.SIGKILL)
    await nothing_left(rig)
    # The next turn is none the worse for it.
    await rig.acked(await rig.put("%% say on we go"))


async def test_a_claude_that_is_closed_when_it_is_cold_leaves_nothing(rig: Rig) -> None:
    await rig.start_harness(HIVE_WARM_S="1")
    await rig.acked(await leave_behind(rig, "%% say done"))
    await nothing_left(rig)


async def test_orphans_that_end_while_claude_is_open_do_not_stay_as_zombies(rig: Rig) -> None:
    await rig.start_harness()
    command = "for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.1' >/dev/null 2>&1 &); done"
    await rig.acked(await rig.put(f'%% tool Bash {{"command": "{command}"}}\n%% say done'))
    assert rig.harness is not None
    harness, (engine,) = rig.harness.pid, rig.processes(ENGINE)
    await eventually(lambda: list_children(harness) == [engine])


async def test_a_harness_that_is_stopped_in_time_leaves_nothing(rig: Rig) -> None:
    await rig.start_harness()
    await rig.acked(await leave_behind(rig, "%% say done"))
    assert await rig.stop_harness() == 0
    assert rig.processes(LEFT) == []


def test_in_a_container_nothing_outlives_a_killed_claude_and_the_container_lives_on(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    call = json.dumps({"command": LEAVE, "description": "leave"})
    hive.post("/api/messages", {"to": "alice", "body": f"%% tool Bash {call}\n%% say done"})
    wait_for(lambda: len(find_commands(hive, LEFT)) >= 5, "what is left behind", hive=hive)
    hive.wait_state("alice", "idle")
    first = find_processes(hive, "alice")[0]
    (claude,) = find_commands(hive, CLAUDE)
    os.kill(claude, signal.SIGKILL)
    gone = "claude, engine and all that they left to be gone"
    wait_for(lambda: not any(find_commands(hive, part) for part in (LEFT, CLAUDE, ENGINE)), gone, hive=hive)
    assert hive.wait_state("alice", "idle")["last_outcome"] == "ok"
    assert find_processes(hive, "alice")[0] == first


def find_commands(hive: HiveProcess, part: str) -> list[int]:
    """Alice's processes whose command line holds `part`."""
    found: list[int] = []
    for pid in find_processes(hive, "alice"):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found += [pid] if part in command and "bwrap" not in command else []
    return found
