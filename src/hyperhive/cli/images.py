"""Commands about images, what containers have for a system: images list, verify, rm, prune."""

from typing import Annotated
from urllib.parse import quote

import typer

from hyperhive.cli.client import Row, find_hive, parse_row, parse_rows
from hyperhive.cli.console import JsonOption, YesOption, confirm_once, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_size, render_table
from hyperhive.core.text import render_safe_line

# All of an image is read, and of some disks slowly.
_WORK_TIMEOUT_S = 1800.0
_SHOWN_AGENTS = 3
_SHOWN_PACKAGES = 4

commands = typer.Typer()
images = typer.Typer(no_args_is_help=True, help="See what containers have for a system.")
commands.add_typer(images, name="images")

ImageId = Annotated[str, typer.Argument(metavar="ID", help="Of `hive images list`.")]


@images.command(name="list")
def list_images(as_json: JsonOption = False) -> None:
    """List the base and the layers of packages, and which agents need them."""
    rows = find_hive().get_rows("/api/images")
    if as_json:
        show_json(rows)
    else:
        show(render_images(rows, observe_screen()))


@images.command()
def verify(
    image_id: Annotated[str, typer.Argument(metavar="[ID]", help="Of one alone; without it, of all.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Read images again and tell what differs from what was built; exit status 1 if anything does."""
    hive = find_hive(timeout_s=_WORK_TIMEOUT_S)
    wanted = [image_id] if image_id else [str(row.get("id")) for row in hive.get_rows("/api/images")]
    checks = [parse_row(hive.post(f"/api/images/{quote(wanted_id, safe='')}/verify")) for wanted_id in wanted]
    if as_json:
        show_json(checks)
    else:
        show(render_verdicts(checks, observe_screen()))
    if any(check.get("problem") for check in checks):
        raise typer.Exit(1)


@images.command()
def rm(image_id: ImageId, yes: YesOption = False) -> None:
    """Remove an image that no agent needs, or that differs from what was built."""
    confirm_once(f"Remove {render_safe_line(image_id)}?", yes=yes)
    find_hive(timeout_s=_WORK_TIMEOUT_S).delete(f"/api/images/{quote(image_id, safe='')}")
    show(f"removed {render_safe_line(image_id)}")


@images.command()
def prune(yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Remove all images that no agent needs."""
    confirm_once("Remove all images that no agent needs?", yes=yes)
    row = parse_row(find_hive(timeout_s=_WORK_TIMEOUT_S).post("/api/images/prune"))
    if as_json:
        show_json(row)
    else:
        show(render_pruned(row))


def render_images(rows: list[Row], screen: Screen) -> str:
    if not rows:
        return "there are no images: either none was built yet, or containers have this machine's own system"
    columns = [
        Column("ID", lambda row: field(row, "id")),
        Column("SIZE", lambda row: "?" if row.get("size_bytes") is None else render_size(row["size_bytes"])),
        Column("BUILT", lambda row: f"{render_age(field(row, 'built_at'), screen.now)} ago" if _is_known(row) else "?"),
        Column("AGENTS", _render_agents),
        Column("WHAT", _render_what),
    ]
    return render_table(columns, rows, screen)


def render_verdicts(checks: list[Row], screen: Screen) -> str:
    """A line an image, below it what differs."""
    if not checks:
        return "there are no images"
    lines: list[str] = []
    for check in checks:
        problem = line_field(check, "problem")
        lines.append(f"{line_field(check, 'id')}: {screen.bad(problem) if problem else 'as it was built'}")
        differences = parse_rows(check.get("differences", []))
        lines += [f"  {line_field(one, 'change'):8} {line_field(one, 'path')}" for one in differences]
        if isinstance(check.get("count"), int) and check["count"] > len(differences):
            lines.append(f"  … {check['count'] - len(differences):,} more")
        if problem and check.get("hint"):
            lines.append(f"  {line_field(check, 'hint')}")
    return "\n".join(lines)


def render_pruned(row: Row) -> str:
    removed = row.get("removed")
    if not isinstance(removed, list) or not removed:
        return "every image is needed"
    count = len(removed)  # pyright: ignore[reportUnknownArgumentType]
    freed = render_size(row.get("freed_bytes", 0))
    return f"removed {count} image{'' if count == 1 else 's'}: {freed} are free again"


def _is_known(row: Row) -> bool:
    return bool(row.get("built_at"))


def _render_agents(row: Row) -> str:
    agents = [str(name) for name in row.get("used_by", [])]
    shown = ", ".join(agents[:_SHOWN_AGENTS])
    if len(agents) > _SHOWN_AGENTS:
        shown += f" and {len(agents) - _SHOWN_AGENTS} more"
    return shown or ("none, but a container runs on it" if row.get("mounted") else "none")


def _render_what(row: Row) -> str:
    if row.get("problem"):
        return line_field(row, "problem")
    if field(row, "kind") == "base":
        return f"the base, of {line_field(row, 'suite')}"
    packages = sorted(str(name) for name in row.get("packages", {}))
    more = len(packages) - _SHOWN_PACKAGES
    return ", ".join(packages[:_SHOWN_PACKAGES]) + (f" and {more} more" if more > 0 else "")
