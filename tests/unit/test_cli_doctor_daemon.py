"""What `hive doctor` says of who the running daemon is: whether it has given up being root."""

import os
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from hyperhive.cli.doctor import check_modes
from hyperhive.cli.doctor_checks import CheckStatus
from hyperhive.cli.doctor_daemon import Daemon, check_daemon, judge_daemon, judge_rights, observe_daemon
from hyperhive.core.paths import Roots
from hyperhive.core.uids import DAEMON_UID
from hyperhive.system.acl import grant

AS_ROOT = os.geteuid() == 0
OTHER_UID = DAEMON_UID + 1


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return Roots(data, data / "run")


@contextmanager
def running(*arguments: str, uid: int | None = None, environment: Mapping[str, str] | None = None) -> Generator[int]:
    """The pid of a process that waits, with these further arguments and this environment, of a user of its own."""
    argv = ["/bin/sh", "-c", "echo; read line", "hived", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=environment or {}, user=uid if AS_ROOT else None)
    with process:
        assert process.stdout is not None
        # Before it says something the kernel may not have noted its arguments.
        process.stdout.readline()
        yield process.pid


def test_a_daemon_that_gave_up_being_root_is_good_and_one_that_stays_it_is_told() -> None:
    check = judge_daemon(Daemon(DAEMON_UID, keeps_root=False))
    assert (check.status, check.mend) == (CheckStatus.OK, "") and str(DAEMON_UID) in check.detail
    kept = judge_daemon(Daemon(0, keeps_root=True))
    assert kept.status is CheckStatus.WARN and "HIVE_KEEP_ROOT" in kept.detail and kept.mend
    old = judge_daemon(Daemon(0, keeps_root=False))
    assert old.status is CheckStatus.WARN and "HIVE_KEEP_ROOT" not in old.detail and old.mend
    assert judge_daemon(Daemon(1000, keeps_root=False)).status is CheckStatus.OK


@pytest.mark.parametrize(
    ("arguments", "environment", "keeps_root"),
    [
        ([], {}, False),
        (["--keep-root"], {}, True),
        (["--data=--keep-root"], {"HIVE_KEEP_ROOT": "0", "NOT_HIVE_KEEP_ROOT": "1"}, False),
        ([], {"A": "1", "HIVE_KEEP_ROOT": "True"}, True),
        ([], {"HIVE_KEEP_ROOT": "1"}, True),
    ],
)
def test_who_a_process_is_and_what_it_was_told_is_seen(
    arguments: list[str], environment: dict[str, str], keeps_root: bool
) -> None:
    with running(*arguments, environment=environment) as pid:
        assert observe_daemon(pid) == Daemon(os.geteuid(), keeps_root=keeps_root and AS_ROOT)


def test_a_process_of_another_user_is_none_of_roots() -> None:
    with running("--keep-root", uid=DAEMON_UID) as pid:
        assert observe_daemon(pid) == Daemon(DAEMON_UID if AS_ROOT else os.geteuid(), keeps_root=False)


def test_the_daemon_is_the_one_whose_pid_is_in_the_lock(roots: Roots) -> None:
    for folder in (roots.data, roots.run):
        folder.mkdir(exist_ok=True)
        grant(folder, 0o700, users={DAEMON_UID: 7})
    with running(uid=DAEMON_UID) as pid:
        roots.lock.write_text(f"{pid}\n")
        checks = check_daemon(roots)
    assert [check.status for check in checks] == ([CheckStatus.OK] if AS_ROOT else [])


@pytest.mark.parametrize("content", ["", "unknown\n", f"{2**22 + 1}\n"])
def test_a_lock_that_leads_to_no_process_is_told(roots: Roots, content: str) -> None:
    roots.lock.write_text(content)
    checks = check_daemon(roots)
    assert [(check.status, bool(check.mend)) for check in checks] == ([(CheckStatus.WARN, True)] if AS_ROOT else [])


def test_a_chmod_that_shut_the_daemon_out_is_told_and_how_to_mend_it(roots: Roots) -> None:
    for folder in (roots.data, roots.run):
        folder.mkdir(exist_ok=True)
        grant(folder, 0o700, users={DAEMON_UID: 7})
    assert judge_rights(roots) == []
    roots.data.chmod(0o755)
    [check] = judge_rights(roots)
    assert check.status is CheckStatus.MISSING
    assert check.mend == f"setfacl -m u:{DAEMON_UID}:rwx,m::rwx {roots.data}, or start the hive anew"


def test_the_folder_that_root_and_the_daemon_share_is_closed_to_others(roots: Roots) -> None:
    roots.data.chmod(0o770)
    assert check_modes(roots).mend == f"chmod go-w {roots.data}"
    grant(roots.data, 0o700, users={DAEMON_UID: 7})
    assert check_modes(roots).status is CheckStatus.OK
    grant(roots.data, 0o702, users={DAEMON_UID: 7})
    check = check_modes(roots)
    assert (check.status, check.mend) == (CheckStatus.MISSING, f"chmod o-w {roots.data}")


def test_files_may_be_the_daemons_and_no_third_users(roots: Roots) -> None:
    roots.database.touch(mode=0o600)
    if AS_ROOT:
        os.chown(roots.database, DAEMON_UID, DAEMON_UID)
    assert check_modes(roots).status is CheckStatus.OK
    if AS_ROOT:
        os.chown(roots.database, OTHER_UID, DAEMON_UID)
        assert check_modes(roots).status is CheckStatus.WARN
