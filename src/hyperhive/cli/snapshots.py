"""Commands about snapshots of whole agents: snapshot AGENT, snapshots, snapshot rm, restore, fork, export, import."""

import contextlib
import hashlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from typer.core import TyperGroup

from hyperhive.cli.agents import Name
from hyperhive.cli.client import Client, Row, find_hive, parse_row
from hyperhive.cli.console import JsonOption, YesOption, confirm_once, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_full_table, render_size
from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, StorageError
from hyperhive.core.names import parse_agent_name, parse_known_agent_name

# What comes beside the wait for a turn: many gigabytes are copied, packed and unpacked.
_WORK_TIMEOUT_S = 3600.0


class _TakesByDefault(TyperGroup):
    """`hive snapshot alice` is `hive snapshot take alice`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["take", *args]
        return super().resolve_command(ctx, args)


commands = typer.Typer()
snapshot = typer.Typer(no_args_is_help=True, cls=_TakesByDefault, help="Keep whole agents, and bring them back.")
commands.add_typer(snapshot, name="snapshot")

SnapshotId = Annotated[int, typer.Argument(metavar="ID", min=1, help="Of `hive snapshots`.")]
WaitOption = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, max=3600, help="For the end of a running turn.")
]
CredentialsOption = Annotated[bool, typer.Option("--with-credentials", help="With the agent's own login.")]


@snapshot.command()
def take(
    name: Name,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for.")] = "",
    with_credentials: CredentialsOption = False,
    wait: WaitOption = 300,
    as_json: JsonOption = False,
) -> None:
    """Take a snapshot of an agent between two turns; `hive snapshot NAME` is the same."""
    agent = parse_known_agent_name(name)
    body = {"agent": agent, "note": note, "with_credentials": with_credentials, "wait_s": wait}
    row = parse_row(_find_patient_hive(wait).post("/api/snapshots", body))
    if as_json:
        show_json(row)
        return
    show(f"took snapshot {field(row, 'id')} of {agent}: {render_size(row.get('size_bytes', 0))}")
    if row.get("left_out"):
        show(f"{field(row, 'left_out')} files are not in it, such as pipes and sockets; its summary.json names them")


@commands.command()
def snapshots(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of this agent only; it may be gone.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the snapshots of agents."""
    query = {"agent": parse_known_agent_name(name)} if name else None
    rows = find_hive().get_rows("/api/snapshots", query)
    if as_json:
        show_json(rows)
    else:
        show(render_snapshots(rows, observe_screen()))


@snapshot.command()
def rm(identity: SnapshotId, yes: YesOption = False) -> None:
    """Remove a snapshot."""
    confirm_once(f"Remove snapshot {identity}?", yes=yes)
    find_hive().delete(f"/api/snapshots/{identity}")


