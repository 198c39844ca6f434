"""Drivers that misbehave, each around one that does not: what the lifecycle must survive, and what the conformance
suite must catch.

They fit the driver protocol by their shape alone and stay the same whatever a spec or an observation is; what one of
them claims or raises is given to it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from hyperhive.system.cgroups import Usage
from hyperhive.system.process import Completed

SpecT = TypeVar("SpecT", bound="NamedSpec")
SpecT_contra = TypeVar("SpecT_contra", bound="NamedSpec", contravariant=True)
ObservationT = TypeVar("ObservationT")
ObservationT_co = TypeVar("ObservationT_co", covariant=True)


class NamedSpec(Protocol):
    @property
    def name(self) -> str: ...


class AnyDriver(Protocol[SpecT_contra, ObservationT_co]):
    """The driver protocol, whatever its nouns."""

    name: str

    @property
    def unlimited(self) -> Mapping[str, str]: ...

    async def prepare(self) -> None: ...
    async def build(self, packages: Sequence[str]) -> Mapping[str, str]: ...
    async def create(self, spec: SpecT_contra) -> None: ...
    async def observe(self, name: str) -> ObservationT_co: ...
    async def find_usage(self, name: str) -> Usage: ...
    async def start(self, spec: SpecT_contra) -> None: ...
    async def stop(self, name: str, timeout_s: float) -> None: ...
    async def destroy(self, name: str) -> None: ...
    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed: ...
    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]: ...
    async def log_range(self, name: str) -> tuple[int, int]: ...


@dataclass
class Faithful(Generic[SpecT, ObservationT]):
    """Does what the driver inside does: the others change one thing each."""

    inner: AnyDriver[SpecT, ObservationT]
    name: str = "faithful"

    @property
    def unlimited(self) -> Mapping[str, str]:
        return self.inner.unlimited

    async def prepare(self) -> None:
        await self.inner.prepare()

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        return await self.inner.build(packages)

    async def create(self, spec: SpecT) -> None:
        await self.inner.create(spec)

    async def observe(self, name: str) -> ObservationT:
        return await self.inner.observe(name)

    async def find_usage(self, name: str) -> Usage:
        return await self.inner.find_usage(name)

    async def start(self, spec: SpecT) -> None:
        await self.inner.start(spec)

    async def stop(self, name: str, timeout_s: float) -> None:
        await self.inner.stop(name, timeout_s)

    async def destroy(self, name: str) -> None:
        await self.inner.destroy(name)

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        return await self.inner.exec(name, command, timeout_s)

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        return await self.inner.logs(name, offset, limit_bytes)

    async def log_range(self, name: str) -> tuple[int, int]:
        return await self.inner.log_range(name)


@dataclass
class Slow(Faithful[SpecT, ObservationT]):
    """Takes `delay_s` before each call: allowed, as long as it is within the deadlines."""

    name: str = "slow"
    delay_s: float = 1.0

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        await asyncio.sleep(self.delay_s)
        return await super().build(packages)

    async def create(self, spec: SpecT) -> None:
        await asyncio.sleep(self.delay_s)
        await super().create(spec)

    async def observe(self, name: str) -> ObservationT:
        await asyncio.sleep(self.delay_s)
        return await super().observe(name)

    async def find_usage(self, name: str) -> Usage:
        await asyncio.sleep(self.delay_s)
        return await super().find_usage(name)

    async def start(self, spec: SpecT) -> None:
        await asyncio.sleep(self.delay_s)
        await super().start(spec)

    async def stop(self, name: str, timeout_s: float) -> None:
        await asyncio.sleep(self.delay_s)
        await super().stop(name, timeout_s)

    async def destroy(self, name: str) -> None:
        await asyncio.sleep(self.delay_s)
        await super().destroy(name)

    async def exec(self, name: str, command: tuple[str, ...], timeout_s: float) -> Completed:
        await asyncio.sleep(self.delay_s)
        return await super().exec(name, command, timeout_s)

    async def logs(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        await asyncio.sleep(self.delay_s)
        return await super().logs(name, offset, limit_bytes)

    async def log_range(self, name: str) -> tuple[int, int]:
        await asyncio.sleep(self.delay_s)
        return await super().log_range(name)


@dataclass
class NeverBuilds(Faithful[SpecT, ObservationT]):
    """Every build raises `error`: a DriverError, as the contract has it, or anything else."""

    name: str = "never-builds"
    error: Exception = field(default_factory=lambda: RuntimeError("it never builds"))

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        raise self.error


@dataclass
class BuildsAnything(Faithful[SpecT, ObservationT]):
    """Says that every package is there."""

    name: str = "builds-anything"

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        return dict.fromkeys(packages, "1.0")


@dataclass
class NeverStarts(Faithful[SpecT, ObservationT]):
    """Every start raises `error`: a DriverError, as the contract has it, or anything else."""

    name: str = "never-starts"
    error: Exception = field(default_factory=lambda: RuntimeError("it never starts"))

    async def start(self, spec: SpecT) -> None:
        raise self.error


@dataclass
class DiesAtStart(Faithful[SpecT, ObservationT]):
    """Starts the container and kills it before the start returns."""

    name: str = "dies-at-start"

    async def start(self, spec: SpecT) -> None:
        await super().start(spec)
        await kill(self.inner, spec.name)


@dataclass
class DiesLater(Faithful[SpecT, ObservationT]):
    """Every container it starts is killed `life_s` seconds later, unless `close` comes first."""

    name: str = "dies-later"
    life_s: float = 1.0
    _killers: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    async def start(self, spec: SpecT) -> None:
        await super().start(spec)
        killer = asyncio.create_task(self._kill_later(spec.name))
        self._killers.add(killer)
        killer.add_done_callback(self._killers.discard)

    async def close(self) -> None:
        killers = list(self._killers)
        for killer in killers:
            killer.cancel()
        await asyncio.gather(*killers, return_exceptions=True)

    async def _kill_later(self, name: str) -> None:
        await asyncio.sleep(self.life_s)
        await kill(self.inner, name)


@dataclass
class Lies(Faithful[SpecT, ObservationT]):
    """Says `claim` of whatever it is asked about, until that is None."""

    name: str = "lies"
    claim: ObservationT | None = None

    async def observe(self, name: str) -> ObservationT:
        return await super().observe(name) if self.claim is None else self.claim


@dataclass
class LeavesRunning(Faithful[SpecT, ObservationT]):
    """Says that it stopped and destroyed, and did not."""

    name: str = "leaves-running"

    async def stop(self, name: str, timeout_s: float) -> None:
        return

    async def destroy(self, name: str) -> None:
        return


async def kill(driver: AnyDriver[SpecT, ObservationT], name: str) -> None:
    """Ends a container from within, as a crash does: nobody has asked the driver to stop it."""
    await driver.exec(name, ("sh", "-c", "kill -KILL -1"), timeout_s=10)
