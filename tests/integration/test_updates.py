"""Agents that run what is not deployed or installed any more, on a real hive: shown, and built anew after a turn."""

import json
from pathlib import Path
from typing import Any

from attack_rig import Arena
from cli_process import call
from hive_process import KEEP_ROOT, REHEARSAL, HiveProcess, end_hive, wait_for

ROOT = Path(__file__).parents[2]
OLD_HIVE = (str(ROOT / "tests/old_hive.py"),)
HIVE = ("-m", "hyperhive.host.main")
IMPOSSIBLE = {"agent.toml": 'packages = ["no-such-package"]\n'}


def is_fresh(hive: HiveProcess, name: str) -> bool:
    row = hive.agent(name)
    return row["state"] == "idle" and row["needs_update"] == "" and not row["updating"]


def order(hive: HiveProcess, agent: str, *steps: str) -> int:
    return hive.post("/api/messages", {"to": agent, "body": "\n".join(f"%% {step}" for step in steps)})["id"]


async def test_a_harness_of_an_older_hive_is_stale_until_it_is_built_anew(tmp_path: Path) -> None:
    hive = HiveProcess(tmp_path / "data", KEEP_ROOT, program=OLD_HIVE, fresh=True).start()
    try:
        hive.wait_state("manager", "idle")
        assert hive.stop() == 0
        hive.program, hive.flags = HIVE, REHEARSAL
        hive.start()
        row = wait_for(lambda: (row := hive.agent("manager"))["needs_update"] and row, "it to be stale", 60, hive)
        assert row["needs_update"].startswith("its harness is of hyperhive 0.0.9, the hive of ")
        assert "needs update: its harness is of hyperhive 0.0.9" in (await call(hive.data, "ps")).stdout.decode()
        assert 'hive_agent_needs_update{agent="manager"} 1.0' in read_metrics(hive)
        done = await call(hive.data, "rebuild", "--stale")
        assert done.stdout.decode() == "will rebuild manager after its turn: `hive ps` shows how it goes\n"
        wait_for(lambda: is_fresh(hive, "manager"), "the manager to be up to date", 60, hive)
        assert 'hive_agent_needs_update{agent="manager"} 0.0' in read_metrics(hive)
        assert (await call(hive.data, "rebuild", "--stale")).stdout == b"nothing is stale\n"
        assert hive.post("/api/update-all") == {"agents": []}
    finally:
        end_hive(hive)


def read_metrics(hive: HiveProcess) -> str:
    with hive.client() as client:
        return client.get("/metrics").raise_for_status().text


def test_all_stale_agents_are_built_anew_each_after_its_turn_and_one_that_cannot_be_stops_no_other(
    arena: Arena,
) -> None:
    hive = arena.hive
    busy, idle = arena.spawn(), arena.spawn()
    run_older(arena, busy, idle)
    broken, well = arena.spawn(), arena.spawn()
    number, _ = arena.manager.propose(broken, IMPOSSIBLE)
    arena.approve(number)
    assert arena.wait_ended(number)["status"] == "failed"
    stale = {busy, idle, broken}
    wait_for(lambda: all(hive.agent(name)["needs_update"] for name in stale), "them to be stale", 60, hive)
    assert hive.agent(well)["needs_update"] == ""
    before = {name: arena.generation(name) for name in (*stale, well)}

    bash = json.dumps({"command": "touch /state/begun; while [ ! -e /state/go ]; do sleep 0.1; done"})
    message = order(hive, busy, f"tool Bash {bash}", "say done")
    begun = arena.state(busy) / "begun"
    wait_for(begun.exists, "the turn to be under way", 120, hive)
    assert set(hive.post("/api/update-all")["agents"]) == stale
    wait_for(lambda: is_fresh(hive, idle), "the idle one to be up to date", 120, hive)
    row = wait_for(lambda: not (row := hive.agent(broken))["updating"] and row, "the broken one to end", 120, hive)
    # Tried again, and failed again: what ran runs on.
    assert "no-such-package" in row["config_error"]
    assert row["config_error"] != f"approval {number} failed: "
    assert [approval["status"] for approval in arena.approvals_of(broken)] == ["failed", "failed"]
    row = hive.agent(busy)
    assert (row["state"], row["updating"]) == ("thinking", True)
    assert arena.generation(busy) == before[busy]

    # What comes meanwhile waits for the container that is to come.
    later = order(hive, busy, "say later")
    (arena.state(busy) / "go").touch()
    wait_for(lambda: is_fresh(hive, busy), "the busy one to be up to date", 120, hive)
    wait_for(lambda: read(hive, later)["state"] == "acked", "the later message to be handled", 120, hive)
    assert (read(hive, message)["state"], read(hive, message)["deliveries"]) == ("acked", 1)
    assert arena.generation(busy) == before[busy] + 1
    assert arena.generation(well) == before[well]


def run_older(arena: Arena, *names: str) -> None:
    """Starts these with a harness of an older version, and the daemon anew after that."""
    hive = arena.hive
    arena.manager.close()
    assert hive.stop() == 0
    hive.program, hive.fresh, hive.flags = OLD_HIVE, True, KEEP_ROOT
    hive.start()
    for name in names:
        generation = arena.generation(name)
        hive.post(f"/api/agents/{name}/restart")
        wait_for(lambda: arena.generation(name) > generation, "it to be started", 60, hive)  # noqa: B023
        hive.wait_state(name, "idle")
    assert hive.stop() == 0
    hive.program, hive.fresh, hive.flags = HIVE, False, REHEARSAL
    hive.start()
    arena.manager.connect()


def read(hive: HiveProcess, message: int) -> dict[str, Any]:
    return hive.get(f"/api/messages/{message}")


def test_an_update_that_waits_for_a_turn_outlives_the_daemon_and_ends_with_a_stop(arena: Arena) -> None:
    hive = arena.hive
    waits, stopped = arena.spawn(), arena.spawn()
    bash = json.dumps({"command": "touch /state/begun; while [ ! -e /state/go ]; do sleep 0.1; done"})
    for name in (waits, stopped):
        order(hive, name, f"tool Bash {bash}")
        wait_for((arena.state(name) / "begun").exists, "the turn to be under way", 120, hive)
        hive.post(f"/api/agents/{name}/rebuild")
        assert hive.agent(name)["updating"]
    hive.post(f"/api/agents/{stopped}/stop")
    hive.wait_state(stopped, "stopped")
    assert not hive.agent(stopped)["updating"]
    arena.manager.close()
    hive.kill()
    hive.start()
    arena.manager.connect()
    generation = arena.generation(waits)
    wait_for(lambda: hive.agent(waits)["state"] == "thinking", "the turn to go on", 60, hive)
    assert hive.agent(waits)["updating"]
    (arena.state(waits) / "go").touch()
    wait_for(lambda: is_fresh(hive, waits), "it to be built anew", 120, hive)
    assert arena.generation(waits) == generation + 1
    with hive.client() as client:
        assert client.post("/api/agents/nobody/rebuild").status_code == 404
