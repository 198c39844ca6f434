"""`hive install`: the hive as a service of systemd, which starts with the machine and again after a crash."""

import asyncio
import contextlib
import grp
import os
import pwd
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hyperhive.cli.client import Client
from hyperhive.cli.console import show
from hyperhive.cli.units.files import FileState, UnitFile, observe_state, plan_files
from hyperhive.cli.units.place import SERVICE, STORED_CREDENTIAL, Place, decide_place, is_nixos
from hyperhive.cli.units.program import find_command_name, find_strangers, is_root, observe_program
from hyperhive.cli.units.settings import SETTINGS_TEXT, has_account, read_port
from hyperhive.cli.units.systemctl import START_TIMEOUT_S, Systemctl
from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, RefusedError, UnavailableError
from hyperhive.system.files import write_atomically
from hyperhive.system.process import ProcessError, run

# Its members may decide what agents become: see docs/reference/host-sock.md.
ADMIN_GROUP = "hive-admin"
_JOURNAL_LINES = 8

commands = typer.Typer()

User = Annotated[bool, typer.Option("--user", help="Of your own, without root.")]


@commands.command()
def install(
    systemd: Annotated[bool, typer.Option("--systemd", help="As a service of systemd.")] = False,
    user: User = False,
    admin_group: Annotated[
        bool, typer.Option("--admin-group", help=f"Make the group {ADMIN_GROUP} too, for desktop clients.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be written; change nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace units that were edited.")] = False,
) -> None:
    """Install the hive as a service that starts with the machine; again, to bring it up to date."""
    if not systemd:
        raise InvalidInputError("say as what it is to be installed", "hive install --systemd")
    refuse_nixos("set services.hyperhive.enable = true there, then nixos-rebuild switch")
    place = decide_place(user=user, environment=os.environ, uid=os.geteuid())
    program = observe_program()
    files = plan_files(place, program)
    if dry_run:
        show("\n".join(f"# -- {file.path}\n{file.text}" for file in files).rstrip())
        return
    asyncio.run(_install(place, files, admin_group=admin_group, force=force))
    if not user:
        _warn_of_strangers(find_strangers(program.folders))
    show(_render_done(place, find_command_name()))


async def _install(place: Place, files: Sequence[UnitFile], *, admin_group: bool, force: bool) -> None:
    manager = Systemctl(user=place.user)
    check_manager(place, manager)
    check_not_edited(files, force=force)
    is_running = (await manager.show(SERVICE)).get("ActiveState") in {"active", "activating", "reloading"}
    if not is_running:
        check_free(place)
    changed = [file for file in files if observe_state(file) is not FileState.CURRENT]
    for file in files:
        _write(file, is_new=file in changed)
    if not place.settings.exists():
        _write(UnitFile(place.settings, SETTINGS_TEXT), is_new=True, mode=0o600)
    if admin_group:
        await _make_group(place)
    await manager.call("daemon-reload")
    await manager.call("enable", SERVICE)
    # A restart leaves agents as they are: they go on, and the new daemon adopts them.
    verb = "restart" if is_running and changed else "start"
    started = await manager.attempt(verb, SERVICE, timeout_s=START_TIMEOUT_S)
    if not started.ok:
        raise UnavailableError(
            f"the service does not start:\n{await _read_journal(place)}",
            f"mend it, then `{place.systemctl} restart {SERVICE}`; all of its log: {place.journal}",
        )


def refuse_nixos(hint: str) -> None:
    """Raises RefusedError where the machine's own configuration says which services there are."""
    if is_nixos():
        raise RefusedError("services of NixOS are a part of the machine's configuration", hint)


def check_manager(place: Place, manager: Systemctl) -> None:
    """Raises RefusedError or UnavailableError if services cannot be managed here."""
    trouble = manager.find_trouble(os.environ)
    if trouble:
        raise UnavailableError(trouble, "hive up runs the hive in the foreground")
    if not place.user and not is_root():
        raise RefusedError(
            "only root can install a service of the machine",
            f"sudo {find_command_name()} install --systemd, or one of your own: hive install --systemd --user",
        )


