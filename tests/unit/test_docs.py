"""The documents say what the code does: every command, option, setting, tool, event and file, and nothing else."""

import importlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hyperhive.cli.main import app
from hyperhive.core.events import EventName
from hyperhive.core.paths import Roots
from hyperhive.harness.settings import ROWS
from hyperhive.host.settings import DEFAULT_UPSTREAM, Settings
from hyperhive.wire.tools import TOOLS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/hyperhive"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
LINE_LIMIT_CHARS = 120


def find_commands(group: Any, prefix: str = "") -> dict[str, Any]:
    """Every command by its name; those of a group by two words, such as `policy check`."""
    found: dict[str, Any] = {}
    # The types of click are not part of typer's: a command is looked at as it is.
    commands: dict[str, Any] = group.commands
    for name, command in commands.items():
        found |= find_commands(command, f"{name} ") if hasattr(command, "commands") else {prefix + name: command}
    return found


COMMANDS = find_commands(get_command(app))


def read_reference(name: str) -> str:
    return (DOCS / "reference" / f"{name}.md").read_text()


def read_sections(text: str, level: int) -> dict[str, str]:
    """The text below each heading of `level`, up to the next heading of that level or a higher one."""
    parts = re.split(rf"^(#{{1,{level}}}) (.+)$", text, flags=re.MULTILINE)[1:]
    headings = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {title: body for marks, title, body in headings if len(marks) == level}


