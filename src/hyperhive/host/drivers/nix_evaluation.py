"""Evaluates what an agent wrote in Nix, with nothing in reach: no network, no file of the machine, no privilege.

nix itself is asked for a pure evaluation, which reads the flake and its inputs and nothing else. Around it is a
sandbox (see `nix_room`), so that a bug in nix is no way out. It writes to memory of its own, and nothing of it is left
when it ends: there is nothing to clean up, and evaluations know nothing of one another.
"""

import asyncio
import contextlib
import math
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hyperhive.core.errors import InvalidInputError
from hyperhive.host.drivers.nix_errors import Failure, parse_failure
from hyperhive.host.drivers.nix_room import FLAKE, Nix, Room, observe_nix
from hyperhive.host.drivers.nixos_flake import CONFIG_FOLDER, load_inputs
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.process import Completed, ProcessError, run
from hyperhive.wire.agent_nix import NIX_FILE

# Many times what the options of one agent come to.
OUTPUT_LIMIT_BYTES = 1024 * 1024
# What `run` is left beyond the time limit, so that it is ours that counts.
_GRACE_S = 30.0
# An exit status above it is a signal's number and that.
_BY_SIGNAL = 128

FEATURES = "nix-command flakes"
# Also for whoever builds what was evaluated: what is written as an agent's flake is all that counts, and nothing is
# built to find out what it means.
PURE = {
    "pure-eval": "true",
    "allow-import-from-derivation": "false",
    "use-registries": "false",
    "accept-flake-config": "false",
    "eval-cache": "false",
}
_SETTINGS = {
    **PURE,
    # Whatever asks for it: nothing is built, and nothing fetched.
    "substitute": "false",
    "max-jobs": "0",
    "builders": "",
}
_EVALUATE = (
    *("eval", "--extra-experimental-features", FEATURES),
    *(part for name, value in _SETTINGS.items() for part in ("--option", name, value)),
    # Read-only: what an agent would have written to the store is only named. The flake itself is copied there.
    *("--read-only", "--no-write-lock-file", "--show-trace"),
)
_Form = Literal["--json", "--raw"]

