"""Commands about approvals: pending, show, approve, deny."""

import time
from typing import Annotated

import typer

from hyperhive.cli.client import Client, NoHiveError, Row, find_hive, parse_id, parse_row
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.diffs import DiffStyle
from hyperhive.cli.own_hand import check_own_hand
from hyperhive.cli.rendering import Screen, field, line_field
from hyperhive.cli.review import Request, render_request, render_review
from hyperhive.cli.system_change import load_system, render_system
from hyperhive.core.approvals import AT_WORK, ApprovalStatus
from hyperhive.core.errors import HiveError

# A build takes seconds to minutes.
WAIT_INTERVAL_S = 0.5

commands = typer.Typer()

Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The number of the approval: see `hive pending`.")]
WaitOption = Annotated[bool, typer.Option("--wait", "-w", help="Return when it is deployed, or has failed.")]


@commands.command()
def pending(as_json: JsonOption = False) -> None:
    """Show what waits for your approval, in full."""
    hive = find_hive()
    rows = hive.get_rows("/api/approvals", {"status": ApprovalStatus.PENDING})
    if as_json:
        show_json(rows)
    else:
        show(render_approvals([_load_request(hive, row) for row in rows], observe_screen()))


def _load_request(hive: Client, row: Row) -> Request:
    if not row.get("commit"):
        return Request(row)
    try:
        return Request(row, hive.get_row(f"/api/approvals/{parse_id(row)}/review"))
    except NoHiveError:
        raise
    except HiveError as error:
        # One that cannot be shown, perhaps decided a moment ago, hides none of the others.
        return Request(row, problem=error.message)


def render_approvals(requests: list[Request], screen: Screen) -> str:
    if not requests:
        return "nothing waits for you"
    blocks = [render_request(request, screen) for request in requests]
    return "\n\n".join([*blocks, screen.dim("hive approve ID · hive deny ID --reason TEXT")])


@commands.command(name="show")
def show_approval(
    approval: Id,
    since: Annotated[bool, typer.Option("--since", help="Also what differs from the earlier proposal.")] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Old and new beside each other, on a wide terminal.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Large files, too.")] = False,
    no_system: Annotated[
        bool, typer.Option("--no-system", help="Without what changes of the agent's system, which may take minutes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show all of a request: what it changes, what that means, and what it takes."""
    review = find_hive().get_row(f"/api/approvals/{approval}/review")
    system = bool(review.get("system")) and not no_system
    if as_json:
        show_json(review | _load_system_fields(approval) if system else review)
        return
    screen = observe_screen()
    show(render_review(review, screen, DiffStyle(full=full, side_by_side=side_by_side), since=since))
    if system:
        # The review can be read meanwhile.
        show("\n" + render_system(*load_system(approval), screen))


def _load_system_fields(approval: int) -> Row:
    change, problem = load_system(approval)
    return {"system_change": change, "system_problem": problem}


@commands.command()
def approve(approval: Id, wait: WaitOption = False, as_json: JsonOption = False) -> None:
    """Approve a request. What it asks for is begun at once."""
    check_own_hand(f"hive approve {approval}")
    hive = find_hive()
    row = parse_row(hive.post(f"/api/approvals/{approval}/approve"))
    if not as_json:
        show(f"approved {approval}")
    follow_approval(hive, row, wait=wait, as_json=as_json)


def follow_approval(hive: Client, row: Row, *, wait: bool, as_json: bool) -> None:
    """Says what becomes of what was just approved; with `wait` until it has ended. Raises HiveError if it failed."""
    try:
        row = _wait_end(hive, row, quiet=as_json) if wait else row
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if as_json:
        show_json(row)
    id_, agent, status = (line_field(row, name) for name in ("id", "agent", "status"))
    if status in {ApprovalStatus.FAILED, ApprovalStatus.DENIED}:
        raise HiveError(f"approval {id_} {_say(status)}: {field(row, 'reason')}", _plan_after_failure(row))
    if as_json:
        return
    if status in AT_WORK:
        show(f"{agent}: {status}; `hive show {id_}` tells how it ends")
    elif status == ApprovalStatus.DEPLOYED:
        show(f"{agent}: deployed; `hive ps` shows it")


def _say(status: str) -> str:
    return "failed" if status == ApprovalStatus.FAILED else f"was {status}"


def _plan_after_failure(row: Row) -> str:
    if row.get("base"):
        return f"the previous config of {line_field(row, 'agent')} is in force; it can be asked again"
    return "nothing of it is left; it can be asked again"


def _wait_end(hive: Client, row: Row, *, quiet: bool) -> Row:
    seen = ""
    while (status := line_field(row, "status")) in AT_WORK:
        if status != seen and not quiet:
            show(f"{line_field(row, 'agent')}: {status} …")
        seen = status
        time.sleep(WAIT_INTERVAL_S)
        row = hive.get_row(f"/api/approvals/{parse_id(row)}")
    return row


@commands.command()
def deny(
    approval: Id,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; the one who asked reads it.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Deny a request. Nothing of it happens."""
    check_own_hand(f"hive deny {approval}")
    row = find_hive().post(f"/api/approvals/{approval}/deny", {"reason": reason})
    if as_json:
        show_json(row)
    else:
        show(f"denied {approval}")
