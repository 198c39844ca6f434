"""Containers that are processes of this machine and outlive the daemon: what their drivers have in common.

What must be known of a container is in its folder `<containers>/<name>/` (`records.py`): a restarted daemon reads it
all from there. How one is launched and recognised is the driver's own.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from hyperhive.core.limits import Limits
from hyperhive.host.drivers import enter
from hyperhive.host.drivers.container_groups import ContainerGroups
from hyperhive.host.drivers.exit_status import explain_end, find_signal
from hyperhive.host.drivers.kill_watch import KillWatch
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, DriverError, ExitCause, Observation
from hyperhive.host.drivers.records import Record, Records
from hyperhive.host.drivers.sandbox import check_mounts
from hyperhive.host.drivers.seccomp import render_own_filter
from hyperhive.system.cgroups import Group, Usage
from hyperhive.system.clock import now
from hyperhive.system.pids import ProcessId, is_alive, load_boot_id, send_signal, wait_gone
from hyperhive.system.process import Completed, ProcessError, run
from hyperhive.system.terminal_room import limit_terminals

KILL_TIMEOUT_S = 10.0
DESTROY_TIMEOUT_S = 5.0
# What watches a container reports its end within some milliseconds; a machine under load lets it wait.
REPORT_TIMEOUT_S = 2.0
# What is started gets nothing of the daemon's environment: it may hold a key. The last folder is NixOS', which has
# programs in none of the others.
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"
}
_END_TIMEOUT_S = 1.0
_KILLED = 128 + signal.SIGKILL
_EXPLAINED = {
    ExitCause.OUT_OF_MEMORY: "the kernel killed it: out of memory",
    ExitCause.MACHINE: "the machine was started anew",
}


class DetachedDriver(ABC):
    """Keeps the contract of `protocol.Driver`, but for `prepare` and `build`. `folder` is the driver's own; no agent
    can reach it.

    A container's commands see PWD beside the environment of the spec. What `exec` runs gets that environment, too; of
    what it leaves in the background at its deadline, only its own process group is ended before the container is.
    """

    name: str
    # The group, below that of the container, where what runs inside is.
    inner_group = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._as_root = os.geteuid() == 0
        self._records = Records(folder, self.name)
        self._boot_id = load_boot_id()
        self._kills = KillWatch()
        self._groups = ContainerGroups(folder, as_root=self._as_root)

    @property
    def unlimited(self) -> Mapping[str, str]:
        return self._groups.unlimited

    # -- the driver's own --------------------------------------------------------------------------------------

    @abstractmethod
    def _check_uid(self, spec: ContainerSpec) -> None:
        """Raises DriverError for a uid that a container cannot have."""

    @abstractmethod
    def _fill_place(self, place: Path) -> None:
        """Puts into the container's folder what every launch of it needs. Again is no error. Raises OSError."""

    @abstractmethod
    async def _launch(self, spec: ContainerSpec, group: Group) -> ProcessId:
        """Starts the container in its group and returns its first process once the command was executed.

        Raises DriverError, ProcessError or OSError; something may then be left of it.
        """

    @abstractmethod
    def _find_reported_init(self, report: Mapping[str, Any]) -> ProcessId | None:
        """The first process of a container, by what was reported at its launch; it may have ended."""

    @abstractmethod
    def _find_command(self, init: ProcessId, report: Mapping[str, Any]) -> ProcessId | None:
        """The process that the command of the spec became; None if that is not there."""

    @abstractmethod
    def _list_watchers(self, init: ProcessId, report: Mapping[str, Any]) -> list[ProcessId]:
        """The processes that watch a running container from outside, the innermost first."""

    @abstractmethod
    def _find_reporter(self, record: Record, report: Mapping[str, Any]) -> ProcessId | None:
        """Who may be about to say how a container ended whose first process is gone."""

    def _plan_limits(self, limits: Limits) -> Limits:
        """What the control group of a container with these limits has."""
        return limits

    # -- the contract ------------------------------------------------------------------------------------------

    async def create(self, spec: ContainerSpec) -> None:
        place = self._records.container(spec.name)
        self._check_uid(spec)
        fresh = Record(dict(spec.environment), str(spec.working_folder), spec.uid, driver=self.name)
        record = self._records.load(spec.name)
        if record is not None:
            changed = {"environment": fresh.environment, "working_folder": fresh.working_folder, "uid": fresh.uid}
            fresh = replace(record, **changed)
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fill_place(place)
        except OSError as error:
            raise DriverError(f"the container's folder cannot be written: {error}", "is the disk full?") from error
        self._records.save(spec.name, fresh)

    async def observe(self, name: str) -> Observation:
        seen = await self._look(name)
        if seen.cause is not None and seen.exit_code is None and await self._wait_reported(name):
            return await self._look(name)
        return seen

    async def find_usage(self, name: str) -> Usage:
        return await self._groups.observe(name) or Usage()

    async def start(self, spec: ContainerSpec) -> None:
        record = self._records.load(spec.name)
        if record is None:
            raise DriverError(f"the container {spec.name} was not created", "create it first")
        self._check_uid(spec)
        check_mounts(spec.mounts)
        seen = await self.observe(spec.name)
        if seen.state is ContainerState.RUNNING and seen.exit_code is None:
            return
        # What an agent has kept alive of the last one must not meet the next.
        await self._end(spec.name, record, 0)
        launched = replace(record, init=None, started_at=now().isoformat(), boot_id=self._boot_id, stop_asked=False)
        try:
            self._records.save(spec.name, launched)
            self._kills.forget(spec.name)
            group = await self._groups.make(spec.name, self._plan_limits(spec.limits))
            init = await self._launch(spec, group)
            await self._bound_terminals(spec.name, init)
            self._kills.look(spec.name, init.pid)
            self._records.save(spec.name, replace(launched, init=init))
        except (DriverError, ProcessError, OSError) as error:
            await self._end(spec.name, launched, 0)
            self._records.save(spec.name, replace(launched, started_at=None))
            if isinstance(error, DriverError):
                raise
            raise DriverError(f"{spec.name} cannot be started: {error}", "see `hive doctor`") from error

    async def _bound_terminals(self, name: str, init: ProcessId) -> None:
        """Raises DriverError. Only root can; a kernel of its own has its own, and what has ended needs no bound."""
        if os.geteuid() != 0:
            return
        try:
            await asyncio.to_thread(limit_terminals, init.pid)
        except FileNotFoundError:
            return
        except OSError as error:
            # Of what is about to end the kernel knows no mounts any more.
            if await wait_gone(init, _END_TIMEOUT_S):
                return
            reason = f"how many terminals {name} may have cannot be bounded: {error.strerror}"
            raise DriverError(reason, "the kernel has to know `fspick` (5.2 or later), see `hive doctor`") from error

    async def stop(self, name: str, timeout_s: float) -> None:
        record = self._records.load(name)
        if record is None or record.started_at is None:
            return
        try:
            self._records.save(name, replace(record, stop_asked=True))
        finally:
            # Also when the disk is full.
            await self._end(name, record, timeout_s)

    async def destroy(self, name: str) -> None:
        try:
            await self.stop(name, DESTROY_TIMEOUT_S)
        except DriverError:
            # Without a record that can be read, the report still says what to end.
            await self._end(name, Record({}, "/", None, None, self._boot_id, now().isoformat()), DESTROY_TIMEOUT_S)
        # Also without a container: what is left of it would meet the next of that name.
        await self._groups.remove(name)
        self._kills.forget(name)
        self._records.remove(name)

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        record = self._records.load(name)
        init = self._find_init(name, record) if record is not None else None
        if record is None or init is None:
            raise DriverError(f"{name} does not run", "start it first")
        uid = os.geteuid() if record.uid is None else record.uid
        program = [sys.executable, "-I", "-S", enter.__file__]
        place = [str(init.pid), str(uid), str(self._records.container(name) / "container.json")]
        argv = [*program, *place, render_own_filter().hex(), "--", *command]
        done = await run_program(await self._groups.wrap(name, argv, self.inner_group), timeout_s)
        if done.status == enter.CANNOT_ENTER and done.stderr.startswith(enter.COMPLAINT.encode()):
            raise DriverError(f"{name} cannot be entered: {done.error_text}", "it may just have ended")
        return done

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        return await asyncio.to_thread(self._records.read_log, name, offset, limit_bytes)

    async def log_range(self, name: str) -> tuple[int, int]:
        return self._records.find_log_range(name)

    # -- for the drivers ---------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Makes the driver's folder, and ends what is left of containers that are not there any more.

        A daemon may have ended while it destroyed one. What cannot be ended is no reason to do without all others.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DriverError(f"the driver's folder cannot be made: {error}", "") from error
        await self._groups.open()
        with contextlib.suppress(DriverError):
            await self._groups.remove_others(self._records.list_names())

    # -- ending ------------------------------------------------------------------------------------------------

    async def _end(self, name: str, record: Record, timeout_s: float) -> None:
        """TERM to the command, after `timeout_s` KILL to all; returns when no process of the container is left."""
        init = self._find_init(name, record)
        if init is not None:
            await self._end_namespace(name, init, timeout_s)
        elif record.started_at is not None:
            # What watched it may be about to say how it ended.
            await self._wait_reported(name)
        # The last word: whatever else came from it, and what watches it.
        await self._groups.remove(name)

    async def _end_namespace(self, name: str, init: ProcessId, timeout_s: float) -> None:
        report = self._records.read_report(name)
        watchers = self._list_watchers(init, report)
        if timeout_s > 0 and await self._ask_to_end(name, init, report):
            await wait_gone(init, timeout_s)
        # The first process of a pid namespace takes all others with it, and is gone when they are.
        send_signal(init, signal.SIGKILL)
        if not await wait_gone(init, KILL_TIMEOUT_S):
            raise DriverError(f"{name} cannot be killed", "a process of it hangs in the kernel: see `ps`")
        for watcher in watchers:
            if not await wait_gone(watcher, REPORT_TIMEOUT_S):
                send_signal(watcher, signal.SIGKILL)

    async def _ask_to_end(self, name: str, init: ProcessId, report: Mapping[str, Any]) -> bool:
        """TERM to the command; whether that was possible."""
        command = self._find_command(init, report)
        if command is not None:
            send_signal(command, signal.SIGTERM)
        return command is not None

    # -- what is known -----------------------------------------------------------------------------------------

    async def _look(self, name: str) -> Observation:
        try:
            record = self._records.load(name)
        except DriverError as error:
            return Observation(ContainerState.UNKNOWN, reason=error.message)
        if record is None:
            return Observation(ContainerState.ABSENT)
        if record.started_at is None:
            return Observation(ContainerState.STOPPED)
        started_at = datetime.fromisoformat(record.started_at)
        # Whoever watches containers bounds their logs by that: nobody else may look for days. To give back a gigabyte
        # takes a third of a second.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._records.log(name).shorten)
        # Looked at before the report is: what has ended by then has reported.
        init = self._find_init(name, record)
        code = self._records.read_report(name).get("exit-code")
        if init is not None:
            if code is None:
                self._kills.look(name, init.pid)
            reason = "" if code is None else f"{explain_end(code)}, other processes are left"
            return Observation(ContainerState.RUNNING, init.pid, started_at, code, reason)
        state = ContainerState.STOPPED if record.stop_asked else ContainerState.EXITED
        cause = await self._find_cause(name, record, code)
        reason = _EXPLAINED.get(cause) or explain_end(code)
        return Observation(state, started_at=started_at, exit_code=code, reason=reason, cause=cause)

    def _find_init(self, name: str, record: Record) -> ProcessId | None:
        """The first process of the container, if it lives: also one that an earlier daemon only just launched."""
        if record.started_at is None or record.boot_id != self._boot_id:
            return None
        init = record.init or self._find_reported_init(self._records.read_report(name))
        return init if init is not None and is_alive(init) else None

    async def _find_cause(self, name: str, record: Record, code: int | None) -> ExitCause:
        """Why a container ended that did. `code` is None when what would have reported it was killed."""
        if record.stop_asked:
            return ExitCause.ASKED
        if record.boot_id != self._boot_id:
            return ExitCause.MACHINE
        if code in {None, _KILLED} and await self._is_out_of_memory(name):
            return ExitCause.OUT_OF_MEMORY
        if code is None:
            return ExitCause.UNKNOWN
        # What its command returned may look like that, too: sh tells of its last child in the same way.
        return ExitCause.SIGNAL if find_signal(code) else ExitCause.EXITED

    async def _is_out_of_memory(self, name: str) -> bool:
        if self._kills.find_baseline(name) is not None:
            return self._kills.is_killed(name)
        # Only an earlier daemon saw it run; its group, if there is one, has counted since its start.
        usage = await self._groups.observe(name)
        return usage is not None and bool(usage.memory_kills)

    async def _wait_reported(self, name: str) -> bool:
        """Gives what watches a container that just ended the time to say how. False if nobody is left who could."""
        with contextlib.suppress(DriverError):
            record = self._records.load(name)
            reporter = None if record is None else self._find_reporter(record, self._records.read_report(name))
            if reporter is not None and is_alive(reporter):
                await wait_gone(reporter, REPORT_TIMEOUT_S)
                return True
        return False


def find_programs(needed: Mapping[str, str]) -> None:
    """Raises DriverError for the first program that is not there; `needed` names the package of each."""
    for program, package in needed.items():
        if shutil.which(program, path=ENVIRONMENT["PATH"]) is None:
            raise DriverError(f"{program} is not installed", f"apt-get install {package}")


async def run_program(argv: Sequence[str], timeout_s: float) -> Completed:
    """Runs `argv` with the environment of what drivers start. Raises DriverError if it cannot be run to its end."""
    try:
        return await run(argv, timeout_s=timeout_s, env=ENVIRONMENT, cwd=Path("/"))
    except ProcessError as error:
        raise DriverError(str(error)) from error