def check_not_edited(files: Sequence[UnitFile], *, force: bool) -> None:
    """Raises ConflictError for a unit that is not as an install wrote it, unless `force`."""
    for file in files:
        state = observe_state(file)
        if force or state not in {FileState.EDITED, FileState.FOREIGN}:
            continue
        told = "was edited" if state is FileState.EDITED else "was not written by `hive install`"
        raise ConflictError(
            f"{file.path} {told}", "keep changes in a drop-in (systemctl edit), then say --force: it is replaced"
        )


def check_free(place: Place) -> None:
    """Raises ConflictError if another hive works on the data folder, or a program has the dashboard's port."""
    with contextlib.suppress(HiveError):
        Client(place.roots, timeout_s=5).get("/api/hive")
        raise ConflictError(
            f"a hive runs on {place.roots.data} already, outside of systemd",
            "hive down, then this again: the service starts the same agents",
        )
    port = read_port(place.settings)
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
        except OSError as error:
            raise ConflictError(
                f"port {port} is taken by another program",
                f"end it, or choose another: a line HIVE_PORT=N in {place.settings}",
            ) from error


def _write(file: UnitFile, *, is_new: bool, mode: int = 0o644) -> None:
    if not is_new:
        show(f"unchanged {file.path}")
        return
    try:
        file.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(file.path, file.text.encode(), mode)
    except OSError as error:
        raise UnavailableError(f"{file.path} cannot be written: {error.strerror}") from error
    show(f"wrote {file.path}")


async def _make_group(place: Place) -> None:
    if place.user:
        raise RefusedError(f"only root can make the group {ADMIN_GROUP}", "a hive of your own needs none")
    try:
        gid = grp.getgrnam(ADMIN_GROUP).gr_gid
    except KeyError:
        try:
            done = await run(["groupadd", "--system", ADMIN_GROUP], timeout_s=60)
        except ProcessError as error:
            raise UnavailableError(str(error), f"make the group {ADMIN_GROUP} by hand") from error
        if not done.ok:
            raise UnavailableError(f"the group {ADMIN_GROUP} cannot be made: {done.error_text}") from None
        show(f"made the group {ADMIN_GROUP}; who is to be in it: usermod -aG {ADMIN_GROUP} NAME")
    else:
        show(f"unchanged the group {ADMIN_GROUP} ({gid})")


async def _read_journal(place: Place) -> str:
    """The end of what the service wrote."""
    scope = ["--user"] if place.user else []
    argv = ["journalctl", *scope, "-u", SERVICE, "-n", str(_JOURNAL_LINES), "-o", "cat", "--no-pager"]
    try:
        return (await run(argv, timeout_s=30)).stdout.decode("utf-8", "replace").rstrip()
    except ProcessError as error:
        return str(error)


def _warn_of_strangers(told: Sequence[str]) -> None:
    for sentence in told:
        print(f"warning: {sentence}: whoever that is decides what root runs", file=sys.stderr)


def _render_done(place: Place, command: str) -> str:
    lines = [
        f"the hive runs, and starts with {'your session' if place.user else 'the machine'}",
        f"dashboard  {command} url",
        f"log        {place.journal} -f",
        f"settings   {place.settings}, then {place.systemctl} restart hyperhive: agents go on meanwhile",
    ]
    if not has_account(place):
        file = place.roots.credential if place.user else STORED_CREDENTIAL
        lines.append(f"account    none yet: install -D -m 600 /dev/stdin {file}, then restart; or {command} login NAME")
    if place.user and not Path("/var/lib/systemd/linger", pwd.getpwuid(os.geteuid()).pw_name).exists():
        lines.append("it ends with your last session, unless you say: loginctl enable-linger")
    return "\n".join(lines)
