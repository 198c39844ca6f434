"""What stands in for the programs of NixOS does what the drivers' tests rely on: it is as strict as they are."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from hyperhive.system.pids import find_process
from nixos_stand_in import NAMES, Files, install

UNIT = "container@h-alice.service"


class Programs:
    def __init__(self, folder: Path) -> None:
        self.files: Files = install(folder / "nixos")
        self.flake = folder / "flake"
        self.flake.mkdir()
        (self.flake / "flake.nix").write_text("{ }\n")
        self.folder = folder / "work"
        self.folder.mkdir()

    def run(self, *argv: str, features: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.files.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        if features:
            environment["NIX_CONFIG"] = "extra-experimental-features = nix-command flakes"
        return subprocess.run(
            argv, env=environment, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )

    def create(self, name: str = "h-alice") -> subprocess.CompletedProcess[str]:
        return self.run("nixos-container", "create", name, "--flake", f"path:{self.flake}#container")

    def show(self, key: str) -> str:
        return self.run("systemctl", "show", f"--property={key}", UNIT).stdout.strip().partition("=")[2]

    def misbehave(self, call: str, **fault: str | int | None) -> None:
        (self.files.faults / call).write_text(json.dumps({"text": "", "status": 1, "times": None, **fault}))


@pytest.fixture
def programs(tmp_path: Path) -> Generator[Programs]:
    programs = Programs(tmp_path)
    yield programs
    unit = programs.files.load_unit("h-alice")
    for key in ("leader", "main"):
        with contextlib.suppress(ProcessLookupError):
            if key in unit:
                os.kill(unit[key], signal.SIGKILL)


def test_every_program_is_there_and_notes_each_call(programs: Programs) -> None:
    for name in NAMES:
        assert (programs.files.bin / name).exists()
    programs.run("systemctl", "daemon-reload")
    call = json.loads(programs.files.calls.read_text())
    assert call["argv"] == ["systemctl", "daemon-reload"] and call["folder"] == str(programs.folder)
    assert call["environment"]["LC_ALL"] == "C.UTF-8"


def test_create_writes_the_lines_of_the_real_one_and_leaves_its_link(programs: Programs) -> None:
    assert programs.create().returncode == 0
    assert (programs.files.confs / "h-alice.conf").read_text() == (
        "PRIVATE_NETWORK=1\nHOST_ADDRESS=10.233.1.1\nLOCAL_ADDRESS=10.233.1.2\nHOST_BRIDGE=\nHOST_PORT=\nAUTO_START=0\n"
        f"FLAKE=path:{programs.flake}\n"
    )
    system = (programs.files.profiles / "h-alice/system").readlink()
    assert (programs.folder / ".tmp").readlink() == system and system.is_dir()
    assert programs.create("h-bob").returncode == 0
    assert "HOST_ADDRESS=10.233.2.1\n" in (programs.files.confs / "h-bob.conf").read_text()
    (programs.flake / "more").touch()
    assert programs.run("nixos-container", "update", "h-alice").returncode == 0
    assert (programs.files.profiles / "h-alice/system").readlink() != system
    assert programs.run("nixos-container", "destroy", "h-alice").returncode == 0
    assert [path.name for path in programs.files.confs.iterdir()] == ["h-bob.conf"]
    assert programs.run("nixos-container", "destroy", "h-alice").returncode == 0


@pytest.mark.parametrize(
    "argv",
    [
        ("nixos-container", "create", "twelve-chars"),
        ("nixos-container", "create", "h.alice"),
        ("nixos-container", "create", "h-alice", "--bind", "/etc"),
        ("nixos-container", "update", "h-alice"),
        ("nixos-container", "start", "h-alice"),
        ("nixos-container", "bind", "h-alice"),
        ("nixos-container", "create"),
        ("nix", "eval", "--json"),
        ("nix-env", "-p", "/tmp/profile", "--set", "/etc"),
        ("machinectl", "show", "--property=Leader", "h-alice"),
    ],
)
def test_what_the_real_ones_refuse_is_refused(programs: Programs, argv: tuple[str, ...]) -> None:
    done = programs.run(*argv)
    assert done.returncode != 0 and done.stderr


def test_without_the_features_nix_builds_nothing_and_the_conf_is_left(programs: Programs) -> None:
    done = programs.run("nixos-container", "create", "h-alice", "--flake", f"path:{programs.flake}", features=False)
    assert done.returncode != 0 and "experimental" in done.stderr
    assert (programs.files.confs / "h-alice.conf").exists()
    assert "already exists" in programs.create().stderr


def test_a_container_is_real_and_systemd_tells_how_it_ended(programs: Programs) -> None:
    programs.create()
    # As it is, this machine would get a network interface of the container's.
    conf = programs.files.confs / "h-alice.conf"
    conf.write_text("PRIVATE_NETWORK=1\nPRIVATE_USERS=1999962112\n" + conf.read_text().partition("HOST_PORT")[2])
    assert programs.show("ActiveState") == "inactive"
    assert programs.run("nixos-container", "start", "h-alice").returncode == 0
    assert programs.show("ActiveState") == "active"
    leader = int(programs.run("machinectl", "show", "-p", "Leader", "h-alice").stdout.strip().removeprefix("Leader="))
    assert find_process(leader) is not None
    assert Path(f"/proc/{leader}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    assert programs.run("systemctl", "stop", UNIT).returncode == 0
    assert find_process(leader) is None and programs.show("ActiveState") == "inactive"
    (programs.files.state / "payload").write_text("exit 3")
    assert programs.run("systemctl", "start", UNIT).returncode != 0
    assert (programs.show("ActiveState"), programs.show("Result"), programs.show("ExecMainStatus")) == (
        ("failed", "exit-code", "3")
    )
    programs.run("systemctl", "reset-failed", UNIT)
    assert programs.show("ActiveState") == "inactive"


def test_the_journal_has_each_line_once_behind_its_cursor(programs: Programs) -> None:
    programs.files.console("h-alice").write_text("one\ntwo\nthree\n")
    ask = ("journalctl", "--output=json", f"--unit={UNIT}")
    entries = [json.loads(line) for line in programs.run(*ask, "--lines=2").stdout.splitlines()]
    assert [entry["MESSAGE"] for entry in entries] == ["two", "three"]
    after = programs.run(*ask, "--lines=9", "--after-cursor=1").stdout.splitlines()
    assert [json.loads(line)["MESSAGE"] for line in after] == ["two", "three"]
    assert programs.run(*ask, "--lines=9", f"--after-cursor={entries[-1]['__CURSOR']}").stdout == ""


def test_a_fault_is_for_the_calls_and_the_times_that_it_is_meant_for(programs: Programs) -> None:
    programs.misbehave("systemctl show", kind="fail", text="it is busy\n", status=4, times=2)
    assert programs.run("systemctl", "daemon-reload").returncode == 0
    for _ in range(2):
        done = programs.run("systemctl", "show", "--property=ActiveState", UNIT)
        assert (done.returncode, done.stderr) == (4, "it is busy\n")
    assert programs.show("ActiveState") == "inactive"
    programs.misbehave("nix", kind="hang")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([programs.files.bin / "nix", "build"], check=False, timeout=0.5)
