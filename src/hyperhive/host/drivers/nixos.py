"""The nixos driver: containers of `nixos-container`, each with a NixOS of its own that its agent's flake describes.

On NixOS only, and for root. A container is a unit of systemd's, `container@h-alice.service`: it outlives the daemon,
and systemd knows how it ended. Its conf (`/etc/nixos-containers/h-alice.conf`) is written by nixos-container and then
by us, as that knows no folders to bind, no user namespace, and no network but its own.

What must be known of a container beside that is in its folder `<containers>/<name>/`: `container.json` (`records.py`),
`system.json` (which system it has), `flake` and `next` (what it was made from, and what was built last), `environment`,
`log` (what the journal has of it), `build.log` (the last words of nix).
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.uids import has_range, range_start
from hyperhive.host.drivers import enter
from hyperhive.host.drivers.detached import DESTROY_TIMEOUT_S, ENVIRONMENT
from hyperhive.host.drivers.kill_watch import KillWatch
from hyperhive.host.drivers.nix_evaluation import evaluate_system
from hyperhive.host.drivers.nixos_config import load_system, read_config
from hyperhive.host.drivers.nixos_environment import ENVIRONMENT_FILE, plan_inner_environment, write_environment
from hyperhive.host.drivers.nixos_flake import NixInputs
from hyperhive.host.drivers.nixos_log import JournalLog
from hyperhive.host.drivers.nixos_machines import ForeignError, Machines, Places
from hyperhive.host.drivers.nixos_names import find_machine, plan_machine
from hyperhive.host.drivers.nixos_programs import NIXOS_HINT, Deadlines, Programs
from hyperhive.host.drivers.nixos_state import OUT_OF_MEMORY, plan_ended, plan_running
from hyperhive.host.drivers.nixos_systems import EvaluateFirst, Systems
from hyperhive.host.drivers.nixos_unit import find_unit, remove_drop_in, write_drop_in
from hyperhive.host.drivers.nixos_units import Units
from hyperhive.host.drivers.protocol import (
    ContainerSpec,
    ContainerState,
    DriverError,
    ExitCause,
    Mount,
    Observation,
    Package,
    SizeDifference,
)
from hyperhive.host.drivers.records import Record, Records
from hyperhive.host.drivers.sandbox import check_mounts
from hyperhive.host.drivers.seccomp import render_own_filter
from hyperhive.system.cgroup_places import Place
from hyperhive.system.cgroups import Group, Usage
from hyperhive.system.clock import now
from hyperhive.system.pids import ProcessId, load_boot_id
from hyperhive.system.process import Completed
from hyperhive.system.terminal_room import limit_terminals

# What systemd inside has for a status when its harness was ended by a signal; and SIGKILL as shells tell it.
_KILLED = frozenset({255, 128 + signal.SIGKILL})


class NixosDriver:
    """Keeps the contracts of `protocol.Driver` and `protocol.BuildsSystems`.

    `folder` is the driver's own; no agent can reach it. Every spec needs a uid with a range of its own
    (`core/uids.py`), and a mount at /config with the files that its system is made from; its command is the harness of
    that system, whatever it says. `create` makes a system that was not built before, too, and takes as long as that
    then; a running container is switched to it at once. `evaluate_first` is what each system has to pass before root
    builds it.
    """

    name = "nixos"

    def __init__(
        self,
        folder: Path,
        inputs: NixInputs,
        *,
        path: str = ENVIRONMENT["PATH"],
        places: Places | None = None,
        deadlines: Deadlines | None = None,
        evaluate_first: EvaluateFirst = evaluate_system,
    ) -> None:
        self._folder = folder
        self._inputs = inputs
        self._places = places or Places()
        self._programs = Programs(path, folder / ".home", deadlines or Deadlines())
        self._machines = Machines(folder, self._places, self._programs)
        self._systems = Systems(folder, inputs, self._machines, self._programs, evaluate_first)
        self._units = Units(self._programs)
        self._records = Records(folder, self.name)
        self._boot_id = load_boot_id()
        self._kills = KillWatch()
        self._reading: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def unlimited(self) -> Mapping[str, str]:
        # systemd sets them all, and NixOS has no other.
        return {}

    @property
    def revision(self) -> str:
        return self._inputs.revision

    async def prepare(self) -> None:
        if os.geteuid() != 0:
            raise DriverError("the nixos driver needs root", "start the hive as root, or use the driver bubblewrap")
        self._programs.check()
        for path in self._inputs.list_paths():
            if not path.is_dir():
                raise DriverError(f"{path}, which systems are built from, is not there", NIXOS_HINT)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / ".home").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise DriverError(f"the driver's folder cannot be made: {error}", "") from error
        await asyncio.to_thread(self._systems.sweep)
        await self._units.check()

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        # Packages are a part of each system: see `build_system`.
        return {}

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        return await self._systems.evaluate(name, files)

    async def build_system(self, name: str, files: Mapping[str, bytes]) -> None:
        await self._systems.build(name, files)

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        return await self._systems.list_packages(name, files)

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        return await self._systems.compare_packages(before, after)

    # -- the life of a container -------------------------------------------------------------------------------

    async def create(self, spec: ContainerSpec) -> None:
        plan_machine(spec.name)
        _check_uid(spec)
        files = await asyncio.to_thread(read_config, spec.mounts)
        fresh = Record(plan_inner_environment(spec.environment), str(spec.working_folder), spec.uid, driver=self.name)
        record = self._records.load(spec.name)
        if record is not None:
            changed = {"environment": fresh.environment, "working_folder": fresh.working_folder, "uid": fresh.uid}
            fresh = replace(record, **changed)
        try:
            await self._systems.make(spec.name, files)
        except InvalidInputError as error:
            raise DriverError(error.message, error.hint) from error
        await self._configure(spec)
        if record is None:
            # Of a container of that name before, the journal may have something, too.
            async with self._reading[spec.name]:
                await self._journal(spec.name).begin()
        self._records.save(spec.name, fresh)

    async def _configure(self, spec: ContainerSpec) -> None:
        """Writes what the next start of the container goes by, where that is not there already."""
        assert spec.uid is not None
        machine, base, file = plan_machine(spec.name), range_start(spec.uid), self._find_environment(spec.name)
        try:
            write_environment(file, spec.environment, base)
        except OSError as error:
            raise DriverError(
                f"the variables of {spec.name} cannot be written: {error}", "is the disk full?"
            ) from error
        mounts = (*spec.mounts, Mount(file, ENVIRONMENT_FILE))
        self._machines.configure(spec.name, mounts, base, private_network=not spec.host_network)
        if write_drop_in(machine, spec.limits, self._places.units):
            try:
                await self._units.reload()
            except (DriverError, asyncio.CancelledError):
                # Systemd does not know it: next time it is to be told again.
                remove_drop_in(machine, self._places.units)
                raise

    async def observe(self, name: str) -> Observation:
        machine = find_machine(name)
        if machine is None:
            # Of an agent from before this was its hive's driver.
            return Observation(ContainerState.ABSENT)
        try:
            record = self._records.load(name)
            is_there = self._machines.is_there(name)
        except DriverError as error:
            return Observation(ContainerState.UNKNOWN, reason=error.message)
        if not is_there and record is None:
            return Observation(ContainerState.ABSENT)
        try:
            seen = await self._look(name, machine, record)
        except DriverError as error:
            return Observation(ContainerState.UNKNOWN, reason=error.message)
        if not is_there and seen.state is not ContainerState.RUNNING:
            return Observation(ContainerState.ABSENT)
        return replace(seen, revision=load_system(self._records.container(name)).revision)

    async def _look(self, name: str, machine: str, record: Record | None) -> Observation:
        unit = await self._units.look(machine)
        if not unit.is_over:
            leader = await self._units.find_leader(machine)
            if leader is not None:
                self._kills.look(name, leader.pid)
            if leader is not None or not unit.is_up:
                return plan_running(unit, leader, record)
            # It may have ended in between.
            unit = await self._units.look(machine)
            if unit.is_up:
                reason = "systemd says that it runs, and its first process is gone"
                return Observation(ContainerState.UNKNOWN, reason=reason)
            if not unit.is_over:
                return plan_running(unit, None, record)
        seen = plan_ended(unit, record, self._boot_id)
        if seen.exit_code in _KILLED and self._kills.is_killed(name):
            # systemd inside tells the end of the harness, and not what it ended by.
            return replace(seen, cause=ExitCause.OUT_OF_MEMORY, reason=OUT_OF_MEMORY)
        return seen

    async def find_usage(self, name: str) -> Usage:
        machine = find_machine(name)
        if machine is None:
            return Usage()
        unit = await self._units.look(machine)
        if unit.is_over or not unit.control_group.startswith("/"):
            return Usage()
        folder = self._places.cgroups / unit.control_group.lstrip("/")
        return Group(name, [Place(folder, 2, frozenset({"memory", "pids"}))]).observe()

    async def start(self, spec: ContainerSpec) -> None:
        machine, record = plan_machine(spec.name), self._records.load(spec.name)
        if record is None or not self._machines.has_profile(spec.name):
            raise DriverError(f"the container {spec.name} was not created", "create it first")
        _check_uid(spec)
        check_mounts(spec.mounts)
        seen = await self.observe(spec.name)
        if seen.state is ContainerState.RUNNING and seen.pid is not None:
            return
        await self._units.end(machine, 0)
        await self._configure(spec)
        launched = replace(record, init=None, started_at=now().isoformat(), boot_id=self._boot_id, stop_asked=False)
        try:
            self._records.save(spec.name, launched)
            self._kills.forget(spec.name)
            init = await self._launch(spec.name, machine)
            self._records.save(spec.name, replace(launched, init=init))
        except (DriverError, asyncio.CancelledError):
            # Also who is told to stop leaves nothing behind that nobody waits for.
            with contextlib.suppress(DriverError):
                await self._units.end(machine, 0)
                self._records.save(spec.name, replace(launched, started_at=None))
            raise

    async def _launch(self, name: str, machine: str) -> ProcessId | None:
        """Starts the unit and returns the first process inside; None if it has ended by then. Raises DriverError."""
        done = await self._units.start(machine)
        unit = await self._units.look(machine)
        if not done.ok:
            reason = unit.reason if unit.has_failed else done.error_text
            hint = f"see its log, or systemctl status {find_unit(machine)}"
            raise DriverError(f"{name} cannot be started: {reason}", hint)
        leader = await self._units.find_leader(machine)
        if leader is None and not (await self._units.look(machine)).is_over:
            raise DriverError(f"{name} cannot be started: its first process is gone", "see its log")
        if leader is not None:
            await self._bound_terminals(name, leader)
        return leader

    async def _bound_terminals(self, name: str, init: ProcessId) -> None:
        try:
            await asyncio.to_thread(limit_terminals, init.pid)
        except FileNotFoundError:
            return
        except OSError as error:
            reason = f"how many terminals {name} may have cannot be bounded: {error.strerror}"
            raise DriverError(reason, "the kernel has to know `fspick` (5.2 or later), see `hive doctor`") from error

    async def stop(self, name: str, timeout_s: float) -> None:
        if find_machine(name) is None:
            return
        record = self._records.load(name)
        try:
            is_there = self._machines.is_there(name)
        except ForeignError:
            return
        if is_there or record is not None:
            await self._end(name, record, timeout_s)

    async def destroy(self, name: str) -> None:
        machine = find_machine(name)
        if machine is None:
            return
        try:
            is_there = self._machines.is_there(name)
        except ForeignError:
            # Whoever made it may need it.
            self._records.remove(name)
            return
        if is_there or self._records.container(name).exists():
            record = None
            with contextlib.suppress(DriverError):
                # Whatever it says, and also if nobody can read it.
                record = self._records.load(name)
            await self._end(name, record, DESTROY_TIMEOUT_S)
        if is_there:
            await self._machines.remove(name)
        if remove_drop_in(machine, self._places.units):
            await self._units.reload()
        self._kills.forget(name)
        self._records.remove(name)

    async def _end(self, name: str, record: Record | None, timeout_s: float) -> None:
        try:
            if record is not None and record.started_at is not None:
                self._records.save(name, replace(record, stop_asked=True))
        finally:
            # Also when the disk is full.
            await self._units.end(plan_machine(name), timeout_s)

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        plan_machine(name)
        record = self._records.load(name)
        pid = None if record is None else (await self.observe(name)).pid
        if record is None or record.uid is None or pid is None:
            raise DriverError(f"{name} does not run", "start it first")
        program = [sys.executable, "-I", "-S", enter.__file__]
        place = [str(pid), str(record.uid), str(self._records.container(name) / "container.json")]
        argv = [*program, *place, render_own_filter().hex(), "--", *command]
        done = await self._programs.run(*self._find_group(name, pid).wrap(argv), timeout_s=timeout_s)
        if done.status == enter.CANNOT_ENTER and done.stderr.startswith(enter.COMPLAINT.encode()):
            raise DriverError(f"{name} cannot be entered: {done.error_text}", "it may just have ended")
        return done

    def _find_group(self, name: str, pid: int) -> Group:
        """Where the first process of a container is: a group above it, that hands controllers on, takes none."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                folder = self._places.cgroups / line.removeprefix("0::").lstrip("/")
                if line.startswith("0::/") and (folder / "cgroup.procs").exists():
                    return Group(name, [Place(folder, 2, frozenset())])
        return Group(name, [])

    # -- what it says ------------------------------------------------------------------------------------------

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        if find_machine(name) is None:
            return b"", 0
        async with self._reading[name]:
            await self._fetch_log(name)
            return await asyncio.to_thread(self._records.read_log, name, offset, limit_bytes)

    async def log_range(self, name: str) -> tuple[int, int]:
        if find_machine(name) is None:
            return 0, 0
        async with self._reading[name]:
            await self._fetch_log(name)
            return self._records.find_log_range(name)

    async def _fetch_log(self, name: str) -> None:
        # Of one that was never made whole, the journal has another's.
        if self._records.load(name) is not None:
            await self._journal(name).fetch()

    def _find_environment(self, name: str) -> Path:
        return self._records.container(name) / "environment"

    def _journal(self, name: str) -> JournalLog:
        note = self._records.container(name) / "journal.json"
        program = self._programs.find("journalctl")
        return JournalLog(self._records.log(name), note, find_unit(plan_machine(name)), program)


def _check_uid(spec: ContainerSpec) -> None:
    if not spec.uid or not has_range(spec.uid):
        raise DriverError(f"the uid {spec.uid} of {spec.name} has no range of its own", "start it by the hive")
