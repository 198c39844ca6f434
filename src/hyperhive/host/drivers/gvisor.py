"""The gvisor driver: the containers of the nspawn driver, with gVisor's kernel between them and this machine's.

A container is a chain of processes: a `sh` that writes down how it ended, `runsc`, and of that the one that serves
files and the one that is the container's kernel. With the latter everything inside ends. The processes inside are not
seen from outside: what is to be done to them is asked of runsc.
"""

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperhive.core.limits import Limits
from hyperhive.host.drivers.detached import ENVIRONMENT, find_programs, run_program
from hyperhive.host.drivers.gvisor_plan import name_sandbox, plan_sandbox, render_bundle, render_process, render_runsc
from hyperhive.host.drivers.nspawn import Images, NspawnDriver, read_resolver
from hyperhive.host.drivers.nspawn_plan import observe_program
from hyperhive.host.drivers.nspawn_trials import Trials
from hyperhive.host.drivers.protocol import ContainerSpec, DriverError
from hyperhive.host.drivers.records import Record
from hyperhive.system.cgroups import Usage
from hyperhive.system.files import write_atomically
from hyperhive.system.pids import ProcessId
from hyperhive.system.process import Completed

_PROGRAMS = {"runsc": "runsc", "sh": "dash"}
# By its date, Debian 13's. In Debian 12's `ls` and `stat` fail: it refuses a flag of theirs.
_OLDEST_VERSION = 20240729
# What runsc ends with if it is not the command that has ended.
_FAILED = 128
_ASK_TIMEOUT_S = 10.0
# gVisor needs threads of this machine for itself and for each process inside: what is bounded is how many of these.
_TASKS_AT_LEAST = 512
_TASKS_FACTOR = 4
_UNCOUNTED = "the processes of a container are gVisor's own, and not counted by this machine's kernel"


class GvisorDriver(NspawnDriver):
    """Keeps the contract of `protocol.Driver`; beside runsc it needs what the nspawn driver needs of the machine."""

    name = "gvisor"
    inner_group = ""

    def __init__(self, folder: Path, images: Images, trials: Trials | None = None) -> None:
        super().__init__(folder, images, Trials(folder / "gvisor-trials.json") if trials is None else trials)

    @property
    def unlimited(self) -> Mapping[str, str]:
        return {"tasks": _UNCOUNTED, **super().unlimited}

    async def _check_programs(self) -> None:
        find_programs(_PROGRAMS)
        version = await run_program(["runsc", "--version"], _ASK_TIMEOUT_S)
        if parse_version(version.stdout) < _OLDEST_VERSION:
            text = version.stdout.decode("utf-8", "replace").partition("\n")[0].strip()
            raise DriverError(f"{text} is too old", "install one of July 2024 or later, such as Debian 13's")

    async def find_usage(self, name: str) -> Usage:
        # The threads that are counted are runsc's.
        return replace(await super().find_usage(name), tasks=None, tasks_limit=None)

    # -- starting ------------------------------------------------------------------------------------------

    def _fill_place(self, place: Path) -> None:
        (place / "bundle").mkdir(mode=0o700, exist_ok=True)

    def _plan_limits(self, limits: Limits) -> Limits:
        if limits.tasks is None:
            return limits
        return replace(limits, tasks=max(_TASKS_AT_LEAST, limits.tasks * _TASKS_FACTOR))

    def _plan(self, spec: ContainerSpec, layers: Sequence[Path], output: int) -> dict[str, Any]:
        place, program = self._records.container(spec.name), observe_program()
        # What runsc knows of a container that has ended without it.
        shutil.rmtree(place / "runsc", ignore_errors=True)
        bundle = render_bundle(spec, program.mounts)
        write_atomically(place / "bundle/config.json", json.dumps(bundle).encode(), 0o600)
        return plan_sandbox(
            spec,
            layers,
            program,
            place=place,
            output=output,
            path=ENVIRONMENT["PATH"],
            resolver=read_resolver() if spec.host_network else "",
        )

    # -- running -------------------------------------------------------------------------------------------

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        record = self._records.load(name)
        if record is None or self._find_init(name, record) is None:
            raise DriverError(f"{name} does not run", "start it first")
        with tempfile.TemporaryDirectory(dir=self._records.container(name)) as folder:
            try:
                done = await self._execute(name, record, command, Path(folder), timeout_s)
            except DriverError:
                await self._kill_executed(name, record, Path(folder))
                raise
        if done.status == _FAILED and self._find_init(name, record) is None:
            raise DriverError(f"{name} cannot be entered: {done.error_text}", "it has just ended")
        return done

    async def _execute(
        self, name: str, record: Record, command: Sequence[str], folder: Path, timeout_s: float
    ) -> Completed:
        """`folder` is this execution's alone; it is left with `pid`, the number that the process has inside."""
        place = self._records.container(name)
        process = render_process(record.environment, Path(record.working_folder), command)
        write_atomically(folder / "process.json", json.dumps(process).encode(), 0o600)
        files = [f"--process={folder}/process.json", f"--internal-pid-file={folder}/pid"]
        argv = [*render_runsc(place), "exec", *files, name_sandbox(name, place)]
        return await run_program(await self._groups.wrap(name, argv), timeout_s)

    async def _kill_executed(self, name: str, record: Record, folder: Path) -> None:
        """Ends what was executed there, and what it started in its process group."""
        # It may not have been started, or the container has ended.
        with contextlib.suppress(OSError, ValueError, DriverError):
            pid = int((folder / "pid").read_text())
            killer = ("/bin/sh", "-c", f"kill -KILL -{pid}")
            await self._execute(name, record, killer, folder, _ASK_TIMEOUT_S)

    async def _ask_to_end(self, name: str, init: ProcessId, report: Mapping[str, Any]) -> bool:
        place = self._records.container(name)
        argv = [*render_runsc(place), "kill", name_sandbox(name, place), "TERM"]
        try:
            return (await run_program(await self._groups.wrap(name, argv), _ASK_TIMEOUT_S)).ok
        except DriverError:
            return False


def parse_version(text: bytes) -> int:
    """The date in `runsc version release-20240729.0`; 0 if there is none."""
    found = re.search(rb"\b(20\d{6})\b", text)
    return int(found[1]) if found else 0
