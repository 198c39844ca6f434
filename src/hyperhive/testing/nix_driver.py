"""A driver whose agents are written in Nix, around one that knows nothing of that: for a hive without NixOS.

What it says of a config is what a real evaluation says, which is given to it: it fits the driver protocol by its shape
alone, as those of `bad_drivers`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from hyperhive.testing.bad_drivers import Faithful, NamedSpec

SpecT = TypeVar("SpecT", bound=NamedSpec)
ObservationT = TypeVar("ObservationT")
Evaluate = Callable[[str, Mapping[str, bytes]], Awaitable[bytes]]


@dataclass(kw_only=True)
class WrittenInNix(Faithful[SpecT, ObservationT]):
    """`evaluator` is asked as a driver is (see `BuildsSystems.evaluate`). Containers run on this machine's own system.

    `evaluated` and `built` are the names of containers, in order: what was asked for, and what was ended well.
    """

    name: str = "written-in-nix"
    evaluator: Evaluate
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
