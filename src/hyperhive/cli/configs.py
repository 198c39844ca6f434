"""Commands about configs: config, revert."""

import re
from typing import Annotated

import typer

from hyperhive.cli.agents import COMMIT_COLUMNS, Name
from hyperhive.cli.approvals import WaitOption, follow_approval
from hyperhive.cli.client import Client, Row, find_hive, parse_row, parse_rows
from hyperhive.cli.completion import complete_agents
from hyperhive.cli.console import JsonOption, YesOption, confirm_once, observe_screen, show, show_json
from hyperhive.cli.own_hand import check_own_hand
from hyperhive.cli.prefixes import get_by_prefix
from hyperhive.cli.rendering import (
    Column,
    Screen,
    field,
    line_field,
    render_age,
    render_block,
    render_exact_line,
    render_exact_text,
    render_full_table,
    render_size,
)
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError
from hyperhive.core.names import parse_known_agent_name

# As in wire.agent_config and wire.agent_nix: they take pydantic, which takes longer to load than all of this command.
CONFIG_FILES = ("agent.toml", "agent.nix")

_VERSION = re.compile(r"(?:deployed/)?(0|[1-9][0-9]{0,17})", re.ASCII)
# With a letter in it: what is digits alone is a number.
_COMMIT = re.compile(r"(?=[0-9]*[a-f])[0-9a-f]{7,40}", re.ASCII)

commands = typer.Typer()


