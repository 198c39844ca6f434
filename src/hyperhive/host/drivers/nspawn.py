"""The nspawn driver: containers of systemd-nspawn on images of their own, each with a range of uids. For root.

A container is a chain of processes, see `nspawn_launch.py`: none of them is the daemon's child, all are in the
container's control group, and with the first process inside everything inside ends. Its files are mounted in a mount
namespace that ends with its processes: nothing is left of them.

What must be known of a container is in its folder `<containers>/<name>/` (`records.py`).
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hyperhive.core.uids import FIRST_RANGED_UID, has_range
from hyperhive.host.drivers import nspawn_launch
from hyperhive.host.drivers.detached import ENVIRONMENT, DetachedDriver, find_programs
from hyperhive.host.drivers.nspawn_plan import observe_program, plan_launch
from hyperhive.host.drivers.nspawn_trials import Trials
from hyperhive.host.drivers.protocol import ContainerSpec, DriverError
from hyperhive.host.drivers.records import Record
from hyperhive.host.drivers.seccomp import render_own_filter
from hyperhive.system.cgroups import Group
from hyperhive.system.pids import ProcessId, wait_gone
from hyperhive.system.process import ProcessError, run

# About 0.3 s; a machine under load needs more.
START_TIMEOUT_S = 40.0
TRIAL_TIMEOUT_S = 50.0
_PROGRAMS = {"systemd-nspawn": "systemd-container", "sh": "dash"}
# There where systemd is pid 1.
_MANAGER = Path("/run/systemd/system")
_RESOLVER = Path("/etc/resolv.conf")
# No agent can have that name.
_TRIAL = "hyperhive"
_MACHINE_HINT = (
    "they take Linux 5.19, and images on a file system with id-mapped mounts, such as ext4, xfs or btrfs; "
    "without these, HIVE_DRIVER=bubblewrap"
)
_INTERPRETER_HINT = (
    f"{sys.executable} has to run there, too: install hyperhive with this system's own python3, "
    "or name the suite that it was made for in HIVE_IMAGE_SUITE"
)
_HARNESS = "hyperhive.harness.main"


class Images(Protocol):
    """What containers are made of, see `images.py`."""

    async def prepare(self) -> None: ...
    async def build(self, packages: Sequence[str]) -> Mapping[str, str]: ...
    def find_layers(self, packages: Sequence[str]) -> tuple[Path, ...]: ...


class NspawnDriver(DetachedDriver):
    """Keeps the contract of `protocol.Driver`.

    Every spec needs a uid with a range of its own (`core/uids.py`). `trials` knows which bases were found to run
    the harness: another driver may have tried them.
    """

    name = "nspawn"
    # nspawn makes it.
    inner_group = "payload"

    def __init__(self, folder: Path, images: Images, trials: Trials | None = None) -> None:
        super().__init__(folder)
        self.images = images
        self._managed = _MANAGER.is_dir()
        self._trying = asyncio.Lock()
        self._trials = Trials(folder / "trials.json") if trials is None else trials

    async def prepare(self) -> None:
        if not self._as_root:
            hint = "start the hive as root, or use the driver bubblewrap"
            raise DriverError(f"the {self.name} driver needs root", hint)
        await self._check_programs()
        await self._open()
        await self.images.prepare()
        try:
            layers = self.images.find_layers(())
        except DriverError:
            # Not built yet: `build` will try it.
            return
        await self._try_image(layers)

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        versions = await self.images.build(packages)
        await self._try_image(self.images.find_layers(packages))
        return versions

    async def _check_programs(self) -> None:
        """Raises DriverError for what is not installed."""
        find_programs(_PROGRAMS)

    # -- starting ------------------------------------------------------------------------------------------

    def _check_uid(self, spec: ContainerSpec) -> None:
        if not spec.uid:
            raise DriverError(f"{spec.name} has no uid of its own", "every container needs one but 0")
        if not has_range(spec.uid):
            raise DriverError(f"the uid {spec.uid} of {spec.name} has no range of its own", "start it by the hive")

    def _fill_place(self, place: Path) -> None:
        (place / "stage").mkdir(mode=0o700, exist_ok=True)

    async def _launch(self, spec: ContainerSpec, group: Group) -> ProcessId:
        layers = self.images.find_layers(spec.packages)
        place, log = self._records.container(spec.name), self._records.log(spec.name)
        await asyncio.to_thread(log.shorten)
        said_before = log.size_bytes()
        (place / "report").write_bytes(b"")
        output = log.open_for_writing(spec.uid)
        try:
            plan = self._plan(spec, layers, output)
            argv = group.wrap([sys.executable, "-I", "-S", nspawn_launch.__file__])
            done = await run(
                argv, timeout_s=START_TIMEOUT_S, stdin=json.dumps(plan).encode(), env=ENVIRONMENT, pass_fds=(output,)
            )
        finally:
            os.close(output)
        started = self._records.read_report(spec.name)
        if not done.ok or "init" not in started:
            said = log.last_line(said_before) if started.get("told") else ""
            reason = said or started.get("error") or done.error_text or f"its launch ended with status {done.status}"
            raise DriverError(f"{spec.name} cannot be started: {reason}", "see its log")
        return ProcessId(**started["init"])

    def _plan(self, spec: ContainerSpec, layers: Sequence[Path], output: int) -> dict[str, Any]:
        """The plan of the launch. Raises OSError."""
        return plan_launch(
            spec,
            layers,
            observe_program(),
            place=self._records.container(spec.name),
            output=output,
            denied=render_own_filter(),
            path=ENVIRONMENT["PATH"],
            managed=self._managed,
            resolver=read_resolver() if spec.host_network else "",
        )

    async def _try_image(self, layers: Sequence[Path]) -> None:
        """Has a container with the base import the harness. Raises DriverError with what mends it if it cannot."""
        async with self._trying:
            if self._trials.is_passed(layers[-1]):
                return
            try:
                await self._run_trial()
                self._trials.note_passed(layers[-1])
            except (ProcessError, OSError) as error:
                raise DriverError(f"no container can be started: {error}", "see `hive doctor`") from error
            finally:
                await self.destroy(_TRIAL)

    async def _run_trial(self) -> None:
        command = (sys.executable, "-I", "-c", f"import {_HARNESS}")
        trial = ContainerSpec(_TRIAL, command, ENVIRONMENT, uid=FIRST_RANGED_UID, working_folder=Path("/"))
        await self.create(trial)
        group = await self._groups.make(_TRIAL, trial.limits)
        try:
            await self._launch(trial, group)
        except DriverError as error:
            raise DriverError(f"no container can be started: {error.message}", _MACHINE_HINT) from error
        code = await self._wait_ended(_TRIAL)
        if code != 0:
            said = self._records.log(_TRIAL).last_line(0)
            raise DriverError(f"the harness does not run on the base image: {said}", _INTERPRETER_HINT)

    async def _wait_ended(self, name: str) -> int | None:
        """The exit status of a container that ends by itself. Raises DriverError if it does not."""
        watcher = ProcessId(**self._records.read_report(name)["watchers"][-1])
        if not await wait_gone(watcher, TRIAL_TIMEOUT_S):
            raise DriverError(f"{name} does not end", "is the machine under load? try it again")
        return self._records.read_report(name).get("exit-code")

    # -- what is known -------------------------------------------------------------------------------------

    def _find_reported_init(self, report: Mapping[str, Any]) -> ProcessId | None:
        return _find_reported(report, "init")

    def _find_command(self, init: ProcessId, report: Mapping[str, Any]) -> ProcessId | None:
        return _find_reported(report, "command")

    def _list_watchers(self, init: ProcessId, report: Mapping[str, Any]) -> list[ProcessId]:
        return [ProcessId(**watcher) for watcher in report.get("watchers", ())]

    def _find_reporter(self, record: Record, report: Mapping[str, Any]) -> ProcessId | None:
        watchers = report.get("watchers")
        return ProcessId(**watchers[-1]) if watchers and "ended" not in report else None


def _find_reported(report: Mapping[str, Any], key: str) -> ProcessId | None:
    found = report.get(key)
    return None if found is None else ProcessId(**found)


def read_resolver() -> str:
    """How this machine looks up names."""
    try:
        return _RESOLVER.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
