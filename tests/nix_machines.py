"""Machines with a nix daemon, as far as evaluations see them: a store with its daemon, in a folder of a test."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hive_process import wait_for
from hyperhive.host.drivers.nix_room import Nix, observe_nix

# Neither needs a /nix on this machine: they have one of their own.
_ROOM = (
    *("bwrap", "--die-with-parent", "--unshare-pid", "--dev", "/dev", "--proc", "/proc"),
    *("--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc", "--symlink", "usr/bin", "/bin"),
    *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
    *("--tmpfs", "/tmp", "--tmpfs", "/root", "--setenv", "HOME", "/root", "--setenv", "NIX_CONF_DIR", "/root"),
)
_NIX = ("nix", "--extra-experimental-features", "nix-command")


@dataclass(frozen=True, slots=True)
class NixMachine:
    """`folder` is what the machine calls /nix."""

    folder: Path

    @property
    def nix(self) -> Nix:
        return Nix(observe_nix().program, self.folder / "store", self.folder / "var/nix/daemon-socket/socket")

    def add(self, source: Path) -> Path:
        """Puts a folder into the store, as the sources of flakes are there."""
        shown = ("--ro-bind", str(source), "/tmp/added", "--bind", str(self.folder), "/nix", "--setenv", "NIX_REMOTE")
        command = [*_ROOM, *shown, "daemon", "--", *_NIX, "store", "add-path", "--name", "source", "/tmp/added"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return Path(done.stdout.strip())

    def list_store(self) -> set[str]:
        return {path.name for path in (self.folder / "store").iterdir()}


@contextmanager
def run_nix_machine(folder: Path) -> Generator[NixMachine]:
    """A machine whose daemon runs."""
    machine = NixMachine(folder)
    for name in ("store", "var/nix/daemon-socket"):
        (folder / name).mkdir(parents=True)
    with subprocess.Popen(
        [*_ROOM, "--bind", str(folder), "/nix", "--", *_NIX, "daemon"], stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for((folder / "var/nix/daemon-socket/socket").is_socket, "the daemon's socket")
            yield machine
        finally:
            process.kill()
            process.wait()
