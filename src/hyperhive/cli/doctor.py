"""What a hive needs of the machine, each with the command that mends it. Looks only; changes nothing."""

import asyncio
import importlib.util
import os
import re
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hyperhive.cli.client import Client, Row, parse_rows
from hyperhive.cli.doctor_checks import (
    PROBE_TIMEOUT_S,
    Check,
    CheckStatus,
    check_program,
    missing,
    ok,
    render_install,
    warn,
)
from hyperhive.cli.doctor_daemon import check_daemon
from hyperhive.cli.doctor_drivers import Asked, check_drivers
from hyperhive.cli.rendering import Column, Screen, line_field, render_size, render_table
from hyperhive.cli.units.files import observe_stale_units
from hyperhive.cli.units.place import (
    MACHINE_DATA,
    MACHINE_UNIT,
    SERVICE,
    STORED_CREDENTIAL,
    Place,
    decide_place,
    is_nixos,
)
from hyperhive.cli.units.systemctl import Systemctl
from hyperhive.core.errors import HiveError
from hyperhive.core.paths import Roots
from hyperhive.core.text import render_safe_line
from hyperhive.core.uids import DAEMON_UID
from hyperhive.system.acl import find_user_rights
from hyperhive.system.cgroup_scopes import SYSTEMD_RUNS
from hyperhive.system.cgroup_trees import Tree, observe_trees
from hyperhive.system.cgroups import CONTROLLERS
from hyperhive.system.process import ProcessError, run

# The oldest Python this runs on (pyproject.toml, requires-python).
PYTHON_NEEDED = (3, 11)
# The oldest git that takes what the daemon keeps every git call safe with: the config in the environment.
GIT_NEEDED = (2, 31)
# A full disk refuses every message; below a GiB that is a matter of days.
DISK_NEEDED_BYTES = 100 * 1024**2
DISK_WANTED_BYTES = 1024**3
SERVICE_CHECK = "service"
LIMITS_CHECK = "limits"
_LIMITS_MEND = "see the docs: operating.md, limits of containers"
CREDENTIAL_VARIABLES = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")


async def check_machine(roots: Roots, environment: Mapping[str, str]) -> list[Check]:
    """Every check once, side by side, in the order to show them."""
    hive, silence = _ask_hive(roots)
    drivers, *probes = await asyncio.gather(
        check_drivers(Asked(roots, environment, hive)),
        _check_git(),
        check_program("prlimit", "util-linux"),
        _check_claude(environment),
        _check_service(roots, environment),
    )
    return [
        check_python(sys.version_info[:3]),
        *drivers,
        *probes,
        check_disk(roots.data),
        check_pages(Path(__file__).parent.parent),
        check_credential(roots, environment),
        check_modes(roots),
        *([silence, _check_limits_ahead()] if hive is None else [*_judge_hive(hive), *check_daemon(roots)]),
        check_notifiers(roots, environment),
    ]


def check_python(version: tuple[int, int, int]) -> Check:
    text = ".".join(str(part) for part in version)
    if version >= PYTHON_NEEDED:
        return ok("python", text)
    return missing("python", f"{text} is too old", render_install("python3"))


async def _check_git() -> Check:
    check = await check_program("git", "git")
    return check_git_version(check) if check.status is CheckStatus.OK else check


def check_git_version(check: Check) -> Check:
    """`check`, whose detail is what `git --version` says; missing if that is too old or cannot be told."""
    found = re.search(r"\b([0-9]{1,4})\.([0-9]{1,4})", check.detail)
    if found is not None and (int(found[1]), int(found[2])) >= GIT_NEEDED:
        return check
    needed = ".".join(str(part) for part in GIT_NEEDED)
    return missing(check.name, f"{check.detail}: configs need git {needed} or later", render_install(check.name))


def find_claude(environment: Mapping[str, str]) -> Path | None:
    """The claude CLI that agents run: HIVE_CLAUDE, or the one bundled with claude-agent-sdk."""
    if environment.get("HIVE_CLAUDE"):
        return Path(environment["HIVE_CLAUDE"])
    package = importlib.util.find_spec("claude_agent_sdk")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "_bundled/claude"


async def _check_service(roots: Roots, environment: Mapping[str, str]) -> Check:
    """Whether the hive is a service of systemd, and how that fares. It need not be one."""
    is_user = os.geteuid() != 0
    try:
        place = decide_place(user=is_user, environment=environment, uid=os.geteuid())
    except HiveError:
        return ok(SERVICE_CHECK, "none: HIVE_DATA names another hive's data")
    is_there = _is_there(place.units / SERVICE)
    if is_user and not is_there and MACHINE_UNIT.exists():
        return ok(SERVICE_CHECK, "one of the machine's, which root can look at")
    if place.roots != roots or not is_there:
        how = "services.hyperhive in the machine's configuration" if is_nixos() else place.install_command
        return ok(SERVICE_CHECK, f"none: {how} has the hive start with the machine")
    manager = Systemctl(user=is_user)
    trouble = manager.find_trouble(environment)
    if trouble:
        return warn(SERVICE_CHECK, f"installed, but {trouble}", "hive up")
    try:
        # Those of NixOS are written by nobody of us.
        stale = [] if is_nixos() else observe_stale_units(place)
        return judge_service(await manager.show(SERVICE), place, stale)
    except HiveError as error:
        return warn(SERVICE_CHECK, error.message, f"{place.systemctl} status {SERVICE}")


