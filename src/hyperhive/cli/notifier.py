"""`hive notify`: what tells you outside of the pages what needs you, and whether it works."""

from enum import StrEnum
from typing import Annotated, cast

import typer

from hyperhive.cli.client import Row, find_hive, parse_rows
from hyperhive.cli.console import JsonOption, observe_screen, show, show_json
from hyperhive.cli.rendering import Column, Screen, field, line_field, render_age, render_table, render_wait

commands = typer.Typer()

_HOLDS = {"dwell": "new", "cooldown": "cooldown", "quiet": "quiet hours", "backoff": "last try failed"}


class Act(StrEnum):
    TEST = "test"


@commands.command()
def notify(
    act: Annotated[Act | None, typer.Argument(metavar="test", help="Send a test message now.")] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME", help="With test: to this notifier alone.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the notifiers: what they told, what they hold back, what is wrong with them. Or test them."""
    if act is None and channel is not None:
        raise typer.BadParameter("--channel goes with test")
    hive = find_hive()
    if act is None:
        state = hive.get_row("/api/notifier")
        if as_json:
            show_json(state)
        else:
            show(render_notifier(state, observe_screen()))
        return
    results = parse_rows(hive.post("/api/notifier/test", {"channel": channel}))
    if as_json:
        show_json(results)
    else:
        for result in results:
            fault = line_field(result, "fault")
            show(f"{line_field(result, 'channel')}: {fault if result.get('fault') else 'arrived'}")
    if any(result.get("fault") for result in results):
        raise typer.Exit(1)


def render_notifier(state: Row, screen: Screen) -> str:
    channels: list[Row] = state.get("channels") or []
    lines = [f"rules      {_render_rules(state)}", f"file       {line_field(state, 'file')}"]
    if state.get("problem"):
        lines.append(f"problem    {line_field(state, 'problem')}")
    if state.get("quiet_until"):
        lines.append(f"quiet      for {render_wait(field(state, 'quiet_until'), screen.now)}")
    if not channels:
        return "\n".join([*lines, "", "no notifiers: write apprise URLs into the file, one a line, mode 0600"])
    parts = ["\n".join(lines), _render_channels(channels, screen)]
    held = [
        {"channel": field(channel, "name"), **need}
        for channel in channels
        for need in cast("list[Row]", channel.get("held") or [])
    ]
    if held:
        parts.append(_render_held(held, screen))
    return "\n\n".join(parts)


def _render_rules(state: Row) -> str:
    remind = state.get("remind_s")
    quiet = f"quiet {field(state, 'quiet')} ({field(state, 'time_zone')})" if state.get("quiet") else "no quiet hours"
    return ", ".join(
        [
            f"told after {_render_s(state.get('dwell_s'))}",
            f"{_render_s(state.get('cooldown_s'))} apart",
            f"once more after {_render_s(remind)}" if remind else "no reminders",
            quiet,
        ]
    )


def _render_s(value: object) -> str:
    return f"{value:g} s" if isinstance(value, int | float) else "?"


def _render_channels(channels: list[Row], screen: Screen) -> str:
    columns = [
        Column("NOTIFIER", lambda row: field(row, "name")),
        Column("TOLD", lambda row: _render_ago(row, "last_sent_at", screen)),
        Column("WORKED", lambda row: _render_ago(row, "ok_at", screen)),
        Column("STATE", lambda row: _render_state(row, screen)),
    ]
    return render_table(columns, channels, screen)


def _render_ago(row: Row, name: str, screen: Screen) -> str:
    return f"{render_age(field(row, name), screen.now)} ago" if row.get(name) else "never"


def _render_state(row: Row, screen: Screen) -> str:
    if row.get("fault"):
        again = f", again in {render_wait(field(row, 'retry_at'), screen.now)}" if row.get("retry_at") else ""
        return f"{field(row, 'fault')} ({render_age(field(row, 'fault_at'), screen.now)} ago){again}"
    return "sending" if row.get("sending") else "ok"


def _render_held(rows: list[Row], screen: Screen) -> str:
    columns = [
        Column("HELD BACK", lambda row: field(row, "title")),
        Column("NOTIFIER", lambda row: field(row, "channel")),
        Column("WHY", lambda row: _HOLDS.get(field(row, "by"), field(row, "by"))),
        Column("UP TO", lambda row: render_wait(field(row, "until"), screen.now)),
    ]
    return render_table(columns, rows, screen)
