"""The units of the service: what stands in them, and how an edit of the operator's is told from an older version."""

import os
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cli_process import call, call_on_nixos
from hyperhive.cli.doctor import judge_service
from hyperhive.cli.doctor_checks import CheckStatus
from hyperhive.cli.install import check_free, check_not_edited
from hyperhive.cli.uninstall import check_unmounted
from hyperhive.cli.units.files import FileState, UnitFile, observe_state, plan_files, seal
from hyperhive.cli.units.place import Place, decide_place
from hyperhive.cli.units.program import Program, find_strangers, plan_folders
from hyperhive.cli.units.settings import SETTINGS_TEXT, has_account, read_port
from hyperhive.core.errors import ConflictError, InvalidInputError, RefusedError
from hyperhive.core.paths import Roots
from hyperhive.host.desktop.socket_file import FOLDER_MODE
from hyperhive.host.settings import SYSTEMD_CREDENTIAL, Settings
from hyperhive.system.process import run

PROGRAM = Program(("/opt/hive/bin/python", "-P", "-m", "hyperhive.host.main"), (Path("/opt/hive"),))
MACHINE = decide_place(user=False, environment={}, uid=0)
OWN = decide_place(user=True, environment={"HOME": "/home/op", "XDG_RUNTIME_DIR": "/run/user/1000"}, uid=1000)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def render_service(place: Place = MACHINE, program: Program = PROGRAM) -> str:
    return plan_files(place, program)[0].text


def read_settings(text: str) -> dict[str, str]:
    """What the last line of each setting says."""
    return dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))


# -- what stands in them -----------------------------------------------------------------------------------


def test_the_machines_service_works_on_the_machines_folders() -> None:
    unit = read_settings(render_service())
    assert unit["ExecStart"] == "/opt/hive/bin/python -P -m hyperhive.host.main --data=/var/lib/hyperhive"
    assert (MACHINE.roots.data.name, MACHINE.roots.run.name) == (unit["StateDirectory"], unit["RuntimeDirectory"])
    assert unit["RuntimeDirectoryPreserve"] == "yes"
    assert int(unit["RuntimeDirectoryMode"], 8) == FOLDER_MODE
    assert unit["LoadCredential"] == SYSTEMD_CREDENTIAL


def test_a_users_service_works_on_the_users_folders() -> None:
    [service, agents] = plan_files(OWN, PROGRAM)
    assert str(service.path) == "/home/op/.config/systemd/user/hyperhive.service"
    assert str(agents.path) == "/home/op/.config/systemd/user/hive.slice"
    unit = read_settings(service.text)
    assert unit["ExecStart"].endswith(" --data=/home/op/.local/share/hyperhive")
    assert unit["EnvironmentFile"] == "-/home/op/.config/hyperhive/hive.env"
    assert "ProtectSystem" not in unit


@pytest.mark.parametrize("place", [MACHINE, OWN], ids=["machine", "user"])
def test_containers_outlive_the_daemon_and_a_hung_one_is_ended(place: Place) -> None:
    unit = read_settings(render_service(place))
    assert (unit["KillMode"], unit["OOMPolicy"], unit["Restart"]) == ("process", "continue", "on-failure")
    assert (unit["Type"], unit["LimitCORE"]) == ("notify", "0")
    assert 10 <= int(unit["WatchdogSec"]) <= 60


@pytest.mark.parametrize("place", [MACHINE, OWN], ids=["machine", "user"])
def test_every_place_of_a_template_is_filled(place: Place) -> None:
    for file in plan_files(place, PROGRAM):
        assert not re.search(r"@\w+@", file.text)


def test_no_home_is_seen_but_what_the_program_is_in() -> None:
    assert read_settings(render_service())["ProtectHome"] == "yes"
    checkout = replace(PROGRAM, folders=(Path("/home/op/my hive"), Path("/opt/python")))
    unit = read_settings(render_service(program=checkout))
    assert (unit["ProtectHome"], unit["BindReadOnlyPaths"]) == ("tmpfs", '"/home/op/my hive"')


def test_of_temporary_folders_only_what_the_program_is_in_is_seen() -> None:
    tried = replace(PROGRAM, folders=(Path("/tmp/hive"), Path("/opt/python")))
    unit = read_settings(render_service(program=tried))
    assert (unit["ProtectHome"], unit["PrivateTmp"], unit["BindReadOnlyPaths"]) == ("yes", "yes", "/tmp/hive")


