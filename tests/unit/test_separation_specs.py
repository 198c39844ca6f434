"""Containers that root's helper does not start for whoever has taken over the daemon: others than the hive plans."""

import json
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from helper_rig import make_agent, make_checks, make_spec, open_helper_rig
from hyperhive.core.paths import Roots
from hyperhive.core.uids import DAEMON_UID, FIRST_RANGED_UID, FIRST_UID, LAST_UID, RANGE_WIDTH
from hyperhive.host.container_spec import HARNESS
from hyperhive.host.separation.verbs import render_spec
from separation_rig import BAD_NAMES, BAD_PACKAGES, NO_TEXTS, Attack, Json, open_attack, put


def without(key: str) -> Callable[[Json], Json]:
    return lambda arguments: {name: value for name, value in arguments.items() if name != key}


def add(key: str, value: Any) -> Callable[[Json], Json]:
    return lambda arguments: {**arguments, key: value}


SPECS: dict[str, Callable[[Json], Json]] = {
    **{f"the name {name!r:.20}": put(name, "name") for name in (*BAD_NAMES, *NO_TEXTS)},
    "the name of another": put("bob", "name"),
    "the manager's name": put("hm1nd", "name"),
    "no command": put([], "command"),
    "another command": put(["/bin/sh", "-c", "id"], "command"),
    "a longer command": put([*HARNESS, "--help"], "command"),
    "a shorter command": put(list(HARNESS[:-1]), "command"),
    "the command in one": put(" ".join(HARNESS), "command"),
    "a command with a zero byte": put([*HARNESS[:-1], "hyperhive\0.harness.main"], "command"),
    "a command of numbers": put([1, 2], "command"),
    **{f"the uid {uid}": put(uid, "uid") for uid in (0, 1, 1000, 65534, DAEMON_UID, FIRST_UID, None, True, "0", 1.0)},
    **{
        f"the uid {uid}": put(uid, "uid")
        for uid in (
            FIRST_RANGED_UID + 1,
            FIRST_RANGED_UID - 1,
            FIRST_RANGED_UID + RANGE_WIDTH // 2,
            LAST_UID,
            2**31,
            2**32,
            2**63,
            2**64,
            10**30,
            -1,
            1e300,
            -FIRST_RANGED_UID,
        )
    },
    **{
        f"the variable {name!r}": add("environment", {name: "x"}) for name in ("", "A=B", "1A", "A B", "A\0", "Ä", "-i")
    },
    "a variable with a zero byte": put("a\0LD_PRELOAD=/x", "environment", "GREETING"),
    "a variable that is a number": put(1, "environment", "GREETING"),
    "a variable that is none": put(None, "environment", "GREETING"),
    "a list for variables": put(["A=B"], "environment"),
    **{
        f"the working folder {place!r}": put(place, "working_folder")
        for place in ("", "state", "../state", "/state/../etc", "/st\0ate", 7, None)
    },
    "a working folder that is too long": put("/" + "x" * 5000, "working_folder"),
    **{f"the package {name!r:.12}": put([name], "packages") for name in (*BAD_PACKAGES, 7, None)},
    "packages in a text": put("sl", "packages"),
    "packages without end": put(["sl"] * 10_001, "packages"),
    **{
        f"{key} of {value!r:.20}": put(value, "limits", key)
        for key in ("memory_bytes", "cpus", "tasks")
        for value in (0, -1, "1", True, [1], 10**30)
    },
    "memory in fractions": put(1.5, "limits", "memory_bytes"),
    "tasks of 64 bits": put(2**63, "limits", "tasks"),
    "limits that are missing": put({}, "limits"),
    "no limits at all": put(None, "limits"),
    "a limit more": lambda spec: {**spec, "limits": {**spec["limits"], "swap": 1}},
    "a network of another kind": put("yes", "host_network"),
    "a network by number": put(1, "host_network"),
    "a field more": add("privileged", True),
    "a field more in a mount": put({"source": "/", "target": "/", "writable": True, "propagation": "x"}, "mounts", 0),
    **{
        f"without {key}": without(key)
        for key in ("name", "command", "environment", "mounts", "uid", "working_folder", "packages", "limits")
    },
}


@pytest.mark.parametrize("verb", ["create", "start"])
@pytest.mark.parametrize("what", SPECS)
async def test_a_container_that_is_not_as_the_hive_makes_them_is_refused(what: str, verb: str, attack: Attack) -> None:
    await attack.is_refused(verb, SPECS[what](attack.spec()))


def _first(spec: Json) -> Json:
    return spec["mounts"][0]


def _with_mounts(spec: Json, mounts: list[Json]) -> Json:
    return {**spec, "mounts": mounts}


