"""Commands about approvals: pending, approve, deny."""

from typing import Annotated, Any

import typer

from hyperhive.cli.client import find_hive
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Screen, line_field, render_age, render_block
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.errors import HiveError

commands = typer.Typer()

Id = Annotated[int, typer.Argument(metavar="ID", min=1)]


@commands.command()
def pending(as_json: JsonOption = False) -> None:
    """Show what waits for your approval, in full."""
    rows = find_hive().get_rows("/api/approvals", {"status": ApprovalStatus.PENDING})
    if as_json:
        show_json(rows)
    else:
        show(render_approvals(rows, observe_screen()))


def render_approvals(rows: list[dict[str, Any]], screen: Screen) -> str:
    blocks: list[str] = []
    for row in rows:
        age = render_age(str(row.get("requested_at")), screen.now)
        what = f"#{line_field(row, 'id')} {line_field(row, 'kind')} {line_field(row, 'agent')}"
        head = f"{screen.title(what)}, asked for by {line_field(row, 'requested_by')} {age} ago"
        # What is asked for is never cut: the operator decides on all of it.
        blocks.append(render_block(head, str(row.get("description") or "(no description)")))
    if not blocks:
        return "nothing waits for you"
    return "\n\n".join([*blocks, screen.dim("hive approve ID · hive deny ID --reason TEXT")])


@commands.command()
def approve(approval: Id) -> None:
    """Approve a request. What it asks for is done at once."""
    answer: Any = find_hive().post(f"/api/approvals/{approval}/approve")
    if isinstance(answer, dict) and answer.get("status") == ApprovalStatus.FAILED:  # pyright: ignore[reportUnknownMemberType]
        raise HiveError(
            f"approval {approval} failed: {line_field(answer, 'reason')}",
            "nothing of it is left; it can be asked again",
        )
    show(f"approved {approval}")


@commands.command()
def deny(
    approval: Id,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; the one who asked reads it.")] = "",
) -> None:
    """Deny a request. Nothing of it happens."""
    find_hive().post(f"/api/approvals/{approval}/deny", {"reason": reason})
    show(f"denied {approval}")