def _is_there(file: Path) -> bool:
    """Not in a folder of another user's, either: HOME may be one, by sudo."""
    try:
        return file.exists()
    except OSError:
        return False


def judge_service(seen: Mapping[str, str], place: Place, stale: Sequence[str]) -> Check:
    """What systemd says of the installed service; `stale` are units that are not as this version writes them."""
    state = f"{seen.get('ActiveState', 'unknown')} ({seen.get('SubState', 'unknown')})"
    if seen.get("ActiveState") == "failed":
        why = f"{state}, {seen.get('Result', 'unknown')}"
        return missing(SERVICE_CHECK, why, f"{place.journal} -n 50, then {place.systemctl} restart {SERVICE}")
    if seen.get("ActiveState") not in {"active", "activating"}:
        return warn(SERVICE_CHECK, state, f"{place.systemctl} start {SERVICE}")
    if seen.get("UnitFileState") != "enabled":
        return warn(SERVICE_CHECK, f"{state}, not at the next boot", f"{place.systemctl} enable {SERVICE}")
    if stale:
        names = ", ".join(stale)
        return warn(SERVICE_CHECK, f"{state}, with other units than this version's: {names}", place.install_command)
    restarts = seen.get("NRestarts", "0")
    return ok(SERVICE_CHECK, state if restarts == "0" else f"{state}, {restarts} restarts after a failure")


async def _check_claude(environment: Mapping[str, str]) -> Check:
    name, mend = "claude", f"{sys.executable} -m pip install --force-reinstall --no-deps claude-agent-sdk"
    program = find_claude(environment)
    if program is None:
        return missing(name, "the package claude-agent-sdk is not installed", mend)
    try:
        done = await run([str(program), "--version"], timeout_s=PROBE_TIMEOUT_S)
    except ProcessError as error:
        return missing(name, str(error), "unset HIVE_CLAUDE" if environment.get("HIVE_CLAUDE") else mend)
    if not done.ok:
        return missing(name, done.error_text or f"exit status {done.status}", mend)
    return ok(name, done.stdout.decode("utf-8", "replace").strip())


