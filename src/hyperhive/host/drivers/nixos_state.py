"""What systemd says of a container's unit, and what that means for the container. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime

from hyperhive.host.drivers.exit_status import explain_end, find_signal
from hyperhive.host.drivers.protocol import ContainerState, ExitCause, Observation
from hyperhive.host.drivers.records import Record
from hyperhive.system.pids import ProcessId

# What is asked for; all else that systemd could tell is left there.
PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus"),
    *("ActiveEnterTimestamp", "ControlGroup"),
)
_OVER = frozenset({"inactive", "failed"})
# include/uapi/asm-generic/siginfo.h: how a process ended, beside CLD_EXITED.
_CLD_SIGNALLED = frozenset({"2", "3"})
_CAUSES = {
    "success": ExitCause.EXITED,
    "exit-code": ExitCause.EXITED,
    "signal": ExitCause.SIGNAL,
    "core-dump": ExitCause.SIGNAL,
    "oom-kill": ExitCause.OUT_OF_MEMORY,
}
OUT_OF_MEMORY = "the kernel killed it: out of memory"
_REASONS = {
    "oom-kill": OUT_OF_MEMORY,
    "timeout": "it did not answer in the time that systemd gives it",
    "watchdog": "it did not answer in the time that systemd gives it",
    "start-limit-hit": "it was started too often in a short time",
    "resources": "systemd could not start it for want of something",
}


@dataclass(frozen=True, slots=True)
class UnitState:
    """`started_at` is when it last came up, to the second; `control_group` is below the root of all."""

    active: str
    sub: str = ""
    result: str = "success"
    exit_code: int | None = None
    started_at: datetime | None = None
    control_group: str = ""
    is_known: bool = True

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs, starts or stops."""
        return self.active in _OVER

    @property
    def is_up(self) -> bool:
        return self.active == "active"

    @property
    def has_failed(self) -> bool:
        return self.active == "failed"

    @property
    def cause(self) -> ExitCause:
        """Why it is over, if nobody has asked for that."""
        if self.exit_code is not None and find_signal(self.exit_code) and self.result == "exit-code":
            return ExitCause.SIGNAL
        return _CAUSES.get(self.result, ExitCause.UNKNOWN)

    @property
    def reason(self) -> str:
        if known := _REASONS.get(self.result):
            return known
        return explain_end(self.exit_code) if self.exit_code is not None else f"systemd says of it: {self.result}"


def parse_unit(text: str) -> UnitState:
    """The answer of `systemctl show --timestamp=unix`. Raises ValueError for what is none."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if not found.get("ActiveState"):
        raise ValueError("it does not tell the state")
    result = found.get("Result", "success")
    return UnitState(
        found["ActiveState"],
        found.get("SubState", ""),
        result,
        _parse_code(found.get("ExecMainCode", ""), found.get("ExecMainStatus", ""), result),
        _parse_time(found.get("ActiveEnterTimestamp", "")),
        found.get("ControlGroup", ""),
        found.get("LoadState", "loaded") != "not-found",
    )


def parse_leader(text: str) -> int | None:
    """The answer of `machinectl show --property=Leader`: a pid, None if there is none."""
    key, _, value = text.strip().partition("=")
    return int(value) if key == "Leader" and value.isascii() and value.isdigit() and int(value) > 1 else None


def _parse_code(code: str, status: str, result: str) -> int | None:
    """As shells write it: 128 + N for the signal N. What came up once and of which systemd kept nothing ended well."""
    if not status.isascii() or not status.isdigit():
        return None
    if result not in {"success", "exit-code", "signal", "core-dump", "oom-kill"}:
        return None
    return 128 + int(status) if code in _CLD_SIGNALLED else int(status)


def _parse_time(text: str) -> datetime | None:
    digits = text.removeprefix("@")
    return datetime.fromtimestamp(int(digits), UTC) if digits.isascii() and digits.isdigit() and int(digits) else None


def plan_running(unit: UnitState, leader: ProcessId | None, record: Record | None) -> Observation:
    """What is told of a container whose unit is not over; without a leader it is on its way."""
    started_at = unit.started_at
    if record is not None and record.started_at is not None and (leader is None or leader == record.init):
        # To the millisecond; of what systemd has started again, it is systemd's time that is true.
        started_at = datetime.fromisoformat(record.started_at)
    reason = "" if unit.is_up else f"systemd says of it: {unit.active}, {unit.sub}"
    return Observation(ContainerState.RUNNING, leader.pid if leader else None, started_at, reason=reason)


def plan_ended(unit: UnitState, record: Record | None, boot_id: str) -> Observation:
    """What is told of a container whose unit is over. `boot_id` is which start of the machine this is."""
    if record is None or record.started_at is None:
        return Observation(ContainerState.STOPPED)
    started_at = datetime.fromisoformat(record.started_at)
    if record.stop_asked:
        return Observation(
            ContainerState.STOPPED, started_at=started_at, reason="it was stopped", cause=ExitCause.ASKED
        )
    if record.boot_id != boot_id:
        reason, cause = "the machine was started anew", ExitCause.MACHINE
        return Observation(ContainerState.EXITED, started_at=started_at, reason=reason, cause=cause)
    return Observation(
        ContainerState.EXITED, started_at=started_at, exit_code=unit.exit_code, reason=unit.reason, cause=unit.cause
    )
