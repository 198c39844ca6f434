"""A driver whose agents are written in Nix, around one that knows nothing of that: for a hive without NixOS.

What it says of a config is what a real evaluation says, which is given to it: it fits the driver protocol by its shape
alone, as those of `bad_drivers`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from hyperhive.testing.bad_drivers import Faithful, NamedSpec

SpecT = TypeVar("SpecT", bound=NamedSpec)
ObservationT = TypeVar("ObservationT")
PackageT = TypeVar("PackageT")
DifferenceT = TypeVar("DifferenceT")
ToldT = TypeVar("ToldT")
# Takes the name of a container and the files of its config.
Evaluate: TypeAlias = Callable[[str, Mapping[str, bytes]], Awaitable[ToldT]]


@dataclass(kw_only=True)
class WrittenInNix(Faithful[SpecT, ObservationT], Generic[SpecT, ObservationT, PackageT, DifferenceT]):
    """`evaluator`, `lister` and `comparer` are asked as a driver is (see `BuildsSystems`). Containers run on this
    machine's own system.

    `evaluated` and `built` are the names of containers, in order: what was asked for, and what was ended well.
    """

    name: str = "written-in-nix"
    evaluator: Evaluate[bytes]
    lister: Evaluate[list[PackageT]]
    comparer: Callable[[Sequence[str], Sequence[str]], Awaitable[DifferenceT]]
    revision: str = "1"
    evaluated: list[str] = field(default_factory=list[str])
    built: list[str] = field(default_factory=list[str])

    async def evaluate(self, name: str, files: Mapping[str, bytes]) -> bytes:
        self.evaluated.append(name)
        return await self.evaluator(name, files)

    async def build_system(self, name: str, files: Mapping[str, bytes]) -> None:
        # What cannot be evaluated cannot be built either.
        await self.evaluator(name, files)
        self.built.append(name)

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[PackageT]:
        return await self.lister(name, files)

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> DifferenceT:
        return await self.comparer(before, after)
