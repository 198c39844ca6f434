"""Limits of containers on a real hive: what a config asks for is what the kernel keeps, and their end is told."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from attack_rig import Arena
from hive_process import wait_for
from hyperhive.system.cgroups import Group, Groups
from hyperhive.system.pids import list_children
from link_lines import Link
from proposer import LinkError

MIB = 1024 * 1024
LATENCY_LIMIT_S = 3
# It keeps what may be the last line, and that one never ends.
HOG = ["tail", "/dev/zero"]


def find_group(arena: Arena, name: str) -> Group:
    group = open_groups(arena).find(name)
    assert group is not None
    return group


def open_groups(arena: Arena) -> Groups:
    return Groups.observe(arena.hive.run / "containers", as_root=os.geteuid() == 0)


def read_setting(group: Group, *names: str) -> str:
    """What the first of these files of a group says, in whichever hierarchy it is."""
    for place in group.places:
        for file in (place.folder / name for name in names):
            if file.exists():
                return file.read_text().strip()
    raise AssertionError(names)


def list_crashes(arena: Arena, name: str) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(arena.hive.data / "hive.sqlite")) as database:
        rows = database.execute(
            "select body from events where agent = ? and name = 'agent.crashed'", (name,)
        ).fetchall()
    return [json.loads(body) for (body,) in rows]


def test_what_a_config_limits_the_kernel_keeps_and_the_row_tells_of_its_end(arena: Arena) -> None:
    name = arena.spawn()
    unlimited = open_groups(arena).unlimited
    assert arena.hive.get("/api/hive")["unlimited"] == unlimited
    toml = 'limits = { memory = "64M", cpu = 0.5, tasks = 300 }\n'
    if unlimited:
        # Said when it is submitted, with the reason.
        commit, bundle = arena.bundle_files(name, {"agent.toml": toml.encode(), "prompt.md": b""})
        with pytest.raises(LinkError, match="it cannot be set here"):
            arena.send_bundle(name, commit, bundle)
        return
    before = find_group(arena, name)
    assert read_setting(before, "pids.max") == "4096"
    arena.deploy(name, {"agent.toml": toml})
    arena.hive.wait_state(name, "idle")
    group = find_group(arena, name)
    assert int(read_setting(group, "memory.limit_in_bytes", "memory.max")) == 64 * MIB
    assert read_setting(group, "pids.max") == "300"
    usage = group.observe()
    assert usage.memory_bytes is not None and 0 < usage.memory_bytes < 64 * MIB
    assert usage.tasks is not None and usage.tasks > 0 and usage.memory_kills == 0

    # A command of its own takes all memory, and the kernel takes its harness for the culprit.
    generation = arena.generation(name)
    container = json.loads((arena.hive.run / "containers" / name / "container.json").read_text())
    (harness,) = list_children(container["init"]["pid"])
    Path(f"/proc/{harness}/oom_score_adj").write_text("1000")
    with subprocess.Popen(group.wrap(HOG), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as hog:
        wait_for(lambda: arena.generation(name) > generation, "another start", hive=arena.hive)
        # What was in the group does not meet the next container.
        assert hog.wait(timeout=30) == -signal.SIGKILL
    arena.hive.wait_state(name, "idle")
    assert list_crashes(arena, name) == [{"reason": "the kernel killed it: out of memory", "cause": "out_of_memory"}]
    assert find_group(arena, name).observe().memory_kills == 0


@pytest.mark.parametrize(
    "script", ["bomb() { bomb | bomb & }; bomb; while :; do :; done", "while :; do tail /dev/zero; done"]
)
def test_messages_of_others_arrive_while_an_agent_burns(arena: Arena, script: str) -> None:
    name, sender, reader = arena.spawn(), arena.spawn(), arena.spawn()
    if open_groups(arena).unlimited:
        return
    arena.deploy(name, {"agent.toml": 'limits = { memory = "256M", tasks = 300 }\n'})
    arena.hive.wait_state(name, "idle")
    generations = {agent: arena.stop(agent) for agent in (sender, reader)}
    group = find_group(arena, name)
    before = group.observe().tasks or 0
    with subprocess.Popen(group.wrap(["bash", "-c", script]), stderr=subprocess.DEVNULL) as burning:
        wait_for(lambda: (group.observe().tasks or 0) > before, "it to burn", hive=arena.hive)
        with Link(arena.hive, sender) as sending, Link(arena.hive, reader) as reading:
            for agent, link in ((sender, sending), (reader, reading)):
                assert "result" in link.call("hello", protocol=1, generation=generations[agent], holding=[])
            for number in range(20):
                began_s = time.monotonic()
                sending.call("send", to=reader, body=str(number), idempotency_key=uuid.uuid4().hex)
                [message] = reading.call("recv", max=1, wait_s=10)["result"]["messages"]
                assert message["body"] == str(number)
                # Milliseconds as a rule: on a machine under load a moment.
                assert time.monotonic() - began_s < LATENCY_LIMIT_S
                reading.call("ack", ids=[message["id"]])
        group.kill()
        assert burning.wait(20) == -signal.SIGKILL


def test_an_agent_that_is_destroyed_leaves_no_control_group(arena: Arena) -> None:
    name = arena.spawn()
    if not open_groups(arena).unlimited:
        assert name in open_groups(arena).list_names()
    with arena.hive.client() as client:
        client.delete(f"/api/agents/{name}").raise_for_status()
    wait_for(lambda: name not in open_groups(arena).list_names(), "its control group to be gone", hive=arena.hive)
