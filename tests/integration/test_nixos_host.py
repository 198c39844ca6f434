"""The nixos driver on a host of NixOS containers: a machine booted for it, with nix and, where one is named, the real
command. One machine for all of this file, and one story of alice and bob.

What goes by the command is left out unless HIVE_NIXOS_CONTAINER names it. A folder `unit` beside it, or named by
HIVE_NIXOS_UNIT, has its unit; without one it is our own.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nixos_steps
from hyperhive.core.uids import FIRST_RANGED_UID, range_start
from hyperhive.host.drivers.nixos_conf import ConfPlan, rewrite_conf
from hyperhive.host.drivers.nixos_flake import Identity, parse_nix_inputs, write_flake
from hyperhive.host.drivers.protocol import Mount
from nixos_host import COMMAND_VARIABLE, NixosHost, find_command, nixos_host

by_command = pytest.mark.skipif(
    find_command() is None, reason=f"{COMMAND_VARIABLE} does not name a nixos-container to run"
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
UNIT = "container@h-alice.service"
FEATURES = "extra-experimental-features = nix-command flakes"
TOPLEVEL = "nixosConfigurations.container.config.system.build.toplevel"
PROFILES = "/nix/var/nix/profiles/per-container"
# As nixos-container writes one.
MADE_CONF = """\
PRIVATE_NETWORK=1
HOST_ADDRESS=10.233.1.1
LOCAL_ADDRESS=10.233.1.2
HOST_BRIDGE=
HOST_PORT=
AUTO_START=0
FLAKE=path:/srv/carol/flake
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NixosHost]:
    with nixos_host(tmp_path_factory.mktemp("nixos"), find_command()) as host:
        yield host


def step(host: NixosHost, name: str) -> Any:
    """One of `nixos_steps`, as a process in the machine."""
    program = (sys.executable, "-P", nixos_steps.__file__)
    return json.loads(host.run(*program, name, host.inputs, PATH=PATH).splitlines()[-1])


def load_conf(host: NixosHost, machine: str) -> list[str]:
    return host.read(f"/etc/nixos-containers/{machine}.conf").splitlines()


# -- what needs no command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def carol(host: NixosHost) -> str:
    """A system that nix builds there from an agent's flake, in the profile of the container h-carol."""
    files = {"agent.nix": nixos_steps.AGENT_NIX.format(version="1").encode(), "run.sh": nixos_steps.RUN.encode()}
    identity = Identity("carol", "h-carol", 8000, "x86_64-linux")
    write_flake(host.machine.root / "srv/carol/flake", parse_nix_inputs(host.inputs), identity, files)
    host.run("mkdir", "-p", f"{PROFILES}/h-carol", "/srv/carol/state", "/srv/carol/environment")
    build = (
        "nix",
        "build",
        "--no-write-lock-file",
        "--out-link",
        "/srv/carol/built",
        f"path:/srv/carol/flake#{TOPLEVEL}",
    )
    host.run(*build, NIX_CONFIG=FEATURES, NIX_REMOTE="daemon")
    built = host.run("readlink", "/srv/carol/built")
    host.run("nix-env", "-p", f"{PROFILES}/h-carol/system", "--set", built, NIX_REMOTE="daemon")
    return built


def test_a_system_is_built_by_the_machines_nix_from_an_agents_flake(host: NixosHost, carol: str) -> None:
    assert re.fullmatch(r"/nix/store/[a-z0-9]{32}-nixos-system-carol", carol)
    assert host.read(f"{carol}/system") == "x86_64-linux"
    unit = host.read(f"{carol}/units/hyperhive-harness.service")
    assert "ExecStart=/usr/bin/sh /config/run.sh" in unit
    assert "EnvironmentFile=/run/hyperhive/environment" in unit


def test_a_config_is_evaluated_there_by_the_machines_nix_daemon_and_refused_by_its_line(host: NixosHost) -> None:
    model, refused = step(host, "evaluate")
    assert model == "sonnet"
    assert refused.startswith("InvalidInputError: agent.nix line 2: ")
    assert "modle" in refused


