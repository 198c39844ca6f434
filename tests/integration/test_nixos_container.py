"""The nixos driver with the command of nixpkgs itself, where HIVE_NIXOS_CONTAINER names it: what stands in for nix and
systemd is called by that, and has the folders that it was built for."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from driver_checks import refuses
from driver_rig import DEADLINE_S
from hyperhive.core.uids import INNER_UID
from hyperhive.host.drivers.protocol import ContainerState
from nixos_rig import AGENT, NAMES, NixosRig, open_nixos_rig

SCRIPT = os.environ.get("HIVE_NIXOS_CONTAINER", "")
pytestmark = pytest.mark.skipif(not SCRIPT, reason="HIVE_NIXOS_CONTAINER does not name nixpkgs' nixos-container")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncGenerator[NixosRig]:
    async with open_nixos_rig(tmp_path, Path(SCRIPT).resolve()) as rig:
        yield rig


def assert_conf(rig: NixosRig, name: str) -> None:
    *lines, flags = rig.conf(name)
    assert lines == [
        *("PRIVATE_NETWORK=1", "HOST_ADDRESS=", "LOCAL_ADDRESS=", "HOST_ADDRESS6=", "LOCAL_ADDRESS6="),
        *("LOCAL_MAC_ADDRESS=", "HOST_BRIDGE=", "HOST_PORT=", f"PRIVATE_USERS={rig.uid(name) - INNER_UID}"),
        *("COPY_RESOLV_CONF=0", "AUTO_START=0", f"FLAKE=path:{rig.place(name)}/flake"),
    ]
    assert flags.startswith("EXTRA_NSPAWN_FLAGS=") and f"{rig.owned(name, 'state')}:/state" in flags


async def test_alice_is_made_started_rebuilt_stopped_and_destroyed(rig: NixosRig) -> None:
    spec = rig.spec()
    await rig.driver.build_system("alice", {"agent.nix": AGENT})
    await rig.driver.create(spec)
    assert_conf(rig, "alice")
    first = (rig.files.profiles / "h-alice/system").readlink()
    await rig.driver.start(spec)
    await rig.ask("sh", "-c", "echo kept >/state/notes")
    seen = await rig.driver.observe("alice")
    assert seen.state is ContainerState.RUNNING
    another = rig.make_driver()
    assert await another.observe("alice") == seen
    await another.stop("alice", DEADLINE_S)
    rig.write_config({"agent.nix": AGENT + b"# 2\n"})
    await another.create(spec)
    assert_conf(rig, "alice")
    assert (rig.files.profiles / "h-alice/system").readlink() != first
    await another.start(spec)
    assert await rig.ask("cat", "/state/notes") == "kept\n"
    builds = rig.calls("nix", "build", "-o", ".tmp", "--no-write-lock-file")
    assert len({call.folder for call in builds}) == len(builds) == 2
    assert all(call.argv[5:8] == ["--option", "allow-import-from-derivation", "false"] for call in builds)
    assert {call.argv[-1] for call in builds} == {
        f'path:{rig.place()}/flake#nixosConfigurations."container".config.system.build.toplevel'
    }
    for _ in range(2):
        await another.destroy("alice")
    assert (await another.observe("alice")).state is ContainerState.ABSENT
    for folder in (rig.files.confs, rig.files.profiles, rig.files.roots):
        assert not list(folder.iterdir())
    assert (rig.owned("alice", "state") / "notes").read_text() == "kept\n"


async def test_several_made_at_once_have_a_conf_and_a_system_each(rig: NixosRig) -> None:
    await asyncio.gather(*(rig.driver.create(rig.spec(name)) for name in NAMES))
    for name in NAMES:
        assert_conf(rig, name)
    assert len({(rig.files.profiles / rig.machine(name) / "system").readlink() for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("fault", ["nix build", "nix-env"])
async def test_a_create_that_fails_leaves_nothing_and_the_next_one_works(rig: NixosRig, fault: str) -> None:
    rig.misbehave(fault, "fail", "error: it cannot be done\n")
    error = await refuses(rig.driver.create(rig.spec()))
    assert "it cannot be done" in error.message and "nixos-container" not in error.message
    assert not rig.conf_file().exists()
    assert (await rig.driver.observe("alice")).state is ContainerState.ABSENT
    rig.behave()
    await rig.driver.create(rig.spec())
    assert_conf(rig, "alice")


async def test_a_create_that_was_ended_is_done_again(rig: NixosRig) -> None:
    rig.misbehave("nix build", "hang")
    task = asyncio.ensure_future(rig.driver.create(rig.spec()))
    await rig.wait_call("nix", "build")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "HOST_ADDRESS=10.233.1.1" in rig.conf()
    rig.behave()
    await rig.driver.create(rig.spec())
    assert_conf(rig, "alice")
