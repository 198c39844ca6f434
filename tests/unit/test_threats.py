"""docs/threats.md names for each threat a test that is there, and every check of the escape suite."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
TEXT = (ROOT / "docs/threats.md").read_text()
ROWS = [line[1:-1].split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
THREATS = [[cell.strip() for cell in row] for row in ROWS if row[0].strip() != "what an agent tries"]
# Tables of checks that drivers are held to, and who runs them.
RUN_BY = {
    "bubblewrap_checks": "tests/contract/test_drivers.py",
    "driver_checks": "tests/contract/test_drivers.py",
    "driver_limit_checks": "tests/driver_checks.py",
    "driver_network_checks": "tests/driver_checks.py",
    "escape_checks": "tests/integration/test_sandbox_escape.py",
    "escape_file_checks": "tests/integration/test_sandbox_escape.py",
    "gvisor_checks": "tests/contract/test_drivers.py",
    "nspawn_checks": "tests/contract/test_drivers.py",
    "sandbox_checks": "tests/integration/test_sandbox_escape.py",
}
# Not an attack, but what they are compared with.
_QUIET = "test_messages_while_nobody_attacks"


def find_named(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)


def list_checks(path: Path) -> set[str]:
    """The functions in the table at the end of a file of checks."""
    tables = [
        node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target).endswith("CHECKS") and node.value is not None
    ]
    return {name.id for table in tables for name in ast.walk(table) if isinstance(name, ast.Name)}


def list_tests(path: Path) -> set[str]:
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("row", THREATS, ids=lambda row: str(row[0])[:60])
def test_each_threat_has_what_stands_against_it_and_tests_that_are_there(row: list[str]) -> None:
    threat, _, tried = row
    named = find_named(tried)
    # All that stands in backticks was understood.
    assert threat and named and tried.count("`") == 2 * len(named)
    for file, name in named:
        path = ROOT / file
        known = list_tests(path) if path.stem.startswith("test_") else list_checks(path)
        assert name in known, f"{file} has no {name}"


def test_every_check_of_the_escape_suite_is_named() -> None:
    named = {name for _, name in find_named(TEXT)}
    for module in ("escape_checks", "escape_file_checks", "sandbox_checks"):
        assert list_checks(TESTS / f"{module}.py") - {"Check", "check", "str"} <= named
    for path in sorted((TESTS / "integration").glob("test_escape_*.py")):
        assert list_tests(path) - {_QUIET} <= named


def test_every_table_of_checks_that_is_named_is_run() -> None:
    modules = {Path(file).stem for file, _ in find_named(TEXT)}
    tables = {module for module in modules if module.endswith("_checks") and not module.startswith("test_")}
    assert tables <= RUN_BY.keys()
    for module in tables:
        assert module in (ROOT / RUN_BY[module]).read_text()