@pytest.mark.parametrize("folder", ["/opt/a%b", "/opt/$HOME", '/opt/"', "/opt/a\nExecStart=/bin/sh", "/opt/a:b", "/\\"])
def test_a_path_that_systemd_would_read_otherwise_is_refused(folder: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot stand in a unit"):
        render_service(program=replace(PROGRAM, argv=(folder, *PROGRAM.argv[1:])))
    with pytest.raises(InvalidInputError, match="cannot stand in a unit"):
        render_service(replace(MACHINE, roots=Roots(Path(folder), Path("/run/x"))))


def test_a_blank_in_a_path_is_quoted() -> None:
    unit = read_settings(render_service(replace(OWN, roots=Roots(Path("/home/op/my data"), Path("/x")))))
    assert unit["ExecStart"].endswith(' "--data=/home/op/my data"')


def test_a_folder_in_another_or_in_usr_is_not_named_twice() -> None:
    places = [Path("/opt/x/src"), Path("/usr/lib/python3"), Path("/opt/x"), Path("/opt/y")]
    assert plan_folders(places) == (Path("/opt/x"), Path("/opt/y"))


def test_whoever_else_can_change_what_root_runs_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    if os.geteuid() == 0:
        assert f"{folder} can be written by others" in find_strangers([folder])
        os.chown(folder, 65534, -1)
        assert f"{folder} belongs to nobody" in find_strangers([folder])
    else:
        assert any(told.startswith(f"{folder} belongs to ") for told in find_strangers([folder]))
    assert find_strangers([Path("/usr/bin")]) == []


# -- where they go -----------------------------------------------------------------------------------------


def test_two_hives_in_one_are_refused() -> None:
    with pytest.raises(RefusedError, match="names another folder"):
        decide_place(user=False, environment={"HIVE_DATA": "/srv/hive"}, uid=0)
    with pytest.raises(RefusedError, match="root's hive"):
        decide_place(user=True, environment={"HOME": "/root"}, uid=0)
    assert decide_place(user=False, environment={"HIVE_DATA": "/var/lib/hyperhive"}, uid=0) == MACHINE


def test_a_users_data_folder_is_the_one_they_named() -> None:
    environment = {"HOME": "/home/op", "HIVE_DATA": "/srv/hive", "XDG_CONFIG_HOME": "/home/op/conf"}
    place = decide_place(user=True, environment=environment, uid=1000)
    assert (str(place.roots.data), str(place.units)) == ("/srv/hive", "/home/op/conf/systemd/user")


# -- what is there already ---------------------------------------------------------------------------------


def test_an_edit_is_told_from_an_older_version(tmp_path: Path) -> None:
    file = UnitFile(tmp_path / "hyperhive.service", seal("[Service]\nType=notify\n", "hyperhive"))
    assert observe_state(file) is FileState.ABSENT
    file.path.write_text(file.text)
    assert observe_state(file) is FileState.CURRENT
    file.path.write_text(seal("[Service]\nType=simple\n", "hyperhive"))
    assert observe_state(file) is FileState.OLD
    file.path.write_text(file.text.replace("notify", "forking"))
    assert observe_state(file) is FileState.EDITED
    file.path.write_text("[Service]\nType=notify\n")
    assert observe_state(file) is FileState.FOREIGN
    file.path.write_bytes(b"\xff\xfe")
    assert observe_state(file) is FileState.FOREIGN


def test_an_edited_unit_is_replaced_only_by_force(tmp_path: Path) -> None:
    file = UnitFile(tmp_path / "hyperhive.service", seal("[Service]\n", "hyperhive"))
    file.path.write_text(f"{file.text}Nice=5\n")
    with pytest.raises(ConflictError, match="was edited"):
        check_not_edited([file], force=False)
    check_not_edited([file], force=True)
    file.path.write_text("[Service]\n")
    with pytest.raises(ConflictError, match="was not written by"):
        check_not_edited([file], force=False)


def test_the_port_is_that_of_the_settings(tmp_path: Path) -> None:
    settings = tmp_path / "hive.env"
    default = Settings.model_fields["port"].default
    assert read_port(settings) == default
    settings.write_text(SETTINGS_TEXT)
    assert read_port(settings) == default
    settings.write_text("HIVE_PORT=7001\n#HIVE_PORT=1\nHIVE_PORT='7002'\n")
    assert read_port(settings) == 7002
    settings.write_text("HIVE_PORT=99999\n")
    with pytest.raises(InvalidInputError, match="99999 is no port"):
        read_port(settings)


@pytest.mark.parametrize("line", ["ANTHROPIC_API_KEY=x", "CLAUDE_CODE_OAUTH_TOKEN=x", "HIVE_REHEARSAL=true"])
def test_whether_the_service_has_an_account_is_known(tmp_path: Path, line: str) -> None:
    place = replace(OWN, roots=Roots(tmp_path, tmp_path / "run"), settings=tmp_path / "hive.env")
    assert not has_account(place)
    place.settings.write_text(f"{SETTINGS_TEXT}#{line}\n")
    assert not has_account(place)
    place.settings.write_text(f"{SETTINGS_TEXT}{line}\n")
    assert has_account(place)
    place.settings.unlink()
    place.roots.credential.touch()
    assert has_account(place)


async def test_the_account_that_systemd_hands_on_is_found(tmp_path: Path) -> None:
    handed = tmp_path / SYSTEMD_CREDENTIAL
    handed.write_text("sk-ant-oat01-of-the-store\n")
    handed.chmod(0o400)
    code = "from hyperhive.host.settings import *; print(load_credential(Settings(), Path('/none')).kind)"
    done = await run([sys.executable, "-c", code], timeout_s=60, env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert done.stdout == b"token\n", done.error_text


def test_a_port_that_is_taken_is_told_before_anything_is_written(tmp_path: Path, unused_port: int) -> None:
    place = replace(OWN, roots=Roots(tmp_path, tmp_path / "run"), settings=tmp_path / "hive.env")
    place.settings.write_text(f"HIVE_PORT={unused_port}\n")
    check_free(place)
    with socket.socket() as other:
        other.bind(("127.0.0.1", unused_port))
        other.listen()
        with pytest.raises(ConflictError, match=f"port {unused_port} is taken"):
            check_free(place)


def test_what_is_mounted_in_the_data_folder_keeps_it_from_being_removed() -> None:
    check_unmounted(Path("/var/lib/hyperhive"), "1 2 0:1 / /var/lib/hyperhive rw - ext4 x rw\n")
    check_unmounted(Path("/var/lib/hyperhive"), "1 2 0:1 / /var/lib/hyperhive2/x rw - ext4 x rw\n")
    with pytest.raises(ConflictError, match="/var/lib/hyperhive/a b is mounted"):
        check_unmounted(Path("/var/lib/hyperhive"), "1 2 0:1 / /var/lib/hyperhive/a\\040b rw - ext4 x rw\n")


# -- the commands ------------------------------------------------------------------------------------------


async def test_a_dry_run_prints_the_units_and_changes_nothing(tmp_path: Path) -> None:
    done = await call(tmp_path, "install", "--systemd", "--dry-run", HIVE_DATA="")
    assert done.ok, done.error_text
    text = done.stdout.decode()
    assert text.startswith("# -- /etc/systemd/system/hyperhive.service\n")
    assert "\n# -- /etc/systemd/system/hive.slice\n" in text


async def test_what_it_is_to_be_installed_as_has_to_be_said(tmp_path: Path) -> None:
    done = await call(tmp_path, "install", HIVE_DATA="")
    assert done.status == 1
    assert "hive install --systemd" in done.error_text


@pytest.mark.parametrize(
    ("seen", "stale", "status", "mend"),
    [
        ({"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}, [], CheckStatus.OK, ""),
        ({"ActiveState": "active", "UnitFileState": "disabled"}, [], CheckStatus.WARN, "systemctl enable"),
        ({"ActiveState": "active", "UnitFileState": "enabled"}, ["hive.slice"], CheckStatus.WARN, "hive install"),
        ({"ActiveState": "inactive", "UnitFileState": "enabled"}, [], CheckStatus.WARN, "systemctl start"),
        ({"ActiveState": "failed", "Result": "watchdog"}, [], CheckStatus.MISSING, "journalctl -u hyperhive"),
        ({}, [], CheckStatus.WARN, "systemctl start"),
    ],
)
def test_the_doctor_knows_the_service(seen: dict[str, str], stale: list[str], status: CheckStatus, mend: str) -> None:
    check = judge_service(seen, MACHINE, stale)
    assert check.status is status
    assert check.mend.startswith(mend)


@pytest.mark.parametrize(
    "args", [["install", "--systemd"], ["install", "--systemd", "--dry-run"], ["uninstall", "--yes"]]
)
async def test_on_nixos_nobody_writes_units_but_its_configuration(args: list[str], tmp_path: Path) -> None:
    done = await call_on_nixos(tmp_path, *args)
    told = done.stderr.decode()
    assert done.status != 0 and done.stdout == b""
    assert "services of NixOS are a part of the machine's configuration" in told
    assert "services.hyperhive" in told and "nixos-rebuild switch" in told
