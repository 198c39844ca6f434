"""The unit of a container as systemd and machined know it: looked at, started, ended."""

import contextlib

from hyperhive.host.drivers.nixos_programs import Programs
from hyperhive.host.drivers.nixos_state import PROPERTIES, UnitState, parse_leader, parse_unit
from hyperhive.host.drivers.nixos_unit import find_unit
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.pids import ProcessId, find_process, is_alive, wait_gone
from hyperhive.system.process import Completed

_HINT = "see `systemctl status` of its unit"


class Units:
    """The units of machines, by the names that NixOS has for these. All but what is pure may raise DriverError."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._deadlines = programs.deadlines
        # machined is asked once for each process.
        self._leaders: dict[str, ProcessId] = {}

    async def look(self, machine: str) -> UnitState:
        properties = f"--property={','.join(PROPERTIES)}"
        argv = ("systemctl", "show", "--timestamp=unix", properties, "--", find_unit(machine))
        done = await self._programs.run(*argv)
        try:
            return parse_unit(done.stdout.decode("utf-8", "replace"))
        except ValueError as error:
            reason = done.error_text or str(error)
            raise DriverError(f"systemd does not tell of {find_unit(machine)}: {reason}", "does it run?") from error

    async def find_leader(self, machine: str) -> ProcessId | None:
        """The first process inside; None if there is none."""
        known = self._leaders.get(machine)
        if known is not None and is_alive(known):
            return known
        self._leaders.pop(machine, None)
        done = await self._programs.run("machinectl", "show", "--property=Leader", "--", machine)
        pid = parse_leader(done.stdout.decode("utf-8", "replace")) if done.ok else None
        leader = None if pid is None else find_process(pid)
        if leader is not None:
            self._leaders[machine] = leader
        return leader

    async def start(self, machine: str) -> Completed:
        """Returns once it is up, or could not be brought up."""
        return await self._programs.run("nixos-container", "start", machine, timeout_s=self._deadlines.start_s)

    async def end(self, machine: str, timeout_s: float) -> None:
        """Ends what the unit runs: asked for `timeout_s`, killed then. Returns when nothing of it is left.

        It is then as if it had never failed: systemd keeps count of failures, and starts no unit that has too many.
        """
        unit = find_unit(machine)
        seen = await self.look(machine)
        leader = None
        if not seen.is_over:
            with contextlib.suppress(DriverError):
                leader = await self.find_leader(machine)
            if timeout_s > 0:
                with contextlib.suppress(DriverError):
                    await self._programs.run("systemctl", "stop", "--", unit, timeout_s=timeout_s)
            if not (await self.look(machine)).is_over:
                await self._kill(machine)
            seen = await self.look(machine)
            if not seen.is_over or (leader is not None and not await wait_gone(leader, self._deadlines.kill_s)):
                raise DriverError(f"{machine} cannot be killed", _HINT)
        if seen.has_failed:
            await self.forget_failure(machine)

    async def _kill(self, machine: str) -> None:
        unit = find_unit(machine)
        # Whether that worked is seen by what is left.
        with contextlib.suppress(DriverError):
            await self._programs.run("systemctl", "kill", "--signal=KILL", "--", unit)
        try:
            # Waits for the end; and what systemd was about to start again stays down.
            await self._programs.run("systemctl", "stop", "--", unit, timeout_s=self._deadlines.kill_s)
        except DriverError:
            await self._programs.run("machinectl", "terminate", "--", machine)

    async def forget_failure(self, machine: str) -> None:
        # One that systemd knows nothing of any more has no failure either.
        await self._programs.run("systemctl", "reset-failed", "--", find_unit(machine))

    async def reload(self) -> None:
        """Has systemd read its units' files again."""
        done = await self._programs.run("systemctl", "daemon-reload")
        if not done.ok:
            raise DriverError(f"systemd cannot read its units again: {done.error_text}", "try systemctl daemon-reload")

    async def check(self) -> None:
        """Raises DriverError if this machine starts no containers of its own making."""
        if not (await self.look("hyperhive")).is_known:
            raise DriverError("this machine has no unit for containers", "set boot.enableContainers = true in NixOS")