def test_what_another_package_takes_is_told_there_before_it_is_built(host: NixosHost, carol: str) -> None:
    nothing: dict[str, Any] = {"added": 0, "removed": 0, "download": 0, "fetched": 0, "unknown": []}
    # No cache has it.
    told = step(host, "packages")
    hello = told["after"].pop("hello")
    assert told["after"] == told["before"] and set(told["before"]) == {"curl", "git"}
    assert (told["more"], told["less"]) == ({**nothing, "unknown": [hello]}, nothing)
    # It is there.
    packages = f"{parse_nix_inputs(host.inputs).nixpkgs}/base"
    build = ("nix-build", "--no-out-link", packages, "-A", "hello", "--argstr", "system", "x86_64-linux")
    assert host.run(*build, NIX_REMOTE="daemon") == hello
    size = int(host.run("sh", "-c", f"nix-store --dump {hello} | wc -c"))
    told = step(host, "packages")
    assert (told["more"], told["less"]) == (nothing, {**nothing, "removed": size})
    # A cache has it.
    host.run("nix", "copy", "--to", "file:///srv/cache", hello, NIX_CONFIG=FEATURES)
    host.run("nix-store", "--delete", hello, NIX_REMOTE="daemon")
    config = host.read("/etc/nix/nix.conf")
    host.write("/etc/nix/nix.conf", config.replace("substituters =", "substituters = file:///srv/cache"))
    host.run("systemctl", "restart", "nix-daemon.service")
    try:
        told = step(host, "packages")
    finally:
        host.write("/etc/nix/nix.conf", config)
        host.run("systemctl", "restart", "nix-daemon.service")
    assert (told["more"]["fetched"], told["more"]["unknown"], told["less"]) == (1, [], nothing)
    assert abs(told["more"]["added"] - size) < 1024**2 // 100


def test_a_unit_as_the_facts_have_it_boots_it_by_a_conf_of_ours(host: NixosHost, carol: str) -> None:
    uid = FIRST_RANGED_UID + 65536 * 7
    host.write("/srv/carol/variables", 'GREETING="carol"\n')
    host.run("chown", f"{uid}:{uid}", "/srv/carol/state")
    mounts = (
        Mount(Path("/srv/carol/state"), Path("/state"), writable=True),
        Mount(Path("/srv/carol/flake/config"), Path("/config")),
        Mount(Path("/srv/carol/variables"), Path("/run/hyperhive/environment")),
    )
    plan = ConfPlan(mounts, range_start(uid), private_network=True, flake="path:/srv/carol/flake")
    host.write("/etc/nixos-containers/h-carol.conf", rewrite_conf(MADE_CONF, plan))
    host.run("systemctl", "start", "own-container@h-carol.service")
    leader = host.run("machinectl", "show", "h-carol", "--property=Leader", "--value")
    assert host.run("cat", f"/proc/{leader}/uid_map").split() == ["0", str(range_start(uid)), "65536"]
    told = "until [ -e /srv/carol/state/told ]; do sleep 0.1; done; cat /srv/carol/state/told"
    assert host.run("timeout", "20", "sh", "-c", told) == "1000 1000 1"
    assert host.run("stat", "--format=%u", "/srv/carol/state/told") == str(uid)
    host.run("systemctl", "stop", "own-container@h-carol.service")
    assert host.show("own-container@h-carol.service", "Result") == "success"
    said = host.run("journalctl", "-u", "own-container@h-carol.service", "-o", "cat", "--no-pager")
    assert "version 1 says carol" in said
    assert "was told to end" in said
    host.run("rm", "-r", "/etc/nixos-containers/h-carol.conf", "/var/lib/nixos-containers/h-carol")


# -- the driver ----------------------------------------------------------------------------------------------


@by_command
def test_a_container_is_made_from_its_agents_files(host: NixosHost) -> None:
    made = step(host, "create")
    assert made["model"] == "sonnet"
    assert made["state"] == "stopped"
    assert made["revision"]
    conf = load_conf(host, "h-alice")
    start = range_start(nixos_steps.UIDS["alice"])
    for line in ("PRIVATE_NETWORK=1", "HOST_ADDRESS=", "LOCAL_ADDRESS=", "HOST_BRIDGE=", "HOST_PORT=", "AUTO_START=0"):
        assert conf.count(line) == 1, line
    assert f"PRIVATE_USERS={start}" in conf
    assert "COPY_RESOLV_CONF=0" in conf
    [flags] = [line for line in conf if line.startswith("EXTRA_NSPAWN_FLAGS=")]
    assert "--bind=/srv/hive/alice/state:/state" in flags
    assert "nixos-system-alice" in host.run("readlink", "-f", f"{PROFILES}/h-alice/system")


