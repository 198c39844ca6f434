"""A whole hive on a host of NixOS containers, by the real nixos-container: installed, worked in, restarted, rebooted.

One machine for all of this file, and one story: but for the last, each test leaves a hive that runs, with the agent
alice. Nobody is behind the model. Left out unless HIVE_NIXOS_CONTAINER names the command.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from booted_hive import BootedHive
from hyperhive.core.uids import has_range, range_start
from nixos_host import COMMAND_VARIABLE, NixosHost, find_command, nixos_host

pytestmark = pytest.mark.skipif(
    find_command() is None, reason=f"{COMMAND_VARIABLE} does not name a nixos-container to run"
)
HIVE = str(Path(sys.prefix) / "bin/hive")
SERVICE = "hyperhive.service"
SETTINGS = "/etc/hyperhive/hive.env"
# What nix/module.nix says beside the unit of other machines.
DROP_IN = """\
[Service]
Environment=NIX_REMOTE=daemon
ReadWritePaths=/etc/nixos-containers /var/lib/nixos-containers /nix/var/nix/profiles/per-container
ReadWritePaths=/nix/var/nix/gcroots
"""
AGENTS = "/var/lib/hyperhive/agents"
# Has the same port as alice.
SAME_PORT = "aly"


class Hive(BootedHive):
    """What a person at that machine does, in a shell as root."""

    def __init__(self, host: NixosHost) -> None:
        super().__init__(host.machine)
        self.host = host

    def do(self, *arguments: str) -> str:
        return self.host.run(HIVE, *arguments)

    def refused(self, *arguments: str) -> str:
        done = self.booted.attempt(HIVE, *arguments)
        assert done.returncode == 1, done
        return done.stderr

    def leader(self, name: str = "alice") -> str:
        machine = name if name == "hm1nd" else f"h-{name}"
        return self.host.run("machinectl", "show", machine, "--property=Leader", "--value")

    def work(self, what: str, name: str = "alice") -> None:
        """Has an agent do a turn."""
        before = self.agent(name)["turns"]
        self.do("send", name, what)
        self.wait(lambda: self.agent(name)["turns"] > before, f"{name} to have done a turn")
        self.wait_idle(name)

    def restart(self, *argv: str) -> None:
        """Ends the daemon by `argv`, and waits for the next."""
        before = self.host.show(SERVICE, "MainPID")
        self.host.run(*argv)
        self.wait(lambda: self.host.show(SERVICE, "MainPID") not in {before, "0"}, "another daemon")
        self.wait(lambda: self.host.show(SERVICE, "ActiveState") == "active", "it to be ready")

    def set(self, **settings: str) -> None:
        fixed = {"HIVE_REHEARSAL": "true", "HIVE_DRIVER": "nixos", "HIVE_AGENT_PORTS": "true"}
        given = fixed | {"HIVE_NIX_INPUTS": self.host.inputs} | settings
        self.host.write(SETTINGS, "".join(f"{name}={value}\n" for name, value in given.items()))


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hive]:
    with nixos_host(tmp_path_factory.mktemp("nixos"), find_command()) as host:
        hive = Hive(host)
        hive.set()
        host.write(f"/etc/systemd/system/{SERVICE}.d/nixos.conf", DROP_IN)
        hive.do("install", "--systemd")
        hive.do("spawn", "alice")
        hive.wait_idle()
        hive.wait_idle("manager")
        yield hive


def test_agents_are_machines_of_nixos_container_and_described_by_agent_nix(hive: Hive) -> None:
    listed = json.loads(hive.host.run("machinectl", "list", "--output=json"))
    assert {row["machine"] for row in listed} == {"h-alice", "hm1nd"}
    assert hive.agent()["driver"] == "nixos"
    assert "agent.nix" in hive.do("config", "alice")
    commit = hive.agent()["commit"]
    conf = hive.host.read("/etc/nixos-containers/h-alice.conf")
    assert "--bind=/var/lib/hyperhive/agents/alice/state:/state " in conf
    assert f"/{commit}:/config" in conf


def test_alice_does_a_turn_in_a_user_namespace_of_her_own(hive: Hive) -> None:
    hive.work("run: id -u > /state/who; readlink /run/current-system > /state/system")
    assert hive.host.read(f"{AGENTS}/alice/state/who") == "1000\n"
    uid = int(hive.host.run("stat", "--format=%u", f"{AGENTS}/alice/state/who"))
    assert has_range(uid)
    mapped = hive.host.run("cat", f"/proc/{hive.leader()}/uid_map").split()
    assert mapped[:2] == ["0", str(range_start(uid))]
    assert "nixos-system-alice" in hive.host.read(f"{AGENTS}/alice/state/system")


def test_a_commit_of_agent_nix_is_approved_and_alice_is_built_of_it(hive: Hive) -> None:
    before, leader = hive.agent()["commit"], hive.leader()
    hive.work("give alice the model claude-haiku-4-5", "manager")
    [waiting] = json.loads(hive.do("pending", "--json"))
    assert 'hyperhive.model = "claude-haiku-4-5"' in hive.do("show", str(waiting["id"]))
    hive.do("approve", str(waiting["id"]), "--wait")
    after = hive.wait_idle()
    assert after["commit"] != before
    assert hive.leader() != leader
    assert f"/{after['commit']}:/config" in hive.host.read("/etc/nixos-containers/h-alice.conf")
    hive.work("with another model")
    assert hive.agent()["model"] == "claude-haiku-4-5"


def test_an_agent_goes_on_while_the_daemon_is_restarted_or_killed_and_is_rebuilt_after_it(hive: Hive) -> None:
    leader = hive.leader()
    hive.restart("systemctl", "restart", SERVICE)
    hive.wait_idle()
    assert hive.leader() == leader
    hive.restart("systemctl", "kill", "--kill-whom=main", "--signal=KILL", SERVICE)
    hive.wait_idle()
    assert hive.leader() == leader
    hive.do("rebuild", "alice")
    hive.wait(lambda: hive.leader() != leader, "alice to be built anew")
    hive.wait_idle()
    hive.work("after all that")


def test_an_agent_is_stale_when_the_flake_has_moved_and_then_built_anew(hive: Hive) -> None:
    assert hive.agent()["needs_update"] == ""
    leader = hive.leader()
    hive.host.run("cp", "-r", "/srv/nixpkgs", "/srv/moved")
    moved = hive.host.run("nix-store", "--add", "/srv/moved")
    inputs = f"{hive.host.inputs.split()[0]} nixpkgs={moved}"
    hive.set(HIVE_NIX_INPUTS=inputs)
    hive.restart("systemctl", "restart", SERVICE)
    hive.wait(lambda: hive.agent()["needs_update"], "alice to be stale")
    assert hive.leader() == leader
    hive.do("rebuild", "--stale")
    hive.wait(lambda: hive.leader() != leader, "alice to be built anew")
    hive.wait(lambda: hive.agent()["needs_update"] == "", "alice to be as the flake says")
    hive.wait_idle()


def test_names_that_a_machine_cannot_have_and_ports_that_collide_are_refused(hive: Hive) -> None:
    assert "9 at most" in hive.refused("spawn", "researcher")
    assert f"alice and {SAME_PORT} would have the same port" in hive.refused("spawn", SAME_PORT)
    assert not hive.agent(SAME_PORT)
    assert hive.host.run("ls", "/etc/nixos-containers").split() == ["h-alice.conf", "hm1nd.conf"]


def test_a_destroyed_agent_leaves_its_state_alone_and_is_revived_with_it(hive: Hive) -> None:
    hive.do("destroy", "alice", "--yes")
    hive.wait(lambda: not hive.agent(), "alice to be gone")
    left = hive.host.run(
        *("find", "/etc/nixos-containers", "/var/lib/nixos-containers", "/nix/var/nix/profiles/per-container"),
        *("/nix/var/nix/gcroots/per-container", "-name", "h-alice*"),
    )
    assert left == ""
    assert hive.host.read(f"{AGENTS}/alice/state/who") == "1000\n"
    hive.do("revive", "alice")
    hive.wait_idle()
    hive.work("run: cat /state/who > /state/again")
    assert hive.host.read(f"{AGENTS}/alice/state/again") == "1000\n"


def test_after_a_reboot_the_hive_and_its_agents_are_there_again(hive: Hive) -> None:
    commit = hive.agent()["commit"]
    hive.booted.power_off()
    hive.booted.boot()
    hive.wait(lambda: hive.host.show(SERVICE, "ActiveState") == "active", "the service to be there after a reboot")
    assert hive.wait_idle()["commit"] == commit
    hive.work("after a reboot")


def test_uninstalling_ends_the_containers_and_keeps_the_data(hive: Hive) -> None:
    hive.do("uninstall", "--yes")
    assert hive.host.run("machinectl", "list", "--no-legend") == ""
    assert hive.host.read(f"{AGENTS}/alice/state/who") == "1000\n"
