"""The brokers that the hive is compared with, and how they come onto this machine."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import nats_jetstream, postgres, redis_streams, sqlite_queue
from benchmarks.contender import Peer

_LOCK = Path(__file__).parents[1] / "requirements-benchmark.lock"
_APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120")
_INSTALL_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class PeerKind:
    """A peer that may be installed or not. `goal` is how many times its messages/s the hive's are to be, 0: none."""

    name: str
    title: str
    is_installed: Callable[[], bool]
    run: Callable[[Path], AbstractContextManager[Peer]]
    goal: int = 0
    # What brings it: a package of Debian, or else the locked Python packages of the benchmarks.
    debian: str = ""


PEERS = (
    PeerKind("redis", "Redis", redis_streams.is_installed, redis_streams.run_redis, 1, "redis-server"),
    PeerKind("nats", "NATS", nats_jetstream.is_installed, nats_jetstream.run_nats, 10),
    PeerKind("postgres", "PostgreSQL", postgres.is_installed, postgres.run_postgres, 15, "postgresql"),
    PeerKind("sqlite", "litequeue", sqlite_queue.is_installed, sqlite_queue.run_sqlite),
)


def install_peers(kinds: Sequence[PeerKind] = PEERS) -> tuple[list[PeerKind], list[str]]:
    """Installs what is missing, as far as we may. Returns the kinds that are there and why the others are not."""
    missing = [kind for kind in kinds if not kind.is_installed()]
    why = _install_debian([kind.debian for kind in missing if kind.debian])
    if any(not kind.debian for kind in missing):
        why[""] = _install_locked()
    there = [kind for kind in kinds if kind.is_installed()]
    left_out = [kind for kind in kinds if kind not in there]
    return there, [f"{kind.title}: {why.get(kind.debian) or 'installed, but not found'}" for kind in left_out]


def _install_debian(packages: list[str]) -> dict[str, str]:
    """Returns why that failed, by package; empty for one that did not."""
    wanted = " ".join(packages)
    if not packages:
        return {}
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return dict.fromkeys(packages, f"not installed, and only root may: apt-get install {wanted}")
    # Old lists may still do.
    update = _run([*_APT, "update"], "refreshing Debian's package lists")
    # Without the packages that would only be nice to have, and without a question.
    install = [*_APT, "install", "-y", "--no-install-recommends"]
    failed = {package: _run([*install, package], f"apt-get install {package}") for package in packages}
    if Path("/run/systemd/system").exists():
        _say(f"Debian also makes services of {wanted}: `systemctl disable --now …` ends those you do not want")
    return {package: f"{reason}; {update}" if reason and update else reason for package, reason in failed.items()}


def _install_locked() -> str:
    """Returns why that failed."""
    if not _LOCK.exists():
        return f"{_LOCK.name} is missing: scripts/lock makes it"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    pip += ["--require-hashes", "--only-binary=:all:", "-r", str(_LOCK)]
    failed = _run(pip, f"installing {_LOCK.name} into .venv")
    importlib.invalidate_caches()
    return failed


def _run(argv: list[str], what: str) -> str:
    """Returns the end of what it said if it failed, else nothing."""
    _say(what)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{what} took more than {_INSTALL_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return ""
    lines = (done.stderr or done.stdout).strip().splitlines()
    return f"{what} failed: {lines[-1] if lines else f'exit {done.returncode}'}"


def _say(text: str) -> None:
    print(f"benchmarks: {text}", file=sys.stderr, flush=True)
