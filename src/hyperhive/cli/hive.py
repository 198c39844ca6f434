"""Commands about the hive itself: up, demo, down, status, url, doctor, version."""

import asyncio
import os
import platform
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from hyperhive import __version__
from hyperhive.cli.client import Client, Row, decide_own_roots, find_hive, parse_row
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.doctor import check_machine, render_checks
from hyperhive.cli.doctor_checks import CheckStatus
from hyperhive.cli.rendering import Screen, line_field, render_age
from hyperhive.cli.turns import render_park
from hyperhive.core.errors import UnavailableError
from hyperhive.system.pids import wait_gone

# Twice what a driver may take to stop a container: agents are stopped side by side.
DOWN_TIMEOUT_S = 120.0
# What the operator can do about agents that are parked, by the kind. A limit and a pause need nobody.
_PARKED_NEEDS = {
    "login": "to log in (hive login NAME)",
    "budget": "with a spent budget (hive grant NAME)",
    "failing": "that keep failing (hive logs NAME, hive resume NAME)",
}

commands = typer.Typer()

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The data folder.")]
Port = Annotated[
    int | None,
    typer.Option("--port", metavar="N", min=0, max=65535, help="Of the dashboard; 0: any free one."),
]
DriverName = Annotated[str | None, typer.Option("--driver", metavar="NAME", help="What starts containers.")]
Upstream = Annotated[str | None, typer.Option("--upstream", metavar="URL", help="The Messages API to forward to.")]
Credential = Annotated[
    Path | None,
    typer.Option("--credential", metavar="FILE", help="An API key or long-lived token, in a file of mode 0600."),
]


@commands.command()
def up(
    data: Data = None,
    port: Port = None,
    driver: DriverName = None,
    upstream: Upstream = None,
    credential: Credential = None,
) -> None:
    """Run the hive with your own account, in the foreground.

    The account is an API key or a long-lived token: ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN in the
    environment, the file `credential` in the data folder, or --credential FILE.
    """
    _become_daemon(plan_daemon_flags(data, port, driver, upstream, credential))


@commands.command()
def demo(
    data: Data = None,
    port: Port = None,
    driver: DriverName = None,
    upstream: Upstream = None,
) -> None:
    """Run a rehearsal: a whole hive with no model behind it. Needs no account and costs nothing."""
    _become_daemon(["--rehearsal", *plan_daemon_flags(data, port, driver, upstream, None)])


def plan_daemon_flags(
    data: Path | None, port: int | None, driver: str | None, upstream: str | None, credential: Path | None
) -> list[str]:
    """The daemon's flags for those of the command; what was not given is left to the daemon."""
    flags = {"data": data, "port": port, "driver": driver, "upstream": upstream, "credential": credential}
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]


def _become_daemon(flags: list[str]) -> None:
    """Replaces this process by the daemon, so that signals and the exit status are the daemon's own."""
    sys.stdout.flush()
    # -P: a Python file in the folder this was called from is not a module of ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "hyperhive.host.main", *flags])  # noqa: S606


@commands.command()
def down() -> None:
    """Stop the agents and the daemon."""
    hive = find_hive()
    daemon = hive.find_daemon()
    answer = parse_row(Client(hive.roots, timeout_s=DOWN_TIMEOUT_S).post("/api/shutdown"))
    if answer.get("left_running"):
        names = ", ".join(str(name) for name in answer["left_running"])
        raise UnavailableError(f"the hive ends, but these still run: {names}", "see the daemon's log, and `ps`")
    if daemon is None:
        show("the hive is stopping")
    elif asyncio.run(wait_gone(daemon, DOWN_TIMEOUT_S)):
        show("the hive is down")
    else:
        raise UnavailableError(
            f"the hive is still stopping after {DOWN_TIMEOUT_S:g} s", "`hive ps` shows which agents still run"
        )


@commands.command()
def status(as_json: JsonOption = False) -> None:
    """Show the hive, its agents by state, and what needs you."""
    hive = find_hive()
    summary = load_summary(hive)
    if as_json:
        show_json(summary)
    else:
        show(render_summary(summary, observe_screen()))


def load_summary(hive: Client) -> Row:
    rows = hive.get_rows("/api/agents")
    states = Counter(str(row.get("state", "unknown")) for row in rows)
    parks = [row["park"] for row in rows if row.get("park")]
    return {
        **hive.get_row("/api/hive"),
        "data": str(hive.roots.data),
        "agents": dict(sorted(states.items())),
        # What parks the whole hive stands for itself, in `park`.
        "parked_agents": dict(Counter(str(park.get("kind")) for park in parks if not park.get("hive"))),
        "pending_approvals": len(hive.get_rows("/api/approvals", {"status": "pending"})),
        "open_questions": len(hive.get_rows("/api/questions", {"status": "open"})),
    }


def render_summary(summary: dict[str, Any], screen: Screen) -> str:
    upstream = line_field(summary, "upstream")
    credential = line_field(summary, "credential")
    agents = ", ".join(f"{count} {screen.state(state)}" for state, count in summary["agents"].items())
    needs = [
        f"{summary[key]} {words}"
        for key, words in (
            ("pending_approvals", "to approve (hive pending)"),
            ("open_questions", "to answer (hive questions)"),
        )
        if summary[key]
    ]
    parked = summary["parked_agents"]
    needs += [f"{parked[kind]} {words}" for kind, words in _PARKED_NEEDS.items() if parked.get(kind)]
    park: Row | None = summary.get("park")
    if park is not None and park.get("kind") == "budget":
        needs.append("more to spend for the whole hive (hive grant)")
    age = render_age(str(summary.get("started_at")), screen.now)
    lines = [
        f"hyperhive {line_field(summary, 'version')}, up for {age}",
        f"data       {line_field(summary, 'data')}",
        f"driver     {line_field(summary, 'driver')}",
        f"model      {'rehearsal: no model behind this' if summary.get('rehearsal') else upstream}",
        f"credential {credential}",
        f"agents     {agents or 'none'}",
        *([f"parked     {render_park(summary['park'], screen)}"] if summary.get("park") else []),
        f"needs you  {', '.join(needs) or 'nothing'}",
    ]
    return "\n".join(lines)


@commands.command()
def url(as_json: JsonOption = False) -> None:
    """Print a new address that opens the dashboard, once."""
    link = find_hive().post("/api/login-links")
    if as_json:
        show_json(link)
    else:
        show(line_field(link, "url"))


@commands.command()
def doctor(as_json: JsonOption = False) -> None:
    """Look for what is missing on this machine, and say the command that mends it."""
    checks = asyncio.run(check_machine(decide_own_roots(None), os.environ))
    if as_json:
        show_json([check.to_dict() for check in checks])
    else:
        show(render_checks(checks, observe_screen()))
    if any(check.status is CheckStatus.MISSING for check in checks):
        raise typer.Exit(1)


@commands.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        show_json({"version": __version__, "python": platform.python_version()})
    else:
        show(f"hyperhive {__version__}")
