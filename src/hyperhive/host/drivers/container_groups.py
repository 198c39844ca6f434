"""Control groups as drivers use them: in threads, as making and ending them blocks, and with drivers' errors."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from hyperhive.core.limits import Limits
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.cgroups import Group, GroupError, Groups, Usage

_T = TypeVar("_T")
_UNKNOWN: Mapping[str, str] = dict.fromkeys(("memory", "cpu", "tasks"), "the driver was not prepared")


class ContainerGroups:
    """The groups of a driver's containers. `folder` is the driver's own.

    All but `unlimited` may raise DriverError.
    """

    def __init__(self, folder: Path, *, as_root: bool) -> None:
        self._folder = folder
        self._as_root = as_root
        self._groups: Groups | None = None
        self._opening = asyncio.Lock()

    @property
    def unlimited(self) -> Mapping[str, str]:
        """What limits cannot be set, and why, once any other method was called."""
        return _UNKNOWN if self._groups is None else self._groups.unlimited

    async def open(self) -> Groups:
        async with self._opening:
            if self._groups is None:
                self._groups = await _call(self._observe)
            return self._groups

    def _observe(self) -> Groups:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Groups.observe(self._folder, as_root=self._as_root)

    async def make(self, name: str, limits: Limits) -> Group:
        """The group of a container that is to start; what is left in an older one is ended."""
        groups = await self.open()
        return await _call(lambda: groups.make(name, limits))

    async def wrap(self, name: str, argv: Sequence[str], below: str = "") -> list[str]:
        """The argv that runs `argv` in the group of a running container, if that has one."""
        groups = await self.open()
        group = await _call(lambda: groups.find(name))
        return list(argv) if group is None else group.wrap(argv, below)

    async def observe(self, name: str) -> Usage | None:
        groups = await self.open()
        group = await _call(lambda: groups.find(name))
        return None if group is None else group.observe()

    async def remove(self, name: str) -> None:
        """Ends every process in the group of a container, and removes it. None is no error."""
        groups = await self.open()
        await _call(lambda: _remove(groups, name))

    async def remove_others(self, kept: Collection[str]) -> list[str]:
        """Removes the groups of containers that are not there any more, and returns whose."""
        groups = await self.open()
        return await _call(lambda: groups.remove_others(kept))


def _remove(groups: Groups, name: str) -> None:
    group = groups.find(name)
    if group is not None:
        group.remove()


async def _call(work: Callable[[], _T]) -> _T:
    try:
        return await asyncio.to_thread(work)
    except GroupError as error:
        raise DriverError(error.message, error.hint) from error
    except OSError as error:
        raise DriverError(f"control groups cannot be used: {error}", "see `hive doctor`") from error
