"""The contract every driver keeps; `tests/contract/test_drivers.py` holds each of them to it.

A container's name has been validated by `core.names` before it gets here. A driver keeps what it must know of
a running container outside the daemon's memory, so that a restarted daemon finds it again by `observe`.
"The command failed" is a value (an exit status, an `Observation`); "the machinery failed" is a DriverError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from hyperhive.core.errors import HiveError
from hyperhive.core.limits import UNLIMITED, Limits
from hyperhive.system.cgroups import Usage
from hyperhive.system.process import Completed


class DriverError(HiveError):
    """The machinery failed: message and hint are shown on the container's row."""

    code = "driver_failed"


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder or file as the container sees it."""

    source: Path
    target: Path
    writable: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """All a driver needs to make and start one container.

    `name` is the container's. `command` is an argv inside the container; its standard output and error are the
    container's log. `uid` owns the writable mounts on the host: the container's user is that uid and no other
    (None: the daemon is not root, everything has the daemon's own uid). `environment` is the whole environment.
    `packages` are those that `build` was called with before. Of `limits` a driver sets what it can: see
    `Driver.unlimited`. With `host_network` it has no network of its own: it is in the host's, with names looked up as
    the host does.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...] = ()
    uid: int | None = None
    working_folder: Path = Path("/state")
    packages: tuple[str, ...] = ()
    limits: Limits = UNLIMITED
    host_network: bool = False


class ContainerState(StrEnum):
    ABSENT = "absent"
    STOPPED = "stopped"
    RUNNING = "running"
    # It was started and ended without being asked to.
    EXITED = "exited"
    # The driver could not find out. Never shown as anything else.
    UNKNOWN = "unknown"


class ExitCause(StrEnum):
    """Why a container that was started does not run any more, from what the driver knows for sure."""

    # `stop` was called
    ASKED = "asked"
    # its command ended with `exit_code`
    EXITED = "exited"
    # its command was ended by a signal, and not for memory as far as one knows
    SIGNAL = "signal"
    # the kernel ended it because memory ran out: a limit's or the machine's
    OUT_OF_MEMORY = "out_of_memory"
    # the machine was started anew
    MACHINE = "machine"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observation:
    """What the driver saw just now. `pid` is the container's first process as the host sees it, while it runs.

    `cause` is set once it has ended, and `reason` says the same for people. `revision` is the one of
    `BuildsSystems.revision` that its system was built from; empty if that is not known, or the driver builds none.
    """

    state: ContainerState
    pid: int | None = None
    started_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    cause: ExitCause | None = None
    revision: str = ""


class Driver(Protocol):
    """What starts containers. All methods may be called at any time, for one name one at a time.

    Every method may raise DriverError. None waits longer than its deadline, or without one longer than 60 s; but for
    `build`, which may have to fetch and install, and has its driver's own deadlines.
    """

    name: str

    @property
    def unlimited(self) -> Mapping[str, str]:
        """The limits that it cannot set on this machine, by their keys in a config (memory, cpu, tasks), and why.

        Known once it is prepared. Containers start without them.
        """
        ...

    async def prepare(self) -> None:
        """Checks that this machine can run the driver. Called once before all else.

        Raises DriverError whose hint is the command that mends the machine.
        """
        ...

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        """Sees to it that containers have `packages`, and returns the version of each. None: an empty answer.

        No running container is touched, and doing it again is no error. A version that cannot be found out is
        'unknown'. Raises DriverError that names every package that cannot be had, with a hint that mends it.
        """
        ...

    async def create(self, spec: ContainerSpec) -> None:
        """Makes the container, stopped. Making one that exists updates it and is no error."""
        ...

    async def observe(self, name: str) -> Observation:
        """What is there now: cheap, without effect, and true also for what an earlier daemon started."""
        ...

    async def find_usage(self, name: str) -> Usage:
        """What a container uses now, and what it may. Of one that does not run, or is not counted here, nothing."""
        ...

    async def start(self, spec: ContainerSpec) -> None:
        """Starts a created container and returns once its command was executed.

        Starting a running one is no error and changes nothing. The container outlives the daemon.
        Raises DriverError if the command cannot be executed; what it left is cleaned up first.
        """
        ...

    async def stop(self, name: str, timeout_s: float) -> None:
        """Ends the container: TERM to its command, after `timeout_s` KILL to every process in it.

        Returns when no process of it is left. Stopping a stopped or absent one is no error.
        """
        ...

    async def destroy(self, name: str) -> None:
        """Removes the container and all the driver keeps of it, stopping it first. Mounted folders are kept."""
        ...

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        """Runs `command` inside a running container as its user and returns its exit status and output.

        Raises DriverError if the container does not run or the deadline passed (the command is then ended).
        """
        ...

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        """A piece of the container's log from byte `offset`, and the offset that continues it.

        An offset behind the end (the log was rotated) continues at its start. An absent log is empty.
        """
        ...

    async def log_range(self, name: str) -> tuple[int, int]:
        """The offsets where what is kept of the container's log begins and ends. Of an absent log: 0 and 0."""
        ...


@dataclass(frozen=True, slots=True)
class Package:
    """One of `environment.systemPackages`: `version` is empty if it has none, `path` is its place in the store."""

    name: str
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class SizeDifference:
    """What other packages take, with all that they need, in bytes.

    `added` is what comes to the store: what is there already, such as for another agent, does not count. `download`
    has to be fetched for that, as `fetched` store paths. `removed` is at most what goes with the next collection of
    garbage: others may need it, too, and so may packages that come, of which that is not known before. `unknown` are
    packages, by their store paths, that are neither in the store nor to be had from a cache: they are built here, and
    nobody knows their size before. What is missing on both sides, as after an update of the flake, does not count.
    """

    added: int
    removed: int
    download: int
    fetched: int
    unknown: tuple[str, ...]


@runtime_checkable
class BuildsSystems(Protocol):
    """A driver whose containers have whole systems of their own, written in Nix: a config of theirs is agent.nix.

    `name` is the container's, `files` are all files of its config by their paths.
    """

    @property
    def revision(self) -> str:
        """Of what systems are built from beside `files`: the same files and revision are evaluated to the same."""
        ...

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        """What `files` say of the agent: the options below `hyperhive.`, as JSON (see `wire.agent_nix`).

        Takes a minute at most. Raises InvalidInputError for what is wrong with the config, with file and line;
        DriverError for what is wrong with the machine.
        """
        ...

    async def build_system(self, name: str, files: Mapping[str, bytes]) -> None:
        """Builds the system that a container is to have, and touches none that runs. Again is no error.

        Has deadlines of its own, as `Driver.build`. Raises like `evaluate`.
        """
        ...

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        """The packages of the system that `files` describe, by name and without repetition; nothing is built.

        All three texts come from an evaluation of what was proposed: `path` has the form of a store path, but the
        store may never have held it. Takes a minute at most. Raises like `evaluate`.
        """
        ...

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        """What the store would hold more and less with the packages `after` in the place of `before` (store paths).

        Nothing is built or fetched. Takes a minute at most. Raises DriverError if there is no store here, or it does
        not answer; InvalidInputError if one is no store path.
        """
        ...
