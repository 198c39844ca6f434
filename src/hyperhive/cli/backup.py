"""The commands `backup` and `restore`: a data folder as one file, and back. No daemon is asked for either."""

import signal
import sys
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Self

import typer

from hyperhive.cli.audit_files import leave_note
from hyperhive.cli.backups.restore import restore_backup
from hyperhive.cli.backups.take import Backup, take_backup
from hyperhive.cli.client import Row, decide_own_roots
from hyperhive.cli.console import JsonOption, show, show_json
from hyperhive.cli.hive import Data
from hyperhive.cli.rendering import render_size
from hyperhive.core.audit import AuditName
from hyperhive.system.left_out import LeftOut

commands = typer.Typer()

# A line on a terminal for each of these.
_STEP_BYTES = 16 * 1024 * 1024
# Names of what was left out that are shown; the archive's summary.json has more.
_SHOWN = 20


@commands.command()
def backup(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A new file; without it, one named by the time, here.")
    ] = None,
    data: Data = None,
    with_credentials: Annotated[
        bool, typer.Option("--with-credentials", help="With keys, tokens and agents' logins.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the whole data folder to one file; the hive may run."""
    _end_in_order()
    target = Path.cwd() / (file or f"hive-backup-{datetime.now().astimezone():%Y-%m-%dT%H%M%S}.tar.gz")
    with _Progress("packed") as progress:
        taken = take_backup(
            decide_own_roots(data).data, target, with_credentials=with_credentials, advance=progress.advance
        )
    body = {"file": str(target), "size_bytes": taken.size_bytes, "with_credentials": with_credentials}
    leave_note(decide_own_roots(data).data, AuditName.BACKUP_TAKEN, body)
    if as_json:
        show_json(describe_backup(taken))
    else:
        show(render_backup(taken))


@commands.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `hive backup`.")],
    data: Data = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data folder of a backup; there must be none yet, or an empty one."""
    _end_in_order()
    with _Progress("unpacked") as progress:
        restored = restore_backup(Path.cwd() / file, decide_own_roots(data), progress.advance)
    manifest = restored.manifest
    if as_json:
        show_json(
            {
                "data": str(restored.data),
                "entries": restored.entries,
                "version": manifest.version,
                "taken_at": manifest.taken_at,
                "agents": list(manifest.agents),
                "with_credentials": manifest.with_credentials,
            }
        )
        return
    count = len(manifest.agents)
    show(f"restored {count} agent{'' if count == 1 else 's'} as of {manifest.taken_at} into {restored.data}")
    if not manifest.with_credentials:
        show("keys and logins are not in it: put the credential back, log agents in, enable devices anew")
    show(f"start it with `hive up --data {restored.data}`; the hive that it is a copy of must not run as well")


def describe_backup(taken: Backup) -> Row:
    return {
        "file": str(taken.path),
        "size_bytes": taken.size_bytes,
        "entries": taken.entries,
        "version": taken.manifest.version,
        "schemas": taken.manifest.schemas,
        "taken_at": taken.manifest.taken_at,
        "agents": list(taken.manifest.agents),
        "with_credentials": taken.manifest.with_credentials,
        "left_out_count": taken.left_out.count,
        "left_out": [{"path": path, "reason": reason} for path, reason in taken.left_out.named],
    }


def render_backup(taken: Backup) -> str:
    """What was left out, what stayed in, and at the end a line with the size and how to restore."""
    lines = render_left_out(taken.left_out)
    if taken.manifest.with_credentials:
        lines.append("keys, tokens and logins are in it: keep it where nobody else reads it")
    else:
        lines.append("in the database, and so in it: messages, hashes of tokens and sessions, secrets of webhooks")
    size = render_size(taken.size_bytes)
    lines.append(f"{taken.path}: {size}; `hive restore {taken.path} --data DIR` restores it into a new folder")
    return "\n".join(lines)


def render_left_out(left_out: LeftOut) -> list[str]:
    if not left_out.count:
        return []
    lines = [f"left out: {left_out.count}"]
    lines += [f"  {path}: {reason}" for path, reason in left_out.named[:_SHOWN]]
    if left_out.count > _SHOWN:
        lines.append(f"  and {left_out.count - _SHOWN} more; summary.json in the archive names them")
    return lines


class _Progress:
    """How many bytes went by, on standard error if that is a terminal."""

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._done_bytes = 0
        self._shown_bytes = 0
        self._is_shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown_bytes:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def advance(self, size_bytes: int) -> None:
        self._done_bytes += size_bytes
        if self._is_shown and self._done_bytes - self._shown_bytes >= _STEP_BYTES:
            self._shown_bytes = self._done_bytes
            print(f"\r{self._verb} {render_size(self._done_bytes)}", end="", file=sys.stderr, flush=True)


def _end_in_order() -> None:
    """Has a wish to end undo what is half done, as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_exit)


def _raise_exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
