"""What is shipped: the wheel, the lock files, the shell scripts."""

import json
import re
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest

from hyperhive.system.process import Completed, run

ROOT = Path(__file__).parent.parent.parent
PAGES = Path("src/hyperhive/host/api/pages")
LOCKS = ["requirements.lock", "requirements-test.lock", "requirements-benchmark.lock"]
SCRIPTS = ["hive", "scripts/setup.sh", "scripts/test", "scripts/lock", ".ci/run"]


# -- the wheel -----------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the wheel is made from, without built pages."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "pages")
    shutil.copytree(ROOT / "src", copy / "src", ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    return copy


async def build(checkout: Path, kind: str) -> Completed:
    """Builds the wheel by the build backend of this environment, as pip does without isolation."""
    code = "import sys, hatchling.build as b; getattr(b, sys.argv[1])('dist')"
    return await run([sys.executable, "-c", code, kind], timeout_s=120, cwd=checkout)


async def test_a_wheel_holds_the_pages_and_every_file_of_the_package_and_nothing_else(checkout: Path) -> None:
    (checkout / PAGES / "assets").mkdir(parents=True)
    (checkout / PAGES / "index.html").write_text("<!doctype html>")
    (checkout / PAGES / "assets/app-1234.js").write_text("")
    (checkout / "tests").mkdir()
    (checkout / "tests/test_x.py").touch()
    done = await build(checkout, "build_wheel")
    assert done.ok, done.error_text
    (wheel,) = (checkout / "dist").glob("hyperhive-*-py3-none-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        str(path.relative_to(checkout / "src"))
        for path in (checkout / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "hyperhive/host/api/pages/assets/app-1234.js" in package
    assert {name for name in names if ".dist-info/" not in name} == package
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    scripts = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("entry_points.txt")))
    assert b"hive = hyperhive.cli.main:main" in scripts


async def test_a_wheel_without_pages_is_not_built_and_the_error_says_how_to_build_them(checkout: Path) -> None:
    done = await build(checkout, "build_wheel")
    assert not done.ok
    assert b"./hive version" in done.stdout + done.stderr
    assert not list((checkout / "dist").glob("*.whl"))


async def test_an_editable_installation_needs_no_pages(checkout: Path) -> None:
    done = await build(checkout, "build_editable")
    assert done.ok, done.error_text


# -- the lock files ------------------------------------------------------------------------------------------


def read_lock(name: str) -> dict[str, str]:
    """The packages of a lock file with their versions; each entry has to have hashes."""
    entries = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    versions: dict[str, str] = {}
    for entry in entries:
        match = re.match(r"([a-z0-9.-]+)(?:\[[a-z,]+\])?==([^ ;]+)", entry)
        assert match, f"{name}: {entry[:80]} is no exact version"
        assert "--hash=sha256:" in entry, f"{name}: {match[1]} has no hash"
        versions[match[1]] = match[2]
    return versions


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_file_has_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"://|--(extra-)?index|--find-links| @ ", text)


def test_the_test_lock_holds_the_other_one() -> None:
    runtime, test, _ = (read_lock(name) for name in LOCKS)
    assert runtime.items() <= test.items()


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime, test, benchmark = (read_lock(name) for name in LOCKS)
    for wanted, lock in (
        (project["project"]["dependencies"] + groups["build"] + project["build-system"]["requires"], runtime),
        (groups["test"], test),
        (groups["benchmark"], benchmark),
    ):
        assert {re.split(r"[>=<\[ ]", requirement)[0] for requirement in wanted} <= set(lock)


def read_web_lock() -> dict[str, dict[str, Any]]:
    lock = json.loads((ROOT / "web/package-lock.json").read_text())
    return cast("dict[str, dict[str, Any]]", lock["packages"])


def test_the_web_lock_has_no_addresses_and_a_hash_for_every_package() -> None:
    packages = read_web_lock()
    assert "resolved" not in json.dumps(packages)
    assert not [name for name, package in packages.items() if name and not package.get("integrity")]


def test_the_web_lock_holds_the_packages_of_every_platform() -> None:
    """`npm ci` refuses a lock that lacks an optional package, even one of a platform it would not install."""
    packages = read_web_lock()
    wanted = {name for package in packages.values() for name in package.get("optionalDependencies", {})}
    missing = {name for name in wanted if f"node_modules/{name}" not in packages}
    assert not missing


# -- the scripts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_script_is_well_formed_and_may_be_run(script: str) -> None:
    done = await run(["bash", "-n", str(ROOT / script)], timeout_s=10)
    assert done.ok, done.error_text
    assert script == "scripts/setup.sh" or (ROOT / script).stat().st_mode & 0o111 == 0o111