@snapshot.command()
def restore(
    identity: SnapshotId,
    replay: Annotated[bool, typer.Option("--replay", help="Hand out again what it handled since then.")] = False,
    with_credentials: Annotated[
        bool, typer.Option("--with-credentials", help="With the login in it, if the agent has none now.")
    ] = False,
    wait: WaitOption = 300,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an agent what it was, also one that was destroyed or purged; what is there now is kept as a snapshot."""
    confirm_once(f"Replace state, conversation and config of its agent by snapshot {identity}?", yes=yes)
    body = {"replay": replay, "with_credentials": with_credentials, "wait_s": wait}
    row = parse_row(_find_patient_hive(wait).post(f"/api/snapshots/{identity}/restore", body))
    if as_json:
        show_json(row)
    else:
        show(render_restored(row))


@snapshot.command()
def fork(
    identity: SnapshotId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the new agent.")],
    with_credentials: CredentialsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new agent of a snapshot, with an inbox and a budget of its own."""
    body = {"name": parse_agent_name(name), "with_credentials": with_credentials}
    row = parse_row(_find_patient_hive(0).post(f"/api/snapshots/{identity}/fork", body))
    if as_json:
        show_json(row)
    else:
        show(f"made {line_field(row, 'agent')} of snapshot {identity}; `hive ps` shows how it starts")


@snapshot.command()
def export(
    identity: SnapshotId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.")],
    with_credentials: CredentialsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a snapshot to a file, for another hive."""
    hive = _find_patient_hive(0)
    pieces = hive.read_pieces(f"/api/snapshot-files/{identity}", {"with_credentials": str(with_credentials).lower()})
    size_bytes, sha256 = _save(pieces, file)
    if as_json:
        show_json({"file": str(file), "size_bytes": size_bytes, "sha256": sha256})
    else:
        show(f"{file}: {render_size(size_bytes)}, sha256 {sha256}")


@snapshot.command(name="import")
def import_snapshot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of `hive snapshot export`.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Of the agent here.")] = "",
    with_credentials: CredentialsOption = False,
    sha256: Annotated[str, typer.Option("--sha256", metavar="HEX", help="Only if the file is that one.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take over a snapshot of another hive; `hive snapshot restore` makes an agent of it."""
    query = {"name": name and parse_known_agent_name(name), "with_credentials": str(with_credentials).lower()}
    with _opened(file) as content:
        size_bytes = os.fstat(content.fileno()).st_size
        row = parse_row(
            _find_patient_hive(0).send_file("/api/snapshot-files", {**query, "sha256": sha256}, content, size_bytes)
        )
    if as_json:
        show_json(row)
    else:
        number, agent = field(row, "id"), line_field(row, "agent")
        show(f"took over snapshot {number} of {agent}; `hive snapshot restore {number}` brings it back")


def render_snapshots(rows: list[Row], screen: Screen) -> str:
    if not rows:
        return "there are no snapshots; `hive snapshot NAME` takes one"
    columns = [
        Column("ID", lambda row: field(row, "id")),
        Column("AGENT", lambda row: line_field(row, "agent")),
        Column("AGE", lambda row: render_age(field(row, "at"), screen.now)),
        Column("SIZE", lambda row: render_size(row.get("size_bytes", 0)) if row.get("state") == "ready" else "-"),
        Column("TURNS", lambda row: field(row, "turns")),
        Column("CONFIG", lambda row: field(row, "commit")[:12]),
        Column("WHAT", _render_what),
    ]
    return render_full_table(columns, rows, screen)


def _render_what(row: Row) -> str:
    marks = [word for key, word in (("imported", "imported"), ("with_credentials", "with its login")) if row.get(key)]
    if row.get("state") != "ready":
        marks.append("being taken")
    return ", ".join([*([line_field(row, "note")] if row.get("note") else []), *marks])


def render_restored(row: Row) -> str:
    agent = line_field(row, "agent")
    lines = [f"restored {agent}; `hive ps` shows how it starts"]
    if row.get("approval"):
        lines.append(f"its config is that of the snapshot again: approval {field(row, 'approval')}")
    if row.get("replayed"):
        lines.append(f"{field(row, 'replayed')} messages that it handled since then are handed out again")
    if row.get("undo"):
        lines.append(f"what was there before is kept: `hive snapshot restore {field(row, 'undo')}`")
    return "\n".join(lines)


def _find_patient_hive(wait_s: float) -> Client:
    return find_hive(timeout_s=wait_s + _WORK_TIMEOUT_S)


def _save(pieces: Iterator[bytes], file: Path) -> tuple[int, str]:
    """Writes the new file, for nobody else's eyes; nothing of it is left if that fails. Its size and SHA-256."""
    # What the hive refuses makes no file.
    first = next(pieces, b"")
    digest, size_bytes = hashlib.sha256(), 0
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise ConflictError(f"{file} is there already", "name another file") from error
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}", "is there such a folder?") from error
    try:
        with os.fdopen(handle, "wb") as target:
            piece = first
            while piece:
                target.write(piece)
                digest.update(piece)
                size_bytes += len(piece)
                piece = next(pieces, b"")
            target.flush()
            os.fsync(handle)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise StorageError(f"{file} cannot be written: {error.strerror}", "is there room for it?") from error
    except HiveError:
        file.unlink(missing_ok=True)
        raise
    return size_bytes, digest.hexdigest()


@contextlib.contextmanager
def _opened(file: Path) -> Generator[BinaryIO]:
    try:
        content = file.open("rb")
    except OSError as error:
        raise NotFoundError(
            f"{file} cannot be read: {error.strerror}", "name a file of `hive snapshot export`"
        ) from error
    with content:
        yield content
