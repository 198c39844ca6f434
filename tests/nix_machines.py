"""Machines with a nix daemon, as far as evaluations see them: a store with its daemon, in a folder of a test."""

import os
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hive_process import wait_for
from hyperhive.host.drivers.nix_room import Nix, observe_nix
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.process import Completed, ProcessError, run

# Neither needs a /nix on this machine: they have one of their own.
_ROOM = (
    *("bwrap", "--die-with-parent", "--unshare-pid", "--dev", "/dev", "--proc", "/proc"),
    *("--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc", "--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
    *("--tmpfs", "/tmp", "--tmpfs", "/root", "--setenv", "HOME", "/root", "--setenv", "NIX_CONF_DIR", "/root"),
)
_NIX = ("nix", "--extra-experimental-features", "nix-command")
# What is built there is built as root, and plainly: it is a test's own.
_CONFIG = """\
extra-experimental-features = nix-command
substituters = file:///nix/cache
build-users-group =
sandbox = false
"""
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class NixMachine:
    """`folder` is what the machine calls /nix. Its cache is the folder `cache` in there."""

    folder: Path

    @property
    def nix(self) -> Nix:
        return Nix(observe_nix().program, self.store, self._socket)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def _socket(self) -> Path:
        return self.folder / "var/nix/daemon-socket/socket"

    async def ask(self, argv: Sequence[str], settings: str = "") -> Completed:
        """Runs a program of nix's on the machine: by its daemon if that runs. Raises DriverError."""
        room = self._plan_room("--setenv", "NIX_CONFIG", _CONFIG + settings, is_served=self._socket.exists())
        try:
            return await run([*room, *argv], timeout_s=_TIMEOUT_S)
        except ProcessError as error:
            raise DriverError(str(error)) from error

    def build(self, file: Path, attribute: str, arguments: Mapping[str, str] | None = None) -> str:
        """Builds what a file of Nix has there, by itself, and returns its place in the store. Needs no daemon."""
        given = [part for name, value in (arguments or {}).items() for part in ("--argstr", name, value)]
        shown = ("--ro-bind", str(file.parent), "/tmp/built")
        command = ("nix-build", "--no-out-link", "-A", attribute, *given, f"/tmp/built/{file.name}")
        return self._run(*self._plan_room(*shown), *command).strip()

    def publish(self, *paths: str) -> None:
        """Puts built paths, with all that they need, into the machine's cache."""
        self._run(*self._plan_room(), "nix", "copy", "--to", "file:///nix/cache", "--", *paths)

    def delete(self, *paths: str) -> None:
        """Has them no more in the store."""
        self._run(*self._plan_room(), "nix-store", "--delete", "--", *paths)

    def _plan_room(self, *shown: str, is_served: bool = False) -> list[str]:
        remote = ("--setenv", "NIX_REMOTE", "daemon") if is_served else ()
        own = ("--bind", str(self.folder), "/nix", "--setenv", "NIX_CONFIG", _CONFIG)
        return [*_ROOM, *own, *shown, *remote, "--"]

    def attempt(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Runs a program of nix's on the machine, however it ends. Needs no daemon."""
        room = self._plan_room()
        return subprocess.run(
            [*room, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S
        )

    def _run(self, *argv: str) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def add(self, source: Path) -> Path:
        """Puts a folder into the store, as the sources of flakes are there."""
        room = self._plan_room("--ro-bind", str(source), "/tmp/added", is_served=self._socket.exists())
        return Path(self._run(*room, *_NIX, "store", "add-path", "--name", "source", "/tmp/added").strip())

    def list_store(self) -> set[str]:
        return {path.name for path in (self.folder / "store").iterdir()}


async def ask_here(argv: Sequence[str]) -> Completed:
    """Runs a program of nix's on this machine. Raises DriverError."""
    try:
        return await run(argv, timeout_s=_TIMEOUT_S, env={"PATH": os.environ["PATH"], "NIX_CONFIG": _CONFIG})
    except ProcessError as error:
        raise DriverError(str(error)) from error


def make_nix_machine(folder: Path) -> NixMachine:
    """A machine with an empty store and no daemon."""
    for name in ("store", "var/nix/daemon-socket"):
        (folder / name).mkdir(parents=True)
    return NixMachine(folder)


@contextmanager
def run_nix_machine(folder: Path) -> Generator[NixMachine]:
    """A machine whose daemon runs."""
    machine = make_nix_machine(folder)
    with subprocess.Popen(
        [*_ROOM, "--bind", str(folder), "/nix", "--", *_NIX, "daemon"], stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for((folder / "var/nix/daemon-socket/socket").is_socket, "the daemon's socket")
            yield machine
        finally:
            process.kill()
            process.wait()
