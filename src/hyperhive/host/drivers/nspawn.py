"""The nspawn driver: containers of systemd-nspawn on images of their own, each with a range of uids. For root.

A container is a chain of processes, see `nspawn_launch.py`: none of them is the daemon's child, all are in the
container's control group, and with the first process inside everything inside ends. Its files are mounted in a mount
namespace that ends with its processes: nothing is left of them.

What must be known of a container is in its folder `<containers>/<name>/` (`bubblewrap_records.py`).
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from hyperhive.core.uids import FIRST_RANGED_UID, has_range
from hyperhive.host.drivers import enter, nspawn_launch
from hyperhive.host.drivers.bubblewrap_records import Record, Records
from hyperhive.host.drivers.container_groups import ContainerGroups
from hyperhive.host.drivers.exit_status import explain_end, find_signal
from hyperhive.host.drivers.kill_watch import KillWatch
from hyperhive.host.drivers.nspawn_plan import observe_program, plan_launch
from hyperhive.host.drivers.nspawn_trials import Trials
from hyperhive.host.drivers.protocol import ContainerSpec, ContainerState, DriverError, ExitCause, Observation
from hyperhive.host.drivers.sandbox import check_mounts
from hyperhive.host.drivers.seccomp import render_filter
from hyperhive.system.cgroups import Group
from hyperhive.system.clock import now
from hyperhive.system.pids import ProcessId, is_alive, load_boot_id, send_signal, wait_gone
from hyperhive.system.process import Completed, ProcessError, run

# About 0.3 s; a machine under load needs more.
START_TIMEOUT_S = 40.0
KILL_TIMEOUT_S = 10.0
DESTROY_TIMEOUT_S = 5.0
# What watches a container tells of its end within some milliseconds.
REPORT_TIMEOUT_S = 2.0
TRIAL_TIMEOUT_S = 50.0
_NAME = "nspawn"
_KILLED = 128 + signal.SIGKILL
_EXPLAINED = {
    ExitCause.OUT_OF_MEMORY: "the kernel killed it: out of memory",
    ExitCause.MACHINE: "the machine was started anew",
}
# Nothing that is started gets anything of the daemon's environment: it may hold a key.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_PROGRAMS = {"systemd-nspawn": "systemd-container", "sh": "dash"}
# There where systemd is pid 1.
_MANAGER = Path("/run/systemd/system")
_RESOLVER = Path("/etc/resolv.conf")
# The group that nspawn makes for what is inside, below that of the container.
_PAYLOAD = "payload"
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


class NspawnDriver:
    """Keeps the contract of `protocol.Driver`. `folder` is the driver's own; no agent can reach it.

    Every spec needs a uid with a range of its own (`core/uids.py`). `trials` knows which bases were found to run
    the harness: another driver may have tried them.
    """

    name = _NAME

    def __init__(self, folder: Path, images: Images, trials: Trials | None = None) -> None:
        self._folder = folder
        self._images = images
        self._records = Records(folder, _NAME)
        self._boot_id = load_boot_id()
        self._kills = KillWatch()
        self._managed = _MANAGER.is_dir()
        self._groups = ContainerGroups(folder, as_root=True)
        self._trying = asyncio.Lock()
        self._trials = Trials(folder / "trials.json") if trials is None else trials

    @property
    def unlimited(self) -> Mapping[str, str]:
        return self._groups.unlimited

    async def prepare(self) -> None:
        if os.geteuid() != 0:
            raise DriverError("the nspawn driver needs root", "start the hive as root, or use the driver bubblewrap")
        for program, package in _PROGRAMS.items():
            if shutil.which(program, path=_ENVIRONMENT["PATH"]) is None:
                raise DriverError(f"{program} is not installed", f"apt-get install {package}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DriverError(f"the driver's folder cannot be made: {error}", "") from error
        await self._images.prepare()
        # Of containers that are not there any more: a daemon may have ended while it destroyed one.
        await self._groups.remove_others(self._records.list_names())
        try:
            layers = self._images.find_layers(())
        except DriverError:
            # Not built yet: `build` will try it.
            return
        await self._try_image(layers)

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        versions = await self._images.build(packages)
        await self._try_image(self._images.find_layers(packages))
        return versions

    async def create(self, spec: ContainerSpec) -> None:
        place = self._records.container(spec.name)
        self._check_uid(spec)
        fresh = Record(dict(spec.environment), str(spec.working_folder), spec.uid, driver=_NAME)
        record = self._records.load(spec.name)
        if record is not None:
            changed = {"environment": fresh.environment, "working_folder": fresh.working_folder, "uid": fresh.uid}
            fresh = replace(record, **changed)
        try:
            (place / "stage").mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DriverError(f"the container's folder cannot be made: {error}", "is the disk full?") from error
        self._records.save(spec.name, fresh)

    async def observe(self, name: str) -> Observation:
        seen = await self._look(name)
        if seen.cause is not None and seen.exit_code is None and await self._wait_reported(name):
            return await self._look(name)
        return seen

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
        # Whoever watches containers bounds their logs by that: nobody else may look for days.
        with contextlib.suppress(OSError):
            self._records.log(name).shorten()
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
        return Observation(
            state, started_at=started_at, exit_code=code, reason=_EXPLAINED.get(cause) or explain_end(code), cause=cause
        )

    async def start(self, spec: ContainerSpec) -> None:
        record = self._records.load(spec.name)
        if record is None:
            raise DriverError(f"the container {spec.name} was not created", "create it first")
        self._check_uid(spec)
        check_mounts(spec.mounts)
        layers = self._images.find_layers(spec.packages)
        seen = await self.observe(spec.name)
        if seen.state is ContainerState.RUNNING and seen.exit_code is None:
            return
        # What an agent has kept alive of the last one must not meet the next.
        await self._end(spec.name, record, 0)
        launched = replace(record, init=None, started_at=now().isoformat(), boot_id=self._boot_id, stop_asked=False)
        try:
            self._records.save(spec.name, launched)
            self._kills.forget(spec.name)
            group = await self._groups.make(spec.name, spec.limits)
            init = await self._launch(spec, layers, group)
            self._kills.look(spec.name, init.pid)
            self._records.save(spec.name, replace(launched, init=init))
        except (DriverError, ProcessError, OSError) as error:
            await self._end(spec.name, launched, 0)
            self._records.save(spec.name, replace(launched, started_at=None))
            if isinstance(error, DriverError):
                raise
            raise DriverError(f"{spec.name} cannot be started: {error}", "see `hive doctor`") from error

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
        self._records.container(name)
        # A record that cannot be read says nothing that is needed: the group has all.
        with contextlib.suppress(DriverError):
            await self.stop(name, DESTROY_TIMEOUT_S)
        # Also without a container: what is left of it would meet the next of that name.
        await self._groups.remove(name)
        self._kills.forget(name)
        self._records.remove(name)

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        record = self._records.load(name)
        init = self._find_init(name, record) if record is not None else None
        if record is None or init is None:
            raise DriverError(f"{name} does not run", "start it first")
        file = self._records.container(name) / "container.json"
        place = [str(init.pid), str(record.uid), str(file), render_filter(os.uname().machine).hex()]
        argv = [sys.executable, "-I", "-S", enter.__file__, *place, "--", *command]
        try:
            joined = await self._groups.wrap(name, argv, _PAYLOAD)
            done = await run(joined, timeout_s=timeout_s, env=_ENVIRONMENT, cwd=Path("/"))
        except ProcessError as error:
            raise DriverError(str(error)) from error
        if done.status == enter.CANNOT_ENTER and done.stderr.startswith(enter.COMPLAINT.encode()):
            raise DriverError(f"{name} cannot be entered: {done.error_text}", "it may just have ended")
        return done

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        return self._records.read_log(name, offset, limit_bytes)

    async def log_range(self, name: str) -> tuple[int, int]:
        return self._records.find_log_range(name)

    # -- starting ------------------------------------------------------------------------------------------

    async def _launch(self, spec: ContainerSpec, layers: Sequence[Path], group: Group) -> ProcessId:
        """Starts the container in its group and returns its first process once the command was executed.

        Raises DriverError, ProcessError or OSError; something may then be left of it.
        """
        place, log = self._records.container(spec.name), self._records.log(spec.name)
        log.shorten()
        said_before = log.size_bytes()
        (place / "report").write_bytes(b"")
        output = log.open_for_writing(spec.uid)
        try:
            plan = plan_launch(
                spec,
                layers,
                observe_program(),
                place=place,
                output=output,
                denied=render_filter(os.uname().machine),
                path=_ENVIRONMENT["PATH"],
                managed=self._managed,
                resolver=_read_resolver() if spec.host_network else "",
            )
            argv = group.wrap([sys.executable, "-I", "-S", nspawn_launch.__file__])
            done = await run(
                argv, timeout_s=START_TIMEOUT_S, stdin=json.dumps(plan).encode(), env=_ENVIRONMENT, pass_fds=(output,)
            )
        finally:
            os.close(output)
        started = self._records.read_report(spec.name)
        if not done.ok or "init" not in started:
            said = log.last_line(said_before) if started.get("told") else ""
            reason = said or started.get("error") or done.error_text or f"its launch ended with status {done.status}"
            raise DriverError(f"{spec.name} cannot be started: {reason}", "see its log")
        return ProcessId(**started["init"])

    def _check_uid(self, spec: ContainerSpec) -> None:
        if not spec.uid:
            raise DriverError(f"{spec.name} has no uid of its own", "every container needs one but 0")
        if not has_range(spec.uid):
            raise DriverError(f"the uid {spec.uid} of {spec.name} has no range of its own", "start it by the hive")

    async def _try_image(self, layers: Sequence[Path]) -> None:
        """Has a container with the base import the harness. Raises DriverError with what mends it if it cannot."""
        async with self._trying:
            if self._trials.is_passed(layers[-1]):
                return
            try:
                await self._run_trial(layers[-1:])
                self._trials.note_passed(layers[-1])
            except (ProcessError, OSError) as error:
                raise DriverError(f"no container can be started: {error}", "see `hive doctor`") from error
            finally:
                await self.destroy(_TRIAL)

    async def _run_trial(self, layers: Sequence[Path]) -> None:
        command = (sys.executable, "-I", "-c", f"import {_HARNESS}")
        trial = ContainerSpec(_TRIAL, command, _ENVIRONMENT, uid=FIRST_RANGED_UID, working_folder=Path("/"))
        await self.create(trial)
        group = await self._groups.make(_TRIAL, trial.limits)
        try:
            await self._launch(trial, layers, group)
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

    # -- ending --------------------------------------------------------------------------------------------

    async def _end(self, name: str, record: Record, timeout_s: float) -> None:
        """TERM to the command, after `timeout_s` KILL to all; returns when no process of the container is left."""
        report = self._records.read_report(name)
        init = self._find_init(name, record)
        if init is not None:
            command = _find_reported(report, "command")
            if command is not None and timeout_s > 0:
                send_signal(command, signal.SIGTERM)
                await wait_gone(init, timeout_s)
            # The first process of a pid namespace takes all others with it, and is gone when they are.
            send_signal(init, signal.SIGKILL)
            if not await wait_gone(init, KILL_TIMEOUT_S):
                raise DriverError(f"{name} cannot be killed", "a process of it hangs in the kernel: see `ps`")
            await self._wait_watchers(report)
        elif record.started_at is not None:
            # What watched it may be about to say how it ended.
            await self._wait_reported(name)
        # The last word: whatever else came from it, and what watches it.
        await self._groups.remove(name)

    async def _wait_watchers(self, report: Mapping[str, Any]) -> None:
        for watcher in report.get("watchers", ()):
            process = ProcessId(**watcher)
            if not await wait_gone(process, REPORT_TIMEOUT_S):
                send_signal(process, signal.SIGKILL)

    # -- what is known -------------------------------------------------------------------------------------

    def _find_init(self, name: str, record: Record) -> ProcessId | None:
        """The first process of the container, if it lives: also one that an earlier daemon only just launched."""
        if record.started_at is None or record.boot_id != self._boot_id:
            return None
        init = record.init or _find_reported(self._records.read_report(name), "init")
        return init if init is not None and is_alive(init) else None

    async def _find_cause(self, name: str, record: Record, code: int | None) -> ExitCause:
        """Why a container ended that did. `code` is None if its first process was killed or nobody reported."""
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
        usage = await self._groups.observe(name)
        kills = None if usage is None else usage.memory_kills
        return kills > 0 if kills is not None else self._kills.is_killed(name)

    async def _wait_reported(self, name: str) -> bool:
        """Gives what watches a container that just ended the time to say how. False if nobody is left who could."""
        report = self._records.read_report(name)
        watchers = [ProcessId(**watcher) for watcher in report.get("watchers", ())]
        if "ended" in report or not watchers or not is_alive(watchers[-1]):
            return False
        await wait_gone(watchers[-1], REPORT_TIMEOUT_S)
        return True


def _find_reported(report: Mapping[str, Any], key: str) -> ProcessId | None:
    found = report.get(key)
    return None if found is None else ProcessId(**found)


def _read_resolver() -> str:
    try:
        return _RESOLVER.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