def check_disk(data: Path) -> Check:
    """The free space where the data folder is, or will be."""
    folder = next(parent for parent in (data, *data.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    detail = f"{render_size(free)} free for {data}"
    mend = f"free some space on the disk of {folder}, or choose another folder with HIVE_DATA"
    if free < DISK_NEEDED_BYTES:
        return missing("disk", detail, mend)
    return ok("disk", detail) if free >= DISK_WANTED_BYTES else warn("disk", detail, mend)


def check_pages(package: Path) -> Check:
    """Whether the dashboard's pages are in the installed package."""
    if (package / "host/api/pages/index.html").is_file():
        return ok("pages", "built")
    return missing("pages", "the dashboard's pages are not built", "./hive version")


def check_credential(roots: Roots, environment: Mapping[str, str]) -> Check:
    """Whether `hive up` finds an account, and keeps it to itself. Never shows any of it."""
    name = "credential"
    for variable in CREDENTIAL_VARIABLES:
        if environment.get(variable):
            return ok(name, f"{variable} in the environment")
    if roots.data == MACHINE_DATA and os.access(STORED_CREDENTIAL, os.R_OK):
        return ok(name, f"in {STORED_CREDENTIAL}, for the service")
    file = Path(environment.get("HIVE_CREDENTIAL") or roots.credential)
    try:
        status = file.stat()
    except OSError:
        return warn(name, "none: `hive up` needs one, `hive demo` does not", f"install -D -m 600 /dev/stdin {file}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        return missing(name, f"{file} is open to others", f"chmod 600 {file}")
    return ok(name, f"in {file}")


def check_modes(roots: Roots) -> Check:
    """Whether the hive's own files are closed to other users: to all but root's daemon, if it is root's hive."""
    name = "file modes"
    owners = {0, DAEMON_UID} if os.getuid() == 0 else {os.getuid()}
    for path in (roots.data, roots.database, roots.telemetry):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            return missing(name, f"{path}: {error.strerror}", "run this as the user of the hive")
        if status.st_uid not in owners:
            return warn(name, f"{path} belongs to another user", "run this as the user of the hive")
        # What the daemon's user was granted, or its group, in which nobody else is, stands where the group's rights do.
        is_daemons = status.st_gid == DAEMON_UID or find_user_rights(path, DAEMON_UID) != 0
        others = "o" if is_daemons else "go"
        if stat.S_IMODE(status.st_mode) & (0o002 if others == "o" else 0o022):
            return missing(name, f"{path} can be written by others", f"chmod {others}-w {path}")
    return ok(name, "closed to others" if roots.data.exists() else f"{roots.data} is not made yet")


def _ask_hive(roots: Roots) -> tuple[Row | None, Check]:
    """What the running hive says of itself, and why it says nothing."""
    try:
        return Client(roots, timeout_s=5).get_row("/api/hive"), ok("hive", "running")
    except HiveError as error:
        return None, warn("hive", error.message, "hive up")


def _judge_hive(hive: Row) -> list[Check]:
    return [ok("hive", f"running, version {hive.get('version', '?')}"), *judge_ports(hive), judge_limits(hive)]


def judge_ports(hive: Row) -> list[Check]:
    """What `/api/hive` says of agents whose page is not at their port; nothing if there is none."""
    problems = hive.get("port_problems")
    if not isinstance(problems, list) or not problems:
        return []
    told = [render_safe_line(str(problem)) for problem in problems]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return [warn("agent ports", "; ".join(told), "as it says, or hive up without HIVE_AGENT_PORTS")]


def judge_limits(hive: Row) -> Check:
    """What `/api/hive` says of the limits that containers get on this machine."""
    name, unlimited = LIMITS_CHECK, hive.get("unlimited")
    if not isinstance(unlimited, dict) or not unlimited:
        return ok(name, "memory, cpu and tasks of containers")
    reasons: dict[str, list[str]] = {}
    for key, reason in unlimited.items():  # pyright: ignore[reportUnknownVariableType]
        reasons.setdefault(render_safe_line(str(reason)), []).append(render_safe_line(str(key)))  # pyright: ignore[reportUnknownArgumentType]
    told = "; ".join(f"no limit of {', '.join(keys)}: {reason}" for reason, keys in reasons.items())
    return warn(name, told, _LIMITS_MEND)


def _check_limits_ahead() -> Check:
    try:
        trees = observe_trees()
    except (OSError, ValueError) as error:
        return warn(LIMITS_CHECK, f"not limited: the control groups cannot be read: {error}", _LIMITS_MEND)
    return judge_limits_ahead(trees, as_root=os.geteuid() == 0, managed=SYSTEMD_RUNS.is_dir())


def judge_limits_ahead(trees: Sequence[Tree], *, as_root: bool, managed: bool) -> Check:
    """What a hive that is not running could limit, as far as one sees without trying.

    `managed`: systemd is pid 1, and makes the groups.
    """
    there = {name for tree in trees for name in tree.controllers if as_root or managed or tree.version == 2}
    lacking = [key for key, controller in CONTROLLERS.items() if controller not in there]
    if not lacking:
        return ok(LIMITS_CHECK, f"{', '.join(CONTROLLERS)} could be limited; the hive tries it when it starts")
    why = "the kernel offers no controller" if as_root or managed else "control groups of version 1 are root's alone"
    return warn(LIMITS_CHECK, f"not limited: {', '.join(lacking)}: {why}", _LIMITS_MEND)


def check_notifiers(roots: Roots, environment: Mapping[str, str]) -> Check:
    """Whether what tells the operator outside of the pages arrives, as far as the running hive knows."""
    name = "notifiers"
    file = Path(environment.get("HIVE_NOTIFY") or roots.notify_urls)
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            return missing(name, f"{file} is open to others", f"chmod 600 {file}")
        state = Client(roots, timeout_s=5).get_row("/api/notifier")
    except FileNotFoundError:
        return ok(name, f"none: apprise URLs in {file} would tell you what needs you")
    except OSError as error:
        return missing(name, f"{file}: {error.strerror}", "run this as the user of the hive")
    except HiveError:
        return warn(name, "not known: no hive is running", "hive up")
    return judge_notifiers(state)


def judge_notifiers(state: Row) -> Check:
    """What `/api/notifier` says, in short."""
    name = "notifiers"
    if state.get("problem"):
        return warn(name, f"{line_field(state, 'file')}: {line_field(state, 'problem')}", "hive notify")
    channels = parse_rows(state.get("channels"))
    broken = [channel for channel in channels if channel.get("fault")]
    if broken:
        faults = [f"{line_field(channel, 'name')}: {line_field(channel, 'fault')}" for channel in broken]
        return warn(name, "; ".join(faults), "hive notify test")
    return ok(name, ", ".join(line_field(channel, "name") for channel in channels) or "none in the file")


def render_checks(checks: list[Check], screen: Screen) -> str:
    columns = [
        Column("CHECK", lambda check: check.name),
        Column("STATUS", lambda check: check.status.value, state=True),
        Column("DETAIL", lambda check: check.detail),
    ]
    mends = [f"{check.name}:  {check.mend}" for check in checks if check.status is not CheckStatus.OK and check.mend]
    table = render_table(columns, checks, screen)
    return "\n".join([table, "", "to mend:", *mends]) if mends else table