@commands.command()
def config(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="The agent.", show_default=False, autocompletion=complete_agents)
    ] = "",
    file: Annotated[str, typer.Option("--file", "-f", metavar="PATH", help="Print this file of the config.")] = "",
    history: Annotated[bool, typer.Option("--history", help="What was asked for, and what became of it.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of agent.toml, or of agent.nix.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the config that is applied to an agent."""
    if bool(name) is schema or (file and history):
        raise typer.BadParameter("name an agent, with --file or --history or neither; or give --schema alone")
    hive = find_hive()
    if schema:
        show_json(hive.get("/api/config-schema"))
        return
    agent = parse_known_agent_name(name)
    if history:
        _show_history(hive, agent, as_json=as_json)
    else:
        _show_config(hive, agent, file, as_json=as_json)


def _show_history(hive: Client, agent: str, *, as_json: bool) -> None:
    rows = hive.get_rows(f"/api/agent-config/{agent}/history")
    if as_json:
        show_json(rows)
    else:
        show(render_history(rows, agent, observe_screen()))


def _show_config(hive: Client, agent: str, file: str, *, as_json: bool) -> None:
    view = hive.get_row(f"/api/agent-config/{agent}")
    shown = find_file(view, file) if file else view
    if as_json:
        show_json(shown)
    elif file:
        show(render_file(shown))
    else:
        show(render_config(view, observe_screen()))


def find_file(view: Row, path: str) -> Row:
    """The file `path` of a config. Raises NotFoundError that names what there is."""
    files = parse_rows(view.get("files"))
    for file in files:
        if file.get("path") == path:
            return file
    names = ", ".join(field(file, "path") for file in files) or "nothing"
    raise NotFoundError(f"the config of {field(view, 'agent')} has no file {path}", f"it has {names}")


def render_file(file: Row) -> str:
    """The text of a file. Raises ConflictError for one that has none to show."""
    if file.get("text") is None:
        raise ConflictError(
            f"{field(file, 'path')} is binary, or too large to be shown",
            "it is as it was approved: its size is in `hive config NAME`",
        )
    return render_exact_text(str(file["text"])).removesuffix("\n")


def render_config(view: Row, screen: Screen) -> str:
    agent = line_field(view, "agent")
    files = parse_rows(view.get("files"))
    lines = [f"{screen.title(agent)} has commit {line_field(view, 'commit') or '(none yet)'}"]
    if view.get("problem"):
        head = screen.bad("this config cannot be used, so the agent does not start:")
        lines.append(render_block(head, str(view["problem"]), screen))
    columns = [
        Column("FILE", lambda file: field(file, "path")),
        Column("SIZE", lambda file: render_size(file.get("size_bytes", 0))),
        Column("", _render_file_kind),
    ]
    lines += ["", render_full_table(columns, files, screen) if files else "no files"]
    for file in files:
        # One of them: the daemon refuses a config with both.
        if file.get("path") in CONFIG_FILES and file.get("text"):
            shown = render_exact_text(str(file["text"])).removesuffix("\n")
            lines += ["", render_block(field(file, "path"), shown, screen)]
    hint = f"hive config {agent} --file PATH · hive config {agent} --history · hive policy show {agent}"
    return "\n".join([*lines, "", screen.dim(hint)])


def _render_file_kind(file: Row) -> str:
    kinds = ["executable"] if file.get("executable") else []
    if file.get("text") is None:
        kinds.append("binary or large")
    return ", ".join(kinds)


def render_history(rows: list[Row], agent: str, screen: Screen) -> str:
    """The versions, newest first, the deployed one marked; reasons of denials and failures beside what was asked."""
    if not rows:
        return f"{agent} has no config yet"
    columns = [
        Column("", lambda row: "*" if row.get("current") else ""),
        Column("TAG", lambda row: field(row, "tag")),
        Column("STATUS", lambda row: field(row, "status"), state=True),
        Column("COMMIT", lambda row: field(row, "commit")[:COMMIT_COLUMNS]),
        Column("AGE", lambda row: render_age(field(row, "at"), screen.now)),
        Column("WHAT", _render_what),
    ]
    hint = screen.dim(f"* runs now · hive show N · hive revert {agent} N")
    return "\n".join([render_full_table(columns, rows, screen), "", hint])


def _render_what(row: Row) -> str:
    reason = field(row, "reason")
    return f"{field(row, 'description')}  ({reason})" if reason else field(row, "description")


def parse_version(text: str) -> int:
    """The number of a deployed approval, also written `deployed/3`; 0 is the first config.

    Raises InvalidInputError.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InvalidInputError(
            f"{text[:80]!r} is not a deployed version", "write its number or its tag: 3, or deployed/3"
        )
    return int(match[1])


def _find_version(hive: Client, agent: str, text: str) -> int:
    """The number of the deployed version whose commit begins with `text`. Raises NotFoundError if there is not one."""
    hint = f"`hive config {agent} --history` lists what was deployed"
    rows = [
        row for row in hive.get_rows(f"/api/agent-config/{agent}/history") if field(row, "tag").startswith("deploy")
    ]
    commit = get_by_prefix((field(row, "commit") for row in rows), text, "deployed commit", hint)
    # The newest first: a commit that was brought back is that approval's.
    return next(parse_version(field(row, "tag")) for row in rows if row.get("commit") == commit)


@commands.command()
def revert(
    name: Name,
    to: Annotated[str, typer.Argument(metavar="TO", help="A deployed version: 3, deployed/3, or its commit.")],
    yes: YesOption = False,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring an earlier config of an agent back. It is recorded as an approval of its own."""
    agent = parse_known_agent_name(name)
    hive = find_hive()
    version = _find_version(hive, agent, to) if _COMMIT.fullmatch(to) else parse_version(to)
    check_own_hand(f"hive revert {agent} {version}")
    confirm_once(f"Bring back deployed/{version} of {agent}?", yes=yes)
    try:
        row = parse_row(hive.post(f"/api/agent-config/{agent}/revert", {"to": version}))
    except NotFoundError as error:
        raise NotFoundError(error.message, f"`hive config {agent} --history` lists what was deployed") from error
    if not as_json:
        show(f"#{render_exact_line(field(row, 'id'))} brings back deployed/{version} of {agent}")
    follow_approval(hive, row, wait=wait, as_json=as_json)