def read_rows(text: str) -> list[list[str]]:
    """The cells of the rows of all tables in `text`, heads included."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]


def read_names(text: str) -> list[str]:
    """What stands in backticks in the first cells of the tables in `text`."""
    return [name for row in read_rows(text) for name in re.findall(r"`([^`]+)`", row[0])]


def read_prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def read_packages(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements}


GOTCHAS = read_sections((DOCS / "gotchas.md").read_text(), 3)


# -- reference ---------------------------------------------------------------------------------------------


def find_command(title: str) -> str:
    """The command that a heading such as "`hive policy check NAME`" is about; "" if it is none."""
    words = title.strip("`").split()[1:]
    return next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), "")


def test_every_command_is_described_and_no_other() -> None:
    described = [find_command(title) for title in read_sections(read_reference("cli"), 3)]
    assert sorted(described) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_of_a_command_is_described_and_no_other(name: str) -> None:
    [(title, body)] = [
        (title, body) for title, body in read_sections(read_reference("cli"), 3).items() if find_command(title) == name
    ]
    options = {text for parameter in COMMANDS[name].params for text in parameter.opts if text.startswith("-")}
    assert {described.split()[0] for described in read_names(body)} == options
    arguments = [p.metavar or p.name.upper() for p in COMMANDS[name].params if p.param_type_name == "argument"]
    words = title.strip("`").split()[1 + len(name.split()) :]
    assert [word.strip("[]") for word in words] == [word.strip("[]") for word in arguments]


def test_a_command_that_is_named_somewhere_is_there() -> None:
    texts = [*PAGES, *SOURCE.rglob("*.py"), *(ROOT / "nix").rglob("*.nix"), *(ROOT / "web/src").rglob("*.ts*")]
    named = {
        (text.name, *words)
        for text in texts
        for words in re.findall(r"`(?:\./)?hive ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", text.read_text())
    }
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    unknown = [
        (text, first, second)
        for text, first, second in named
        if not {first, f"{first} {second}"} & COMMANDS.keys() and (first not in groups or second)
    ]
    # Without a word of its own it takes one.
    assert [words for words in unknown if words[1] != "snapshot"] == []
    assert len(named) > 100


def test_every_exit_status_is_described() -> None:
    for status in ("0: done", "1: refused or failed", "2: wrong use", "3: no hive"):
        assert status in read_reference("cli")


def test_every_setting_of_the_daemon_is_described_with_its_variable_and_no_other() -> None:
    rows = {row[0].strip("`"): row for row in read_rows(read_sections(read_reference("settings"), 2)["The daemon"])[2:]}
    assert set(rows) == set(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        assert rows[name][1] == f"`HIVE_{name.upper()}`"
        if isinstance(field.default, int | float | str) and not isinstance(field.default, bool) and field.default:
            assert rows[name][2] == str(field.default)
    assert rows["upstream"][2] == DEFAULT_UPSTREAM


def test_every_variable_of_the_harness_is_described_with_its_default_and_no_other() -> None:
    rows = read_rows(read_sections(read_reference("settings"), 2)["The harness"])[2:]
    assert {(row[0].strip("`"), row[1]) for row in rows} == {(row.variable, row.default) for row in ROWS}


@pytest.mark.parametrize("row", read_rows(read_sections(read_reference("settings"), 2)["Fixed limits"])[2:])
def test_a_limit_is_what_the_code_says(row: list[str]) -> None:
    module, _, constant = row[2].strip("`").rpartition(".")
    assert float(row[1]) == float(getattr(importlib.import_module(f"hyperhive.{module}"), constant))


def test_every_file_that_has_a_name_in_the_code_is_described() -> None:
    roots = Roots(Path("/<data>"), Path("/<run>"))
    known = [name for name in vars(Roots) if not name.startswith("_") and name not in {"data", "run"}]
    members = [getattr(roots, name) for name in known]
    paths = [member if isinstance(member, Path) else member("name") for member in members]
    described = set(read_names(read_reference("files")))
    for path in paths:
        assert "/".join("<name>" if part == "name" else part for part in path.parts[1:]) in described


def test_every_tool_is_described_with_its_parameters_and_no_other() -> None:
    text = read_reference("tools")
    described = {title.strip("`"): read_names(body) for title, body in read_sections(text, 3).items()}
    assert described == {tool.name: list(tool.properties) for tool in TOOLS}
    managers = read_sections(read_sections(text, 2)["For the manager alone"], 3)
    assert {title.strip("`") for title in managers} == {tool.name for tool in TOOLS if tool.manager_only}


def test_every_optional_parameter_of_a_tool_is_called_optional_and_no_other() -> None:
    for title, body in read_sections(read_reference("tools"), 3).items():
        [tool] = [tool for tool in TOOLS if tool.name == title.strip("`")]
        rows = read_rows(body)[2:]
        optional = {row[0].strip("`") for row in rows if row[1].startswith("Optional: ")}
        assert optional == set(tool.properties) - set(tool.required)


def test_every_event_is_described_and_no_other() -> None:
    described = read_names(read_sections(read_reference("events"), 2)["Facts of the hive"])
    assert described == [name.value for name in EventName]


def test_every_fact_the_manager_is_told_is_described_with_its_keys_and_no_other() -> None:
    source = "".join(path.read_text() for path in (SOURCE / "host").rglob("*.py"))
    calls = re.findall(r"\bnotify_manager\(\s*tx,\s*\"(\w+)\",?([^()]*(?:\([^()]*\)[^()]*)*)\)", source)
    told = {name: set(re.findall(r"\b(\w+)=", keys)) for name, keys in calls}
    rows = read_rows(read_sections(read_reference("events"), 2)["What the manager is told"])[2:]
    assert {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in rows} == told


def test_every_kind_of_transcript_entry_is_described_and_no_other() -> None:
    source = (SOURCE / "harness/events.py").read_text()
    kinds = set(re.findall(r'"([a-z.]+)"', source.split("_KINDS = frozenset(")[1].split(")")[0]))
    assert set(read_names(read_sections(read_reference("events"), 2)["Entries of a transcript"])) == kinds


# -- decisions, gotchas ------------------------------------------------------------------------------------


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_number_and_the_three_parts(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.name[:4]}: ")
    assert list(read_sections(text, 2)) == ["Context", "Decision", "Consequences"]


def test_every_dependency_has_its_reason_and_there_is_no_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups: list[list[str]] = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    assert set(read_names(DECISIONS[0].read_text())) == {name for group in groups for name in read_packages(group)}


def test_every_package_of_the_pages_is_mentioned() -> None:
    package = json.loads((ROOT / "web/package.json").read_text())
    text = DECISIONS[0].read_text()
    for name in package["dependencies"] | package["devDependencies"]:
        assert f"`{name}`" in text


@pytest.mark.parametrize("title", GOTCHAS)
def test_a_gotcha_has_symptom_story_and_a_test_that_is_there(title: str) -> None:
    body = GOTCHAS[title]
    parts = re.findall(r"^- \*\*(\w+)\*\*: ((?:.+\n?(?!- ))+)", body, re.MULTILINE)
    assert [name for name, _ in parts] == ["Symptom", "Story", "Test"]
    named = " ".join(parts[2][1].split())
    if named == "none.":
        return
    tests = re.findall(r"`(tests/[\w/.]+)::(\w+)`", named)
    web_tests = re.findall(r"`(web/[\w/.]+)` \*([^*]+)\*", named)
    # All that stands in backticks was understood.
    assert named.count("`") == 2 * len(tests + web_tests) > 0
    for file, name in tests:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {name}"
    for file, name in web_tests:
        assert f'test("{name}"' in (ROOT / file).read_text()


# -- every page --------------------------------------------------------------------------------------------


def render_anchor(title: str) -> str:
    """The name that a heading gets in a rendered page."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", read_prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", read_prose(place), re.MULTILINE)
            assert anchor in {render_anchor(title) for title in titles}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_the_project_that_is_named_is_there(page: Path) -> None:
    quoted = re.findall(r"`([\w./…-]+/[\w./…-]*)`", read_prose(page))
    for name in quoted:
        top = name.split("/")[0]
        if "…" in name or "NNNN" in name or "node_modules" in name:
            continue
        if top in {"core", "system", "wire", "host", "harness", "cli", "testing"}:
            assert (SOURCE / name).exists(), name
        elif top in {"src", "web", "tests", "docs", "scripts", "benchmarks"}:
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_line_of_prose_is_too_long(page: Path) -> None:
    lines = [line for line in page.read_text().splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > LINE_LIMIT_CHARS] == []