_HINT = "a config can use its own files and the options of NixOS, and nothing else"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one evaluation may take before it is ended; the time is that of a clock."""

    timeout_s: float = 60.0
    memory_bytes: int = 4 * 1024**3


BOUNDS = Bounds()


async def evaluate_agent(flake: Path, *, nix: Nix | None = None, bounds: Bounds = BOUNDS) -> bytes:
    """What an agent's config comes to: the JSON of `agentConfig` of the flake that `write_flake` wrote.

    As root it is EVALUATION_UID that evaluates, else the caller without any rights. Raises InvalidInputError for what
    is the config's fault, such as `agent.nix line 12: attribute 'foo' missing`, also if it takes more than `bounds`
    say; and DriverError for what is the machine's. Nothing of it runs or is there afterwards, also if the caller is
    cancelled or ends. It may be called several times at once.
    """
    return await _evaluate(flake, "agentConfig", "--json", nix, bounds)


async def evaluate_packages(flake: Path, *, nix: Nix | None = None, bounds: Bounds = BOUNDS) -> bytes:
    """The packages of an agent's system: the JSON of `agentPackages`, see `nix_packages.parse_packages`.

    Raises as `evaluate_agent`, and may be called as that.
    """
    return await _evaluate(flake, "agentPackages", "--json", nix, bounds)


async def evaluate_system(flake: Path, *, nix: Nix | None = None, bounds: Bounds = BOUNDS) -> str:
    """The name of what an agent's whole system would be built by (`/nix/store/….drv`); nothing is built or written.

    For whoever is about to build it with more rights. A pure evaluation comes to the same each time: so it ends there,
    too, needs as much, and fetches nothing. Raises as `evaluate_agent`, and may be called as that.
    """
    system = "nixosConfigurations.container.config.system.build.toplevel.drvPath"
    return (await _evaluate(flake, system, "--raw", nix, bounds)).decode("utf-8", "replace")


async def _evaluate(flake: Path, attribute: str, form: _Form, nix: Nix | None, bounds: Bounds) -> bytes:
    room = Room(nix or observe_nix(), flake, load_inputs(flake))
    return await _Evaluation(room, attribute, form, bounds).find()


@dataclass(frozen=True, slots=True)
class _Evaluation:
    room: Room
    attribute: str
    form: _Form
    bounds: Bounds

    async def find(self) -> bytes:
        """Raises InvalidInputError and DriverError."""
        try:
            done = await self._run()
        except TimeoutError as error:
            what = f"{NIX_FILE}: it is not evaluated within {self.bounds.timeout_s:g} s"
            raise InvalidInputError(what, "is there an endless loop, or far too much of something?") from error
        if not done.ok:
            raise await self._judge(self._explain(done))
        if len(done.stdout) > OUTPUT_LIMIT_BYTES:
            what = f"{NIX_FILE}: what it says comes to more than {OUTPUT_LIMIT_BYTES // 1024:,} KiB"
            raise InvalidInputError(what, "keep long texts in files of their own, and lists short")
        return done.stdout

    async def _judge(self, failure: Failure) -> InvalidInputError | DriverError:
        """Whose fault it is. Without a place it is the config's if one that says nothing can be evaluated."""
        if failure.file is None:
            control = replace(self, room=replace(self.room, says_nothing=True))
            try:
                done = await control._run()  # noqa: SLF001 - of the same class
                problem = "" if done.ok else control._explain(done).text  # noqa: SLF001
            except TimeoutError:
                problem = f"it takes more than {self.bounds.timeout_s:g} s"
            if problem:
                hint = "are nix and the inputs in nix_inputs in order?"
                return DriverError(f"no config can be evaluated: {problem}", hint)
        return InvalidInputError(failure.render(), _HINT)

    async def _run(self) -> Completed:
        """Raises TimeoutError, and DriverError if it cannot be started."""
        with contextlib.ExitStack() as handles:
            numbers, argv = self._plan(handles)
            try:
                async with asyncio.timeout(self.bounds.timeout_s):
                    return await run(
                        argv,
                        timeout_s=self.bounds.timeout_s + _GRACE_S,
                        env={"PATH": self.room.path},
                        cwd=Path("/"),
                        pass_fds=numbers,
                    )
            except ProcessError as error:
                raise DriverError(f"no config can be evaluated: {error}", "is bubblewrap installed?") from error

    def _plan(self, handles: contextlib.ExitStack) -> tuple[list[int], list[str]]:
        # Garbage is collected by several threads, so that there may be more of processor time.
        seconds = 4 * math.ceil(self.bounds.timeout_s)
        limits = ["prlimit", f"--as={self.bounds.memory_bytes}", f"--cpu={seconds}", "--core=0", "--"]
        command = [*_EVALUATE, "--store", self.room.store, self.form, "--", f"path:{FLAKE}#{self.attribute}"]
        try:
            numbers, argv = self.room.plan(command, handles)
        except OSError as error:
            raise DriverError(f"no config can be evaluated: {error}", "is there memory left?") from error
        return numbers, [*limits, *argv]

    def _explain(self, done: Completed) -> Failure:
        if b"\nerror: out of memory" in done.stderr:
            return Failure(f"it takes more than {self.bounds.memory_bytes // 1024**2:,} MiB of memory")
        if b"error:" not in done.stderr and done.status > _BY_SIGNAL:
            cause = signal.strsignal(done.status - _BY_SIGNAL)
            return Failure(f"nix itself was ended ({cause}): is there a recursion without an end?")
        top = self.room.flake / CONFIG_FOLDER
        files = {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        return parse_failure(done.stderr, files, self.room.names)
