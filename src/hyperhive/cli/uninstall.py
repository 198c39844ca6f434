"""`hive uninstall`: takes the service away. What the hive knows is kept, unless it is to go, too."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hyperhive.cli.client import Client, Row
from hyperhive.cli.console import YesOption, confirm_once, show
from hyperhive.cli.hive import DOWN_TIMEOUT_S
from hyperhive.cli.install import ADMIN_GROUP, User, check_manager, check_not_edited, refuse_nixos
from hyperhive.cli.units.files import FileState, UnitFile, observe_state, plan_files
from hyperhive.cli.units.place import SERVICE, SLICE, Place, decide_place
from hyperhive.cli.units.program import observe_program
from hyperhive.cli.units.settings import SETTINGS_TEXT
from hyperhive.cli.units.systemctl import Systemctl
from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, UnavailableError
from hyperhive.system.pids import wait_gone

_AT_REST = frozenset({"stopped", "failed", "crashed"})
_STOP_TIMEOUT_S = 120.0

commands = typer.Typer()


@commands.command()
def uninstall(
    user: User = False,
    purge_data: Annotated[
        bool, typer.Option("--purge-data", help="Remove messages, configs, agents' files: all of it.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Remove units that were edited, too.")] = False,
    yes: YesOption = False,
) -> None:
    """Stop the agents and remove the service. The data is kept, unless you say --purge-data."""
    refuse_nixos("hive down, take services.hyperhive out of it, then nixos-rebuild switch: the data is kept")
    place = decide_place(user=user, environment=os.environ, uid=os.geteuid())
    files = plan_files(place, observe_program())
    manager = Systemctl(user=user)
    check_manager(place, manager)
    if all(observe_state(file) is FileState.ABSENT for file in files) and not purge_data:
        raise NotFoundError("no service of the hive is installed", f"{place.install_command} installs one")
    check_not_edited(files, force=force)
    agents = _find_agents(place)
    if agents is not None:
        asyncio.run(_check_own_hive(place, manager))
    confirm_once(_render_question(agents, place, purge_data=purge_data), yes=yes)
    asyncio.run(_end(place, manager))
    for path in (*(file.path for file in files), *_list_own_settings(place)):
        _remove_file(path)
    asyncio.run(_forget(manager))
    _remove_folder(place.roots.run)
    if purge_data:
        check_unmounted(place.roots.data, Path("/proc/self/mountinfo").read_text())
        _remove_folder(place.roots.data)
    show(render_left(_list_left(place)))


def check_unmounted(folder: Path, mounts: str) -> None:
    """Raises ConflictError if something is mounted below `folder`: it would be emptied, too."""
    points = [Path(_parse_mount_point(line)) for line in mounts.splitlines()]
    inside = [point for point in points if point != folder and point.is_relative_to(folder)]
    if inside:
        raise ConflictError(f"{inside[0]} is mounted there: nothing of {folder} is removed", f"umount {inside[0]}")


def render_left(left: Sequence[str]) -> str:
    """What the operator still finds of the hive on this machine."""
    return "\n".join(["the service is gone", *(f"left: {line}" for line in left)])


def _parse_mount_point(line: str) -> str:
    """Of a line of mountinfo, in which a blank is written \\040."""
    return line.split()[4].encode("latin-1", "backslashreplace").decode("unicode_escape")


def _find_agents(place: Place) -> list[Row] | None:
    """The agents that run; None if no daemon is there that could tell."""
    try:
        rows = Client(place.roots, timeout_s=10).get_rows("/api/agents")
    except HiveError:
        return None
    return [row for row in rows if row.get("state") not in _AT_REST]


async def _check_own_hive(place: Place, manager: Systemctl) -> None:
    """Raises ConflictError if the hive that answers is not the service's."""
    if (await manager.show(SERVICE)).get("MainPID") in {None, "", "0"}:
        raise ConflictError(f"a hive runs on {place.roots.data}, outside of systemd", "hive down, then this again")


def _render_question(agents: list[Row] | None, place: Place, *, purge_data: bool) -> str:
    running = "whatever agents still run" if agents is None else f"{len(agents)} running agents"
    data = f" and ALL DATA in {place.roots.data}" if purge_data else ""
    return f"Stop {running}, remove the service{data}?"


async def _end(place: Place, manager: Systemctl) -> None:
    """Ends daemon and agents, in order as far as they let it."""
    with contextlib.suppress(HiveError):
        client = Client(place.roots, timeout_s=DOWN_TIMEOUT_S)
        daemon = client.find_daemon()
        client.post("/api/shutdown")
        if daemon is not None:
            await wait_gone(daemon, DOWN_TIMEOUT_S)
    # An install that never came to its end may have left only some of these.
    for arguments in (("disable", SERVICE), ("stop", SERVICE), ("stop", SLICE)):
        await manager.attempt(*arguments, timeout_s=_STOP_TIMEOUT_S)
    # Containers that a daemon which is gone could give no control group of their own.
    await manager.attempt("kill", "--signal=SIGKILL", SERVICE)
    state = (await manager.show(SERVICE)).get("ActiveState")
    if state not in {"inactive", "failed", None}:
        raise UnavailableError(f"the service does not end: it is {state}", f"see {place.systemctl} status {SERVICE}")


async def _forget(manager: Systemctl) -> None:
    await manager.call("daemon-reload")
    # Of a unit that failed and is gone it is still told that it failed.
    await manager.attempt("reset-failed", SERVICE)


def _list_own_settings(place: Place) -> list[Path]:
    """The file of settings, if it is still as it was made."""
    is_own = observe_state(UnitFile(place.settings, SETTINGS_TEXT)) is FileState.CURRENT
    return [place.settings] if is_own else []


def _list_left(place: Place) -> list[str]:
    paths = [place.roots.data, place.settings, place.drop_ins, place.units / f"{SLICE}.d"]
    left = [str(path) for path in paths if path.exists()]
    with contextlib.suppress(OSError):
        if any(line.startswith(f"{ADMIN_GROUP}:") for line in Path("/etc/group").read_text().splitlines()):
            left.append(f"the group {ADMIN_GROUP}: groupdel {ADMIN_GROUP}")
    return left


def _remove_file(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnavailableError(f"{path} cannot be removed: {error.strerror}") from error
    show(f"removed {path}")
    with contextlib.suppress(OSError):
        if path.parent.name == "hyperhive":
            path.parent.rmdir()


def _remove_folder(folder: Path) -> None:
    """All of it, with no link followed out of it: agents wrote there."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnavailableError(f"{folder} cannot be removed: {error}") from error
    show(f"removed {folder}")
