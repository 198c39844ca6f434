"""What systemd and systemd-nspawn make of a NixOS container's conf and drop-in, in a machine booted for it.

There is no NixOS in it: a unit of the same name takes the conf as NixOS' does, and has nspawn run a probe on the
machine's own programs.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from booted import Booted, booted
from environment_file import read_assignments
from hyperhive.core.limits import Limits
from hyperhive.core.uids import FIRST_RANGED_UID, range_start
from hyperhive.host.drivers.nixos_conf import ConfPlan, read_conf, rewrite_conf, write_conf
from hyperhive.host.drivers.nixos_unit import find_unit, write_drop_in
from hyperhive.host.drivers.protocol import Mount

NAME = "h-alice"
UNIT = find_unit(NAME)
CONF = Path("/etc/nixos-containers/h-alice.conf")
STATE = Mount(Path("/srv/alice/state"), Path("/state"), writable=True)
CONFIG = Mount(Path("/srv/alice/config"), Path("/config"))
SOCKETS = Mount(Path("/srv/alice/sockets"), Path("/run/hive"))
PLAN = ConfPlan((STATE, CONFIG, SOCKETS), range_start(FIRST_RANGED_UID), private_network=True, flake="path:/srv/flake")
# Odd ones, each of which a systemd reads in one go.
TEXTS = (
    *("", "\n", "# a comment\nFOO=1", "FOO=1\r\nBAR=2\r\n", "FOO=1\rBAR=2\rHOST_PORT=3", "FOO=1\\\nBAR=2\n"),
    *("FOO=1\\\r\nBAR=2\n", "FOO='1\nHOST_PORT=2\n' \"3\\\n4\" 5'\nBAR=2\n", "HOST_PORT='\nFOO=1\n' x\nBAR=1\n"),
    *(' FOO = 1 "2" \nBAR="1\nHOST_PORT=7', "FOO=1\\\\\nHOST_PORT=5\nBAR=\\", '="\nHOST_PORT=1\nFOO="\\x\\"\\$"y\n'),
    *(
        "\ufeffFOO=1\nBAR=2\n",
        "export FOO=1\nA B=1\nBAR=\ufeff é\n",
        "FOO\\\nHOST_PORT=1\nBAR=\v\f\x85 \n",
        "FOO=\n=1\n",
    ),
    *("HOST_PORT=1\nHOST_PORT=2\n\tHOST_PORT=3\nEXTRA_NSPAWN_FLAGS=--bind=/:/host\nPRIVATE_USERS=no\n",),
)
SERVICE = """\
[Service]
EnvironmentFile=-/etc/nixos-containers/%i.conf
Environment=INSTANCE=%i
ExecStart=/srv/start
SyslogIdentifier=container %i
RestartForceExitStatus=133
SuccessExitStatus=133
Restart=on-failure
RestartSec=0
Slice=machine.slice
Delegate=true
DevicePolicy=closed
"""
START = """\
#!/bin/bash
network=(); [ "$PRIVATE_NETWORK" = 1 ] && network=(--private-network)
exec systemd-nspawn --keep-unit -M "$INSTANCE" -D /srv/root "${network[@]}" \
    --private-users="$PRIVATE_USERS" --console=pipe --bind-ro=/usr \
    --bind-ro=/srv/alice/sockets:/nix/var/nix/daemon-socket:idmap --setenv=NUMBERS="$NUMBERS" \
    $EXTRA_NSPAWN_FLAGS /usr/bin/python3 -c "$PROBE"