MOUNTS: dict[str, Callable[[Json], Json]] = {
    "none": lambda spec: _with_mounts(spec, []),
    "one less": lambda spec: _with_mounts(spec, spec["mounts"][1:]),
    "the last one less": lambda spec: _with_mounts(spec, spec["mounts"][:-1]),
    "in another order": lambda spec: _with_mounts(spec, spec["mounts"][::-1]),
    "one twice": lambda spec: _with_mounts(spec, [*spec["mounts"], _first(spec)]),
    "one more": lambda spec: _with_mounts(
        spec, [*spec["mounts"], {"source": "/", "target": "/mnt", "writable": False}]
    ),
    "one before": lambda spec: _with_mounts(spec, [{"source": "/", "target": "/m", "writable": True}, *spec["mounts"]]),
    "a hundred more": lambda spec: _with_mounts(spec, [_first(spec)] * 101),
    "a second config": lambda spec: _with_mounts(spec, [*spec["mounts"], spec["mounts"][3]]),
    **{
        f"number {number} from {source!r}": put(source, "mounts", number, "source")
        for number in range(4)
        for source in ("/", "/etc", "", "state", "..", "/proc/self/root", "\0", 7, None)
    },
    **{
        f"number {number} at {target!r}": put(target, "mounts", number, "target")
        for number in range(4)
        for target in ("/", "/etc", "/usr", "state", "", "/state/..", "/state\0", None)
    },
    **{
        f"number {number} with {writable!r} for writable": put(writable, "mounts", number, "writable")
        for number, writable in ((0, False), (1, False), (2, True), (3, True), (0, 1), (0, "true"), (0, None))
    },
    **{
        f"number {number} without {key}": lambda spec, number=number, key=key: _with_mounts(
            spec, [without(key)(one) if place == number else one for place, one in enumerate(spec["mounts"])]
        )
        for number, key in ((0, "source"), (1, "target"), (2, "writable"))
    },
    **{
        f"its folder with {end}": lambda spec, end=end: put(spec["mounts"][0]["source"] + end, "mounts", 0, "source")(
            spec
        )
        for end in ("/..", "/../../bob/state", "/../state", "x")
    },
    **{
        f"its config with {end}": lambda spec, end=end: put(spec["mounts"][3]["source"] + end, "mounts", 3, "source")(
            spec
        )
        for end in ("/..", "/../..", "/x", "0", "/../" + "A" * 40, "/../" + "b" * 40)
    },
}


@pytest.mark.parametrize("what", MOUNTS)
async def test_mounts_are_what_the_hive_plans_and_nothing_else(what: str, attack: Attack) -> None:
    spec = attack.spec()
    changed = MOUNTS[what](spec)
    assert json.dumps(changed) != json.dumps(spec)
    await attack.is_refused("start", changed)


async def test_nobody_gets_what_is_anothers(attack: Attack) -> None:
    alice, bob, manager = (attack.spec(name) for name in ("alice", "bob", "manager"))
    for other in (bob, manager):
        await attack.is_refused("start", {**alice, "mounts": other["mounts"]})
        await attack.is_refused("start", {**other, "mounts": alice["mounts"]})
        for number in range(4):
            await attack.is_refused("start", put(other["mounts"][number]["source"], "mounts", number, "source")(alice))
    await attack.is_refused("start", {**alice, "mounts": manager["mounts"][:4]})
    await attack.is_refused("start", {**alice, "mounts": [*alice["mounts"], *manager["mounts"][4:]]})
    await attack.is_done("start", alice)


async def test_what_the_settings_name_is_mounted_from_there_alone(tmp_path: Path) -> None:
    settings: Json = {"claude": "/opt/claude", "ca_file": Path("/etc/ca.pem")}
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path, **settings)
        right = render_spec(make_spec(attack.roots, "alice", settings))
        for other in ({"claude": "/etc/shadow"}, {"ca_file": Path("/etc/shadow")}, {"claude": "/usr/bin/claude"}):
            await attack.is_refused("start", render_spec(make_spec(attack.roots, "alice", {**settings, **other})))
        await attack.is_refused("start", put("/usr", "mounts", 4, "target")(right))
        await attack.is_refused("start", put(True, "mounts", 4, "writable")(right))
        await attack.is_refused("start", render_spec(make_spec(attack.roots, "alice")))
        await attack.is_done("start", right)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("up", range(3))
@pytest.mark.parametrize("leads_to", ["/etc", "the same", "nowhere"])
async def test_no_link_leads_to_what_is_mounted(number: int, up: int, leads_to: str, attack: Attack) -> None:
    spec = attack.spec()
    place = Path(spec["mounts"][number]["source"])
    for _ in range(up):
        place = place.parent
    if place in (attack.roots.data, attack.roots.run):
        place = Path(spec["mounts"][number]["source"])
    moved = place.with_name("moved")
    place.rename(moved)
    place.symlink_to({"/etc": Path("/etc"), "the same": moved, "nowhere": moved / "gone"}[leads_to])
    reason = await attack.is_refused("start", spec)
    assert "is reached by a link" in reason or "cannot be found" in reason
    place.unlink()
    moved.rename(place)
    await attack.is_done("start", spec)


async def test_what_is_mounted_is_there_and_no_pipe(attack: Attack) -> None:
    spec = attack.spec()
    place = attack.roots.state_folder("alice")
    place.rmdir()
    assert "cannot be found" in await attack.is_refused("start", spec)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        assert "is neither a folder nor a file" in await attack.is_refused("start", spec)
    place.unlink()
    place.symlink_to(place)
    assert "cannot be found" in await attack.is_refused("start", spec)


async def test_the_hives_own_folder_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path)
        await attack.is_done("start", attack.spec())


async def test_a_run_folder_in_the_data_is_no_way_around(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        attack = await open_attack(stack, tmp_path)
        roots = Roots(data=attack.roots.data, run=attack.roots.data / "run")
        make_agent(roots, "alice")
        other = await stack.enter_async_context(open_helper_rig(roots.data, attack.driver, checks=make_checks(roots)))
        peer = await other.open_peer()
        stack.callback(peer.writer.close)
        inner = Attack(roots, attack.driver, other, peer)
        roots.run.rename(tmp_path / "elsewhere")
        roots.run.symlink_to(tmp_path / "elsewhere")
        assert "is reached by a link" in await inner.is_refused("start", inner.spec())
