"""What an approval changes of an agent's system, below its review: asked for after that, as it may take minutes."""

import contextlib
import sys
from collections.abc import Generator, Iterator
from typing import Any

from hyperhive.cli.client import NoHiveError, Row, find_hive, parse_row, parse_rows
from hyperhive.cli.diffs import render_sign
from hyperhive.cli.rendering import (
    Column,
    Screen,
    field,
    render_block,
    render_exact_line,
    render_full_table,
    render_size,
)
from hyperhive.core.errors import HiveError, render_error

# Two evaluations and a look into the store, of a minute at most each, behind others that ask.
WORK_TIMEOUT_S = 400.0

_TITLE = "packages of the agent's system"


def load_system(approval: int) -> tuple[Row | None, str]:
    """What is worked out now, or None and why it cannot be told. Raises NoHiveError."""
    with _say_at_work():
        try:
            return parse_row(find_hive(timeout_s=WORK_TIMEOUT_S).get(f"/api/approvals/{approval}/system")), ""
        except NoHiveError:
            raise
        except HiveError as error:
            return None, render_error(error)


@contextlib.contextmanager
def _say_at_work() -> Generator[None]:
    """Says on standard error, if that is a terminal, why nothing comes; takes it back afterwards."""
    shown = sys.stderr.isatty()
    if shown:
        print("working out the packages of its system …", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def render_system(change: Row | None, problem: str, screen: Screen) -> str:
    """Packages and sizes, or why they are not known. Names are whatever the config says that they are."""
    if change is None:
        return render_block(f"{screen.title(_TITLE)}, {screen.bad('cannot be told:')}", problem, screen)
    beyond = "" if change.get("base") else ", beyond one of which its config says nothing"
    rows = parse_rows(change.get("packages") or [])
    lines = [screen.title(_TITLE) + beyond]
    if not rows:
        return "\n".join([*lines, "none comes, goes or becomes another"])
    columns = [
        Column("", lambda row: render_sign(field(row, "change"))),
        Column("PACKAGE", lambda row: field(row, "name")),
        Column("BEFORE", lambda row: field(row, "before")),
        Column("AFTER", lambda row: field(row, "after")),
    ]
    lines.append(render_full_table(columns, rows, screen))
    left_out = _count(change, "left_out")
    if left_out:
        lines.append(f"and {left_out} more packages")
    if change.get("problem"):
        lines.append(render_block("what it takes on the disk is not known:", str(change["problem"]), screen))
        return "\n".join(lines)
    sizes = ", ".join(_render_sizes(change))
    lines.extend([sizes] if sizes else [])
    lines.extend(_render_built(change, screen))
    return "\n".join(lines)


def _render_sizes(change: Row) -> Iterator[str]:
    added, removed, download = (_count(change, f"{name}_bytes") for name in ("added", "removed", "download"))
    if added or not change.get("built"):
        yield f"{render_size(added)} more on the disk" if added else "nothing more on the disk"
    if removed:
        yield f"at most {render_size(removed)} no longer needed"
    if download:
        yield f"{render_size(download)} to download"


def _render_built(change: Row, screen: Screen) -> Iterator[str]:
    names: list[Any] = change.get("built") or []
    if names:
        what = "a package is" if len(names) == 1 else f"{len(names)} packages are"
        shown = ", ".join(render_exact_line(str(name)) for name in names)
        yield render_block(f"{what} built here, of a size that is not known:", shown, screen)


def _count(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
