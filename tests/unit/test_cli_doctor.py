"""`hive doctor`: each check says what is missing and the command that mends it."""

import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hyperhive.cli.doctor import (
    check_credential,
    check_disk,
    check_git_version,
    check_machine,
    check_modes,
    check_pages,
    check_python,
    find_claude,
    judge_limits,
    judge_limits_ahead,
    render_checks,
)
from hyperhive.cli.doctor_checks import Check, CheckStatus
from hyperhive.cli.doctor_drivers import plan_namespace_mend
from hyperhive.cli.rendering import Screen
from hyperhive.core.paths import Roots
from hyperhive.system.cgroup_trees import Tree
from hyperhive.system.process import run


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return Roots(data, data / "run")


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_an_old_python_is_missing_what_it_takes() -> None:
    assert check_python((3, 10, 9)).status is CheckStatus.MISSING
    assert check_python((3, 11, 0)).status is CheckStatus.OK


@pytest.mark.parametrize("text", ["git version 2.31.0", "git version 2.39.5 (Apple Git-154)", "git version 3.0.rc1"])
def test_a_git_that_is_new_enough_is_kept_as_it_says(text: str) -> None:
    check = Check("git", CheckStatus.OK, text)
    assert check_git_version(check) == check


@pytest.mark.parametrize("text", ["git version 2.30.9", "git version 1.99", "git", "version two", "2.٣١"])
def test_a_git_that_is_too_old_or_tells_no_version_is_missing(text: str) -> None:
    check = check_git_version(Check("git", CheckStatus.OK, text))
    assert check.status is CheckStatus.MISSING
    assert "2.31" in check.detail
    assert check.mend.endswith("apt-get install -y git")


def test_the_disk_of_a_folder_not_made_yet_is_looked_at(tmp_path: Path) -> None:
    assert "free" in check_disk(tmp_path / "not/made/yet").detail


def test_pages_that_are_not_built_are_missing(tmp_path: Path) -> None:
    assert check_pages(tmp_path).status is CheckStatus.MISSING
    (tmp_path / "host/api/pages").mkdir(parents=True)
    (tmp_path / "host/api/pages/index.html").touch()
    assert check_pages(tmp_path).status is CheckStatus.OK


def test_a_credential_is_found_in_the_environment_and_not_shown(roots: Roots) -> None:
    check = check_credential(roots, {"ANTHROPIC_API_KEY": "sk-secret"})
    assert check.status is CheckStatus.OK
    assert "sk-secret" not in check.detail


def test_no_credential_is_a_warning_as_the_demo_needs_none(roots: Roots) -> None:
    assert check_credential(roots, {}).status is CheckStatus.WARN


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_credential_open_to_others_has_to_be_closed(roots: Roots, mode: int) -> None:
    roots.credential.write_text("sk-secret")
    roots.credential.chmod(mode)
    check = check_credential(roots, {})
    assert (check.status, check.mend) == (CheckStatus.MISSING, f"chmod 600 {roots.credential}")
    roots.credential.chmod(0o600)
    assert check_credential(roots, {}).status is CheckStatus.OK


def test_a_data_folder_others_can_write_is_found(roots: Roots) -> None:
    assert check_modes(roots).status is CheckStatus.OK
    roots.data.chmod(0o777)
    check = check_modes(roots)
    assert (check.status, check.mend) == (CheckStatus.MISSING, f"chmod go-w {roots.data}")


@pytest.mark.parametrize(
    ("key", "value"),
    [("kernel/apparmor_restrict_unprivileged_userns", "0"), ("kernel/unprivileged_userns_clone", "1")],
)
def test_the_setting_that_forbids_user_namespaces_is_named(tmp_path: Path, key: str, value: str) -> None:
    file = tmp_path / key
    file.parent.mkdir()
    file.write_text("1\n" if value == "0" else "0\n")
    assert plan_namespace_mend(tmp_path) == f"sysctl -w {key.replace('/', '.')}={value}"
    file.write_text(f"{value}\n")
    assert plan_namespace_mend(tmp_path) == "sysctl -w user.max_user_namespaces=15000"


