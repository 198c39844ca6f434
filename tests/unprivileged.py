"""An installation that an unprivileged user can use, wherever the tests' own lies: its Python may be in root's home."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hyperhive

# Debian's nobody. As root the tests take it; a normal user is unprivileged enough.
NOBODY = 65534
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Installation:
    """`command` goes before a Python's arguments and runs it as that user; `folder` is the user's own."""

    command: tuple[str, ...]
    folder: Path
    uid: int


def make_installation(folder: Path) -> Installation:
    """An installation for an unprivileged user below `folder`, which everybody can walk to."""
    if os.geteuid() != 0:
        return Installation((sys.executable,), folder, os.geteuid())
    own = folder / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    venv = folder / "venv"
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", str(venv)], check=True)
    [target] = venv.glob("lib/python3*/site-packages")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert target.parent.name == version, f"{SYSTEM_PYTHON} is {target.parent.name}, the packages are for {version}"
    packages = Path(sys.prefix) / "lib" / version / "site-packages"
    # Hard links where the disk allows: the packages hold some 700 MB.
    linked = subprocess.run(["cp", "-al", f"{packages}/.", str(target)], check=False, capture_output=True)
    if linked.returncode != 0:
        subprocess.run(["cp", "-a", f"{packages}/.", str(target)], check=True)
    # An editable installation points to the checkout: here is a copy instead.
    for pointer in target.glob("*hyperhive*.pth"):
        pointer.unlink()
    shutil.copytree(Path(hyperhive.__file__).parent, target / "hyperhive", ignore=shutil.ignore_patterns("__pycache__"))
    drop = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--")
    return Installation((*drop, str(venv / "bin/python")), own, NOBODY)
