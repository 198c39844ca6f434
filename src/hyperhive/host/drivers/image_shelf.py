"""What somebody who manages images needs of them, whoever has them."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hyperhive.host.drivers.image_manifest import Change, Manifest


@dataclass(frozen=True, slots=True)
class Shelf:
    """All images at one moment.

    `manifests` are of those that can be trusted, the oldest first; `damaged` are the ids of the others. `mounted` are
    those that a container has, `checked` those that were compared with their manifests since the start, and were as
    they were built. `ids` has the images for each list of packages that was asked about, see `Images.find_ids`. If
    that cannot be told it is empty, and `problem` says why, with a hint.
    """

    manifests: tuple[Manifest, ...]
    damaged: tuple[str, ...]
    mounted: frozenset[str]
    checked: frozenset[str]
    ids: Mapping[tuple[str, ...], tuple[str, ...]]
    problem: str = ""
    hint: str = ""


@runtime_checkable
class ManagedImages(Protocol):
    """The images of a driver's containers, to be listed, compared and removed."""

    # To be held from before it is asked what is needed until the rest is removed: nobody finds an image meanwhile.
    removing: asyncio.Lock

    async def observe(self, wanted: Collection[tuple[str, ...]]) -> Shelf:
        """What there is; with the ids of the images for each list of packages. Raises DriverError."""
        ...

    async def compare(self, image_id: str) -> list[Change] | None:
        """Reads all of an image again: None if it is as it was built, else what differs (see `find_changes`).

        What differs is not used any more. Raises NotFoundError; DriverError if it cannot be read or its manifest
        cannot be trusted.
        """
        ...

    async def remove(self, image_id: str) -> None:
        """Removes an image, a damaged one, too; it is built again when it is needed.

        Raises NotFoundError; ConflictError if a container has it; DriverError if the disk refuses.
        """
        ...

    async def remove_unused(self, keep: Iterable[Sequence[str]], unused_s: float = 0.0) -> list[str]:
        """Removes what is not for one of the lists of packages in `keep`, and returns the ids.

        What a container runs on stays, and so does what came out of use, or was built, less than `unused_s` ago.
        `keep` has all that is deployed or is being deployed. Raises DriverError.
        """
        ...


@runtime_checkable
class HasImages(Protocol):
    """A driver whose containers have images for their system."""

    @property
    def images(self) -> object: ...