def test_claude_is_the_one_of_the_environment_or_the_bundled_one() -> None:
    assert find_claude({"HIVE_CLAUDE": "/opt/claude"}) == Path("/opt/claude")
    bundled = find_claude({})
    assert bundled is not None
    assert bundled.name == "claude"


async def test_every_check_has_a_name_of_its_own_and_trouble_has_a_mend(roots: Roots) -> None:
    checks = await check_machine(roots, os.environ)
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    assert {"python", "bwrap", "user namespaces", "claude", "git", "prlimit", "disk", "hive", "credential"} <= set(
        names
    )
    assert not [check for check in checks if check.status is not CheckStatus.OK and not check.mend]


async def test_a_machine_without_the_programs_exits_1_and_tells_the_commands(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    done = await run(
        [sys.executable, "-m", "hyperhive.cli.main", "doctor", "--json"],
        timeout_s=60,
        env=os.environ | {"HIVE_DATA": str(tmp_path), "PATH": str(empty), "HIVE_CLAUDE": "/nowhere/claude"},
    )
    assert done.status == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert set(checks["git"]) == {"name", "status", "detail", "mend"}
    for name, package in (("bwrap", "bubblewrap"), ("git", "git"), ("prlimit", "util-linux")):
        assert checks[name]["status"] == "missing"
        assert checks[name]["mend"].endswith(f"apt-get install -y {package}")
    assert checks["user namespaces"]["status"] == "warn"
    assert checks["claude"]["status"] == "missing"


async def test_a_program_that_fails_is_not_taken_for_there(tmp_path: Path) -> None:
    for name in ("bwrap", "git"):
        write_program(tmp_path / "bin" / name, "echo broken library >&2; exit 127")
    done = await run(
        [sys.executable, "-m", "hyperhive.cli.main", "doctor", "--json"],
        timeout_s=60,
        env=os.environ | {"HIVE_DATA": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"},
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    for name in ("bwrap", "git", "user namespaces"):
        assert (checks[name]["status"], checks[name]["detail"]) == ("missing", "broken library")


def test_the_table_ends_with_the_commands_that_mend() -> None:
    good = Check("git", CheckStatus.OK, "git 2")
    bad = replace(good, name="bwrap", status=CheckStatus.MISSING, detail="not there", mend="apt-get install x")
    screen = Screen(now=datetime.now(UTC))
    assert render_checks([good, bad], screen).endswith("to mend:\nbwrap:  apt-get install x")
    assert "mend" not in render_checks([good], screen)


def test_limits_that_cannot_be_set_are_told_with_their_reason() -> None:
    assert judge_limits({"unlimited": {}}).status is CheckStatus.OK
    # Of a daemon that is older than this command.
    assert judge_limits({}).status is CheckStatus.OK
    check = judge_limits({"unlimited": {"memory": "no\x1b[31mne", "cpu": "root's alone", "tasks": "root's alone"}})
    assert check.status is CheckStatus.WARN and "no limit of cpu, tasks: root's alone" in check.detail
    assert "\x1b" not in check.detail and check.mend


def test_without_a_hive_it_is_told_what_could_not_be_limited() -> None:
    one, two = (Tree(Path("/"), Path("/"), version, frozenset({"memory", "cpu", "pids"})) for version in (1, 2))
    assert judge_limits_ahead([one], as_root=True, managed=False).status is CheckStatus.OK
    assert judge_limits_ahead([two], as_root=False, managed=False).status is CheckStatus.OK
    check = judge_limits_ahead([one], as_root=False, managed=False)
    assert (check.status, check.detail) == (
        CheckStatus.WARN,
        "not limited: memory, cpu, tasks: control groups of version 1 are root's alone",
    )
    check = judge_limits_ahead([], as_root=True, managed=False)
    assert check.status is CheckStatus.WARN and "the kernel offers no controller" in check.detail
