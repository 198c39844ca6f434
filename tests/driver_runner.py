"""Runs checks of the drivers: of bubblewrap as root and as somebody without privileges, of nspawn and gvisor as root.

As a program it runs one check, as whoever starts it: `python -m driver_runner MODULE CHECK FOLDER`.
"""

import asyncio
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from driver_rig import open_rig

# Of bubblewrap root can check both; anybody else is the second already. Nobody else can run the others.
BUBBLEWRAP_KINDS = ("root", "unprivileged") if os.geteuid() == 0 else ("unprivileged",)
KINDS = (*BUBBLEWRAP_KINDS, "nspawn") if os.geteuid() == 0 else BUBBLEWRAP_KINDS
# What runs inside has another kernel than this machine's.
OWN_KERNEL_KINDS = ("gvisor",) if os.geteuid() == 0 else ()
# Its number is `nobody` on most systems; it owns nothing.
UNPRIVILEGED_UID = 65534
TIMEOUT_S = 120

_TESTS = Path(__file__).parent
_PACKAGE = _TESTS.parent / "src/hyperhive"
_NEEDED = ("driver_*.py", "bubblewrap_checks.py", "sandbox_*.py", "escape_*.py")


async def check_kind(module: str, check: str, kind: str, place: Path, folder: Path) -> None:
    """Runs one check as one of the kinds; `place` is from `unprivileged_place`. Raises AssertionError."""
    if kind == "unprivileged" and os.geteuid() == 0:
        run_check_unprivileged(module, check, place)
    else:
        await run_check(module, check, folder, "bubblewrap" if kind in BUBBLEWRAP_KINDS else kind)


async def run_check(module: str, check: str, folder: Path, driver: str = "bubblewrap") -> None:
    """Runs one check on a driver. Raises AssertionError."""
    async with open_rig(folder, kind=driver) as rig:
        await importlib.import_module(module).CHECKS[check](rig)


def run_check_unprivileged(module: str, check: str, place: Path) -> None:
    """Runs one check in a process of UNPRIVILEGED_UID; `place` is from `unprivileged_place`. Raises AssertionError."""
    folder = Path(tempfile.mkdtemp(dir=place))
    os.chown(folder, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    done = _run_as_nobody([_find_python(), "-m", "driver_runner", module, check, str(folder)], place)
    assert done.returncode == 0, done.stderr[-6000:]


@contextmanager
def unprivileged_place() -> Generator[Path]:
    """A folder with a copy of what the checks need: the project itself may be where nobody can read it."""
    with tempfile.TemporaryDirectory(prefix="drivers-") as name:
        place = Path(name)
        place.chmod(0o755)
        caches = shutil.ignore_patterns("__pycache__", "pages")
        shutil.copytree(_PACKAGE, place / "hyperhive", ignore=caches)
        for file in (found for pattern in _NEEDED for found in _TESTS.glob(pattern)):
            shutil.copy(file, place / file.name)
        for path in place.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield place


def _find_python() -> str:
    """A Python that anybody may run: this one if it is, or the system's. AssertionError if there is none."""
    # setpriv itself gets through folders that are closed to whom it becomes: so the path is tried again.
    test = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.access(os.path.realpath(sys.executable), 1))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if _run_as_nobody([python, "-c", test], Path("/")).returncode == 0:
            return python
    raise AssertionError("no Python 3.11 or later that an unprivileged user may run: apt-get install python3")


def _run_as_nobody(argv: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    drop = ["setpriv", f"--reuid={UNPRIVILEGED_UID}", f"--regid={UNPRIVILEGED_UID}", "--clear-groups", "--"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*drop, *argv], env=environment, cwd="/", capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


if __name__ == "__main__":
    asyncio.run(run_check(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
