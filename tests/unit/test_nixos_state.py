"""What systemd and machined say, what containers are called, and how variables are written for NixOS."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.host.drivers.nixos_config import SystemRecord, load_system, plan_key, save_system
from hyperhive.host.drivers.nixos_environment import plan_inner_environment, render_environment
from hyperhive.host.drivers.nixos_flake import Identity, NixInputs
from hyperhive.host.drivers.nixos_names import find_agent, plan_machine
from hyperhive.host.drivers.nixos_state import parse_leader, parse_unit
from hyperhive.host.drivers.protocol import DriverError, ExitCause

IDENTITY = Identity("alice", "h-alice", 8123, "x86_64-linux")
INPUTS = NixInputs(Path("/nix/store/a-source"), Path("/nix/store/b-source"))


def test_a_unit_that_runs_is_told_with_its_start_and_its_group() -> None:
    unit = parse_unit(
        "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nExecMainCode=0\nExecMainStatus=0\n"
        "ActiveEnterTimestamp=@1700000000\nControlGroup=/machine.slice/container@h-alice.service\n"
    )
    assert unit.is_up and not unit.is_over and unit.is_known
    assert unit.started_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert unit.control_group == "/machine.slice/container@h-alice.service"


def test_a_unit_that_systemd_has_forgotten_ended_well() -> None:
    unit = parse_unit("ActiveState=inactive\nResult=success\nExecMainCode=0\nExecMainStatus=0\nActiveEnterTimestamp=\n")
    assert unit.is_over and not unit.has_failed and unit.started_at is None
    assert (unit.exit_code, unit.cause) == (0, ExitCause.EXITED)


@pytest.mark.parametrize("active", ["activating", "deactivating", "reloading", "refreshing", "maintenance"])
def test_a_unit_on_its_way_is_neither_up_nor_over(active: str) -> None:
    unit = parse_unit(f"ActiveState={active}\n")
    assert not unit.is_over and not unit.is_up


def test_a_unit_that_is_not_there_is_known_as_that() -> None:
    assert not parse_unit("LoadState=not-found\nActiveState=inactive\n").is_known


@pytest.mark.parametrize("text", ["", "nonsense", "ActiveState=\n", "SubState=running\n"])
def test_an_answer_without_a_state_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="state"):
        parse_unit(text)


@pytest.mark.parametrize(
    ("text", "pid"),
    [("Leader=4711\n", 4711), ("Leader=\n", None), ("", None), ("Leader=-1", None), ("Leader=1", None), ("x=4", None)],
)
def test_a_leader_is_a_pid_or_nothing(text: str, pid: int | None) -> None:
    assert parse_leader(text) == pid


def test_machines_are_called_after_agents_and_the_managers_is_not() -> None:
    assert (plan_machine("alice"), plan_machine("hm1nd")) == ("h-alice", "hm1nd")
    assert (find_agent("alice"), find_agent("hm1nd")) == ("alice", "manager")
    assert len(plan_machine("ninechars")) == 11
    with pytest.raises(DriverError, match="10 characters"):
        plan_machine("tencharact")


VALUES = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(st.from_regex(r"V_[A-Za-z0-9_]{0,8}", fullmatch=True), VALUES, max_size=4))
def test_variables_are_read_back_as_they_were(environment: dict[str, str]) -> None:
    # Between double quotes a shell reads what systemd reads.
    script = render_environment(environment).encode() + b"unset PWD OLDPWD SHLVL _\nexec env -0\n"
    script = b"set -a\n" + script
    done = subprocess.run(["/bin/sh"], input=script, env={}, capture_output=True, check=True, timeout=20)
    read = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if entry.startswith("V_"))
    assert read == environment


def test_what_only_the_system_knows_is_not_in_the_file() -> None:
    environment = {"PATH": "/usr/bin", "SHELL": "/bin/bash", "HOME": "/home/agent"}
    assert render_environment(environment) == 'HOME="/home/agent"\n'
    inner = plan_inner_environment(environment)
    assert inner["HOME"] == "/home/agent" and inner["SHELL"] == "/run/current-system/sw/bin/bash"
    assert inner["PATH"].startswith("/run/current-system/sw/bin:")


@pytest.mark.parametrize("environment", [{"A B": ""}, {"": ""}, {"1A": ""}, {"A\n": ""}, {"A": "\0"}, {"A": "\udc80"}])
def test_what_is_no_variable_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(DriverError):
        render_environment(environment)


def test_a_system_is_known_by_all_that_it_is_made_of() -> None:
    keys = {
        plan_key(INPUTS, IDENTITY, {"agent.nix": b"1"}),
        plan_key(INPUTS, IDENTITY, {"agent.nix": b"2"}),
        plan_key(INPUTS, IDENTITY, {"agent.nix": b"1", "more.nix": b""}),
        plan_key(INPUTS, Identity("bob", "h-bob", 8123, "x86_64-linux"), {"agent.nix": b"1"}),
        plan_key(NixInputs(Path("/nix/store/c-source"), INPUTS.nixpkgs), IDENTITY, {"agent.nix": b"1"}),
    }
    assert len(keys) == 5
    assert plan_key(INPUTS, IDENTITY, {"b": b"", "a": b""}) == plan_key(INPUTS, IDENTITY, {"a": b"", "b": b""})


def test_a_note_that_cannot_be_read_is_no_note(tmp_path: Path) -> None:
    assert load_system(tmp_path) == SystemRecord()
    save_system(tmp_path, SystemRecord("made", "revision", "built"))
    assert load_system(tmp_path) == SystemRecord("made", "revision", "built")
    for text in ("", "[]", '{"made": 1, "other": 2}', "{"):
        (tmp_path / "system.json").write_text(text)
        assert load_system(tmp_path) == SystemRecord()
