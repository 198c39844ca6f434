"""The programs that containers of NixOS are made, kept and looked at by. Each call has its deadline."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from hyperhive.host.drivers.nix_evaluation import FEATURES, PURE
from hyperhive.host.drivers.nix_room import DAEMON_SOCKET
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.process import Completed, ProcessError, run

# To evaluate a system takes about one GiB; what builds it is the nix daemon's, where there is one.
BUILD_MEMORY_BYTES = 8 * 1024**3
BUILD_TASKS = 4096

NIXOS_HINT = "the nixos driver is for NixOS, see `services.hyperhive`; elsewhere HIVE_DRIVER=nspawn"
_PROGRAMS = (
    *("nixos-container", "nix", "nix-env", "nix-store", "systemctl", "systemd-run", "machinectl", "journalctl"),
    *("nsenter", "bwrap", "sh"),
)
# nixos-container names no features when it calls nix, and no settings: as where a flake is evaluated first.
_NIX_SETTINGS = {"extra-experimental-features": FEATURES, **PURE}
_NIX_CONFIG = "".join(f"{name} = {value}\n" for name, value in _NIX_SETTINGS.items())
# What counts more than all of that is what a command says.
NIX_OPTIONS = ("--option", "allow-import-from-derivation", "false", "--no-write-lock-file")
_SCOPE = (
    *("systemd-run", "--quiet", "--scope", "--collect", f"--property=MemoryMax={BUILD_MEMORY_BYTES}"),
    *("--property=MemorySwapMax=0", f"--property=TasksMax={BUILD_TASKS}", "--"),
)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long calls may take, in seconds.

    `ask_s` is for what systemd and machined do at once: a machine under load lets one wait. A container is up within
    some seconds, and its unit gives up after a minute: `start_s`. To remove one takes as long as to remove the files of
    its root: `destroy_s`. A system may have to be fetched or compiled: `build_s`, an hour.
    """

    ask_s: float = 20.0
    start_s: float = 55.0
    kill_s: float = 10.0
    destroy_s: float = 50.0
    build_s: float = 3600.0


class Programs:
    """Runs them along `path`, with nothing of the daemon's environment: it may hold a key.

    `home` is a folder of the driver's own, for what nix keeps of its users.
    """

    def __init__(self, path: str, home: Path, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self._path = path
        self._home = home

    def check(self) -> None:
        """Raises DriverError for what is not there."""
        missing = [program for program in _PROGRAMS if shutil.which(program, path=self._path) is None]
        if missing:
            raise DriverError(f"not installed: {', '.join(missing)}", NIXOS_HINT)

    def find(self, program: str) -> str:
        """The path of one of them; its name alone if it is not there."""
        return shutil.which(program, path=self._path) or program

    async def run(self, *argv: str, timeout_s: float | None = None, folder: Path = Path("/")) -> Completed:
        """Raises DriverError if it cannot be started, or is not done in time (None: `ask_s`); it is then ended."""
        limit_s = self.deadlines.ask_s if timeout_s is None else timeout_s
        try:
            return await run(argv, timeout_s=limit_s, env=self._environment(), cwd=folder)
        except ProcessError as error:
            raise DriverError(str(error), "see `hive doctor`") from error

    async def build(self, argv: Sequence[str], place: Path) -> Completed:
        """Runs what evaluates and builds an agent's system, bounded in memory. Raises as `run`.

        Its working folder is new each time and gone afterwards: nixos-container leaves a link in there that has the
        same name for all.
        """
        async with _working_folder(place) as folder:
            return await self.run(*_SCOPE, *argv, timeout_s=self.deadlines.build_s, folder=folder)

    def _environment(self) -> Mapping[str, str]:
        # Root would build by itself, in the bounds of who asks, and not by the daemon.
        remote = {"NIX_REMOTE": "daemon"} if DAEMON_SOCKET.exists() else {}
        return {"PATH": self._path, "LC_ALL": "C.UTF-8", "HOME": str(self._home), "NIX_CONFIG": _NIX_CONFIG, **remote}


WORKING_PREFIX = "work-"


@asynccontextmanager
async def _working_folder(place: Path) -> AsyncGenerator[Path]:
    try:
        folder = Path(tempfile.mkdtemp(prefix=WORKING_PREFIX, dir=place))
    except OSError as error:
        raise DriverError(f"no working folder can be made: {error}", "is the disk full?") from error
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
