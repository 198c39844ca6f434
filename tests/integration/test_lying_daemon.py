"""A daemon that is no more what it was asks the real helper for what is not its own: nothing of it is done."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from helper_rig import COMMIT, make_agent, make_spec, read_notes
from hyperhive.core.errors import HiveError
from hyperhive.core.paths import Roots
from hyperhive.core.uids import FIRST_RANGED_UID, RANGE_WIDTH
from hyperhive.host.drivers.detached import ENVIRONMENT
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, DriverError, Mount
from hyperhive.host.separation.client import Helper, HelperDriver
from hyperhive.host.separation.plan import Plan
from hyperhive.host.separation.verbs import Verb, render_spec

UIDS = {"alice": FIRST_RANGED_UID, "bert": FIRST_RANGED_UID + RANGE_WIDTH}

END_S = 20


@dataclass
class Liar:
    """`driver` asks as the daemon does, `helper` for whatever it is given."""

    roots: Roots
    helper: Helper
    driver: HelperDriver

    def spec(self, agent: str = "alice") -> ContainerSpec:
        """What an honest daemon asks for."""
        return replace(make_spec(self.roots, agent), uid=UIDS[agent])

    def notes(self, outcome: str) -> list[tuple[str, str]]:
        rows = read_notes(self.roots.helper_folder / "audit.jsonl")
        return [(row["verb"], row["name"]) for row in rows if row["outcome"] == outcome]


@pytest.fixture
async def liar(tmp_path: Path) -> AsyncIterator[Liar]:
    """A helper that was started as the daemon starts it, and agents whom it could start."""
    tmp_path.chmod(0o755)
    roots = Roots(tmp_path / "data", tmp_path / "data/run")
    for folder in (roots.data, roots.run, roots.containers_folder, roots.images_folder, roots.helper_folder):
        folder.mkdir(mode=0o711)
    for agent, uid in UIDS.items():
        make_agent(roots, agent)
        for folder in (roots.state_folder(agent), roots.claude_folder(agent), roots.agent_sockets_folder(agent)):
            os.chown(folder, uid, uid)
    program, verbs, peers = start_helper(
        Plan(str(roots.data), str(roots.run), str(roots.images_folder), "bubblewrap", "", "", "", "")
    )
    with peers:
        helper = Helper(verbs)
        driver = HelperDriver("bubblewrap", helper, None)
        await driver.prepare()
        yield Liar(roots, helper, driver)
        for agent in UIDS:
            await driver.stop(agent, 5)
            await driver.destroy(agent)
        await helper.close()
    assert await asyncio.to_thread(program.wait, END_S) == 0


def start_helper(plan: Plan) -> tuple["subprocess.Popen[bytes]", socket.socket, socket.socket]:
    """As the daemon starts it: the program, and our ends of what it is spoken to by."""
    verbs, its_verbs = socket.socketpair()
    peers, its_peers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its_verbs, its_peers:
        argv = [sys.executable, "-I", "-m", "hyperhive.host.separation.helper", plan.render(), str(its_peers.fileno())]
        handles = [its_peers.fileno()]
        program = subprocess.Popen(argv, stdin=its_verbs.fileno(), pass_fds=handles, env=ENVIRONMENT, cwd="/")
    return program, verbs, peers


async def test_what_an_honest_daemon_asks_for_is_done(liar: Liar) -> None:
    await liar.driver.create(liar.spec())
    await liar.driver.start(liar.spec())
    assert (await liar.driver.observe("alice")).state is ContainerState.RUNNING
    assert {("create", "alice"), ("start", "alice")} <= set(liar.notes("ok"))
    assert liar.notes("refused") == []


Lie = Callable[[Liar, ContainerSpec], ContainerSpec]


def change(**fields: Any) -> Lie:
    return lambda _, spec: replace(spec, **fields)


def add(mount: Mount) -> Lie:
    return lambda _, spec: replace(spec, mounts=(*spec.mounts, mount))


def swap_state(liar: Liar, spec: ContainerSpec) -> ContainerSpec:
    """The state of another agent in place of its own."""
    return replace(spec, mounts=(replace(spec.mounts[0], source=liar.roots.state_folder("bert")), *spec.mounts[1:]))


def link_state(liar: Liar, spec: ContainerSpec) -> ContainerSpec:
    """What it may have, but something else is in its place."""
    state = liar.roots.state_folder("alice")
    state.rmdir()
    state.symlink_to("/etc")
    return spec


def link_agent(liar: Liar, spec: ContainerSpec) -> ContainerSpec:
    folder = liar.roots.agent_folder("alice")
    shutil.rmtree(folder)
    folder.symlink_to(liar.roots.agent_folder("bert"))
    return spec


def link_config(liar: Liar, spec: ContainerSpec) -> ContainerSpec:
    config = liar.roots.versions_folder("alice") / COMMIT
    config.rmdir()
    config.symlink_to("/root")
    return spec


def climb(liar: Liar, spec: ContainerSpec) -> ContainerSpec:
    source = liar.roots.versions_folder("alice") / ".." / ".." / "helper"
    mounts = [replace(mount, source=source) if mount.target == Path("/config") else mount for mount in spec.mounts]
    return replace(spec, mounts=tuple(mounts))


@pytest.mark.parametrize("verb", [Verb.CREATE, Verb.START])
@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(add(Mount(Path("/etc"), Path("/mnt"))), id="etc"),
        pytest.param(add(Mount(Path("/"), Path("/mnt"), writable=True)), id="the machine"),
        pytest.param(swap_state, id="another's state"),
        pytest.param(link_state, id="a link for the state"),
        pytest.param(link_agent, id="a link on the way to it"),
        pytest.param(link_config, id="a link for the config"),
        pytest.param(climb, id="a config above"),
        pytest.param(change(command=("/bin/sh", "-c", "id >/state/id")), id="another command"),
        pytest.param(change(uid=0), id="root"),
        pytest.param(change(uid=1000), id="a user of the machine"),
        pytest.param(change(uid=None), id="whoever the helper is"),
        pytest.param(change(environment={"LD PRELOAD": "x"}), id="no variable"),
        pytest.param(change(working_folder=Path("../..")), id="somewhere else"),
        pytest.param(change(name="../alice"), id="a path for a name"),
        pytest.param(change(name="alice/../bert"), id="a name with slashes"),
        pytest.param(change(name="operator"), id="nobody's name"),
        pytest.param(change(name=""), id="no name"),
    ],
)
async def test_what_is_not_its_own_is_refused_and_noted(liar: Liar, lie: Lie, verb: Verb) -> None:
    before = find_containers(liar)
    spec = lie(liar, liar.spec())
    with pytest.raises(HiveError) as refused:
        await liar.helper.call(verb, render_spec(spec))
    assert refused.value.code == "refused", refused.value.message
    assert liar.notes("refused") == [(verb.value, spec.name)]
    assert find_containers(liar) == before == []
    assert not {verb.value} & {row[0] for row in liar.notes("ok")}


@pytest.mark.parametrize(
    "verb",
    [
        *(Verb.STOP, Verb.DESTROY, Verb.EXEC, Verb.OBSERVE, Verb.LOGS),
        *(Verb.EVALUATE, Verb.BUILD_SYSTEM, Verb.LIST_PACKAGES),
    ],
)
async def test_other_programs_of_the_machine_have_no_name_here(liar: Liar, verb: Verb) -> None:
    more: dict[Verb, dict[str, Any]] = {
        Verb.STOP: {"timeout_s": 1.0},
        Verb.EXEC: {"command": ["id"], "timeout_s": 1.0},
        Verb.LOGS: {"offset": 0, "limit_bytes": 10},
        Verb.EVALUATE: {"files": {}},
        Verb.BUILD_SYSTEM: {"files": {}},
        Verb.LIST_PACKAGES: {"files": {}},
    }
    for name in ("../../helper", "/etc", "a/b", "..", "-rf"):
        with pytest.raises(HiveError) as refused:
            await liar.helper.call(verb, {"name": name, **more.get(verb, {})})
        assert refused.value.code == "refused"
    assert len(liar.notes("refused")) == 5


async def test_what_runs_of_one_agent_cannot_be_had_with_the_uid_of_none(liar: Liar) -> None:
    await liar.driver.create(liar.spec())
    await liar.driver.start(liar.spec())
    with pytest.raises(DriverError):
        await liar.driver.start(replace(liar.spec(), uid=FIRST_RANGED_UID + 1))
    assert (await liar.driver.observe("alice")).state is ContainerState.RUNNING
    assert liar.notes("refused") == [("start", "alice")]


def find_containers(liar: Liar) -> list[str]:
    """Whose records there are."""
    return [path.name for path in liar.roots.containers_folder.iterdir() if (path / "container.json").exists()]