"""
PROBE = """
import ctypes, errno, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    return errno.errorcode[ctypes.get_errno()] if libc.syscall(number, 0, 0, 0, 0, 0) < 0 else "done"
def attempt(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def become_agent():
    os.setgroups([])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
said = {
    "uid_map": open("/proc/self/uid_map").read().split(),
    "no_new_privileges": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")],
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "namespace": os.readlink("/proc/self/ns/net"),
    "root": os.stat("/").st_uid,
    "calls": {name: call(number) for name, number in json.loads(os.environ["NUMBERS"]).items()},
    "vsock": attempt(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "packet": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "internet": attempt(lambda: socket.socket(socket.AF_INET6)),
    "own": attempt(lambda: open("/var/own", "w")),
    "uncovered": libc.umount2(b"/nix/var/nix/daemon-socket", 2),
    "nix": os.listdir("/nix/var/nix/daemon-socket"),
}
become_agent()
said["state"] = attempt(lambda: open("/state/written", "w"))
said["config"] = attempt(lambda: open("/config/written", "w"))
said["read"] = open("/config/agent.nix").read()
peer = socket.socket(socket.AF_UNIX)
said["socket"] = attempt(lambda: peer.connect("/run/hive/hive.sock"))
open("/state/said", "w").write(json.dumps(said))
"""
# As the first process of a system does at last: RB_AUTOBOOT of <sys/reboot.h>.
REBOOT = """
import ctypes
with open("/state/starts", "a") as file:
    file.write("x")
ctypes.CDLL(None).reboot(0x01234567)
raise SystemExit("it goes on")
"""
LIMITS = Limits(memory_bytes=256 * 1024**2, cpus=0.5, tasks=64)
# On x86-64, and on the processors with the kernel's one list.
NUMBERS = {"keyctl": (250, 219), "bpf": (321, 280), "perf_event_open": (298, 241), "io_uring_setup": (425, 425)}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with booted(tmp_path_factory.mktemp("machine")) as host:
        yield host


def find(machine: Booted, path: Path) -> Path:
    """A file of the machine as we see it."""
    return machine.root / str(path).lstrip("/")


def write(machine: Booted, path: Path, text: str, mode: int = 0o644) -> None:
    file = find(machine, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    file.chmod(mode)


def read_for_real(machine: Booted, conf: Path) -> "subprocess.CompletedProcess[str]":
    """The environment of a service that has the conf as NixOS' unit has it, each variable ended by a NUL."""
    options = ("--quiet", "--wait", "--pipe", "--collect", f"--property=EnvironmentFile=-{conf}")
    return machine.attempt("systemd-run", *options, "--", "env", "-0")


def test_a_real_systemd_reads_what_we_think_it_reads(machine: Booted) -> None:
    for text in TEXTS:
        rewritten = rewrite_conf(text, PLAN)
        for content in (text, rewritten):
            write(machine, CONF, content)
            said = read_for_real(machine, CONF)
            variables = dict(line.split("=", 1) for line in said.stdout.split("\0") if line)
            # What cannot be a variable's name is none.
            read = {key: value for key, value in read_assignments(content).items() if key.isidentifier()}
            assert {key: variables.get(key) for key in read} == read, content
            assert not {"FOO", "BAR", "HOST_PORT"} & (variables.keys() - read.keys()), content
        assert read["HOST_PORT"] == ""
        assert read["PRIVATE_USERS"] == str(PLAN.range_start)


@pytest.mark.parametrize("content", ["FOO=1\0\n", "FOO=\udcff\n", "FOO='\ufffe'\n"])
def test_what_we_refuse_a_real_systemd_leaves_out_with_all_the_rest(machine: Booted, content: str) -> None:
    """The unit starts nevertheless; with the drop-in it does not."""
    write(machine, CONF, f"PRIVATE_NETWORK=1\n{content}")
    assert "PRIVATE_NETWORK" not in read_for_real(machine, CONF).stdout
    strict = f"--property=EnvironmentFile={CONF}"
    assert machine.attempt("systemd-run", "--quiet", "--wait", "--collect", strict, "--", "true").returncode != 0


@pytest.fixture(scope="module")
def container(machine: Booted) -> Booted:
    """The machine with all that a container takes."""
    write(machine, Path("/etc/systemd/system/container@.service"), SERVICE)
    write(machine, Path("/srv/start"), START, 0o755)
    write(machine, Path("/srv/alice/config/agent.nix"), "{ }")
    for folder in ("alice/state", "alice/sockets", "root/usr", "root/var", "root/etc"):
        find(machine, Path("/srv") / folder).mkdir(parents=True, exist_ok=True)
    for link in ("bin", "sbin", "lib", "lib64"):
        find(machine, Path("/srv/root") / link).symlink_to(f"usr/{link}")
    socket = "/srv/alice/sockets/hive.sock"
    machine.run("systemd-run", "--quiet", f"--socket-property=ListenStream={socket}", "--unit=hive", "--", "true")
    machine.run(
        "chown", "--recursive", f"{FIRST_RANGED_UID}:{FIRST_RANGED_UID}", "/srv/alice/state", "/srv/alice/sockets"
    )
    # Memory of the machine's, and not in its root as we see that.
    write_drop_in(NAME, LIMITS, machine.seen_root / "run/systemd/system")
    machine.run("systemctl", "daemon-reload")
    return machine


def write_probe(machine: Booted, probe: str) -> None:
    """A conf as `nixos-container create` leaves it, with what our own unit takes beside."""
    column = 0 if machine.run("uname", "-m") == "x86_64" else 1
    numbers = json.dumps({name: both[column] for name, both in NUMBERS.items()})
    written = f"PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nAUTO_START=0\nPROBE='{probe}'\nNUMBERS='{numbers}'\n"
    write(machine, CONF, written)


def run_probe(machine: Booted, plan: ConfPlan) -> dict[str, Any]:
    """What is found inside."""
    write_probe(machine, PROBE)
    conf = find(machine, CONF)
    write_conf(conf, rewrite_conf(read_conf(conf), plan))
    started = machine.attempt("systemctl", "start", "--wait", UNIT)
    assert started.returncode == 0, machine.run("journalctl", f"--unit={UNIT}", "--output=cat", "--no-pager")
    return json.loads(find(machine, Path("/srv/alice/state/said")).read_text())


@pytest.fixture(scope="module")
def inside(container: Booted) -> dict[str, Any]:
    return run_probe(container, PLAN)


def test_a_container_has_its_range_its_binds_and_nothing_of_the_hosts_network(
    container: Booted, inside: dict[str, Any]
) -> None:
    assert inside["uid_map"] == ["0", str(PLAN.range_start), "65536"]
    # What is root's on the machine is root's inside.
    assert (inside["root"], inside["own"]) == (0, "done")
    # Not even its root sees the machine's nix daemon.
    assert (inside["uncovered"], inside["nix"]) == (-1, [])
    assert (inside["state"], inside["config"], inside["read"], inside["socket"]) == ("done", "EROFS", "{ }", "done")
    assert find(container, Path("/srv/alice/state/written")).stat().st_uid == FIRST_RANGED_UID
    assert inside["interfaces"] == ["lo"]


def test_a_container_has_no_calls_and_sockets_that_no_other_container_has(inside: dict[str, Any]) -> None:
    assert set(inside["calls"].values()) <= {"EPERM", "ENOSYS"}, inside["calls"]
    assert (inside["vsock"], inside["packet"], inside["internet"]) == ("EAFNOSUPPORT", "EAFNOSUPPORT", "done")


def test_set_uid_programs_of_a_container_are_what_they_are(inside: dict[str, Any]) -> None:
    assert inside["no_new_privileges"] == ["0"]


def test_a_container_in_the_hosts_network_has_the_hosts_interfaces(container: Booted) -> None:
    said = run_probe(container, replace(PLAN, private_network=False))
    assert said["namespace"] == container.run("readlink", "/proc/self/ns/net")
    assert said["uid_map"] == ["0", str(PLAN.range_start), "65536"]


def test_a_units_limits_are_ours_and_it_is_not_started_again_by_systemd(container: Booted) -> None:
    def show(name: str) -> str:
        return container.run("systemctl", "show", f"--property={name}", "--value", UNIT)

    assert show("MemoryMax") == str(LIMITS.memory_bytes)
    assert (show("MemorySwapMax"), show("TasksMax"), show("CPUQuotaPerSecUSec")) == ("0", "64", "500ms")
    assert (show("OOMPolicy"), show("OOMScoreAdjust"), show("Slice")) == ("continue", "300", "machine.slice")
    assert (show("Restart"), show("RestartForceExitStatus")) == ("no", "")
    assert show("EnvironmentFiles") == f"{CONF} (ignore_errors=no)"


def test_a_system_that_asks_for_a_reboot_has_only_ended(container: Booted) -> None:
    write_probe(container, REBOOT)
    conf = find(container, CONF)
    write_conf(conf, rewrite_conf(read_conf(conf), PLAN))
    started = container.attempt("systemctl", "start", "--wait", UNIT)
    assert started.returncode == 0, container.run("journalctl", f"--unit={UNIT}", "--output=cat", "--no-pager")
    assert container.run("systemctl", "show", "--property=SubState", "--value", UNIT) == "dead"
    assert find(container, Path("/srv/alice/state/starts")).read_text() == "x"


def test_a_container_whose_conf_cannot_be_read_does_not_start(container: Booted) -> None:
    write_probe(container, PROBE)
    said = find(container, Path("/srv/alice/state/said"))
    said.unlink()
    with find(container, CONF).open("ab") as file:
        file.write(b"FOO=\xff\n")
    assert container.attempt("systemctl", "start", UNIT).returncode != 0
    assert not said.exists()