@by_command
def test_it_runs_in_a_user_namespace_and_writes_as_its_agent(host: NixosHost) -> None:
    started = step(host, "start")
    assert started["state"] == "running"
    seen = step(host, "look")
    assert seen["pid"] == started["pid"]
    assert seen["inside"][0] == "1000", seen
    assert seen["inside"][1].split() == ["0", str(range_start(seen["uid"])), "65536"]
    # Its network is its own, and empty.
    assert [line.split()[0] for line in seen["inside"][2:]] == ["lo"]
    assert seen["owner"] == seen["uid"]


@by_command
def test_what_it_says_is_its_log_and_the_journals(host: NixosHost) -> None:
    said = 'version 1 says of "two" words, $HOME'
    assert said in step(host, "look")["log"]
    assert said in host.run("journalctl", "-u", UNIT, "-o", "cat", "--no-pager")


@by_command
def test_its_limits_are_the_units_and_in_force(host: NixosHost) -> None:
    limit = str(nixos_steps.MEMORY_BYTES)
    assert host.show(UNIT, "MemoryMax") == limit
    assert host.show(UNIT, "TasksMax") == str(nixos_steps.TASKS)
    assert host.show(UNIT, "CPUQuotaPerSecUSec") == "1.500000s"
    group = host.show(UNIT, "ControlGroup")
    files = [f"/sys/fs/cgroup{group}/memory.max", f"/sys/fs/cgroup/memory{group}/memory.limit_in_bytes"]
    assert limit in host.run("sh", "-c", f"cat {' '.join(files)} 2>/dev/null; true").split()


@by_command
def test_it_is_built_anew_while_it_runs_and_has_the_new_system_after_a_restart(host: NixosHost) -> None:
    before, between, stopped, after = step(host, "rebuild")
    assert before["pid"] == between["pid"]
    assert stopped["state"] == "stopped"
    assert stopped["cause"] == "asked"
    assert after["state"] == "running"
    assert after["pid"] != before["pid"]
    assert host.read("/srv/hive/alice/state/told").endswith(" 2\n")


@by_command
def test_a_stopped_one_told_its_command_to_end(host: NixosHost) -> None:
    assert step(host, "stop")["state"] == "stopped"
    assert host.show(UNIT, "ActiveState") == "inactive"
    assert "was told to end" in host.run("journalctl", "-u", UNIT, "-o", "cat", "--no-pager")


@by_command
def test_one_that_was_killed_is_not_started_again_by_systemd_and_its_end_is_seen(host: NixosHost) -> None:
    died = step(host, "die")
    assert died["state"] == "exited"
    assert host.show(UNIT, "ActiveState") in {"failed", "inactive"}


@by_command
def test_one_whose_command_ends_is_over(host: NixosHost) -> None:
    ended = step(host, "end")
    assert ended["state"] == "exited"
    assert ended["cause"] == "exited"
    assert ended["code"] == 0


@by_command
def test_nothing_is_left_of_a_destroyed_one_but_what_it_kept(host: NixosHost) -> None:
    assert step(host, "destroy")["state"] == "absent"
    left = host.run(
        *("find", "/etc/nixos-containers", "/var/lib/nixos-containers", PROFILES, "/run/systemd/system"),
        *("/nix/var/nix/gcroots/per-container", "/srv/hive/containers", "-name", "*alice*"),
    )
    assert left == ""
    revived = step(host, "revive")
    assert revived["kept"] == "1000 1000 2\n"
    assert revived["state"] == "running"


@by_command
def test_one_in_the_hosts_network_has_the_hosts(host: NixosHost) -> None:
    shared = step(host, "share_network")
    assert shared["network"] == shared["own"]
    assert "PRIVATE_NETWORK=0" in load_conf(host, "h-bob")


@by_command
def test_a_config_of_which_nothing_can_be_made_is_refused_and_what_runs_goes_on(host: NixosHost) -> None:
    refused = step(host, "refuse")
    assert refused["state"] == "running"
    assert len(refused["told"]) == 2
    for told in refused["told"]:
        assert told.startswith("InvalidInputError: ")
        assert "modle" in told
        assert "/nix/store" not in told
