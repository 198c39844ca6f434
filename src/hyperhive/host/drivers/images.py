"""Images: what containers of the nspawn driver have for a root file system.

An image is a folder `<folder>/<id>/` with `root` (the tree, its files of uid 0 as on any disk), `tree` and
`manifest.json` (see `image_manifest`). A *base* is a small Debian, built once. A *layer* is what installing some
packages adds to it, as overlayfs writes an upper folder. An id is the digest of what an image is made from, for a layer
of what came of its base, too: an image that is there is used as it is, and no network is needed.

`<folder>` is closed to all but root: nothing in a tree can be reached by users of the host. An image is built in
`staging` and renamed into its place; staging is emptied before each build. One build at a time, on the whole machine: a
lock on a file, which the programs of a build hold, too. So a daemon that was killed leaves nothing that still writes.
"""

import asyncio
import contextlib
import fcntl
import os
import platform
import shutil
import time
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hyperhive.core.config_values import parse_package
from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.host.drivers.image_bench import ENVIRONMENT, Benches
from hyperhive.host.drivers.image_build import BASE, LAYER, Builder, Plan, plan_base, plan_layer
from hyperhive.host.drivers.image_manifest import (
    ROOT,
    Change,
    Manifest,
    check_tree,
    find_changes,
    find_manifest,
    render_hint,
)
from hyperhive.host.drivers.image_mounts import find_mounted
from hyperhive.host.drivers.image_shelf import Shelf
from hyperhive.host.drivers.protocol import DriverError

LOCK_TIMEOUT_S = 1800.0
_LOCK_POLL_S = 0.1
_PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}


class Images:
    """The images in `folder`. `suite` is Debian's, such as bookworm; empty: that of the host, if it is a Debian."""

    def __init__(self, folder: Path, suite: str = "", *, os_release: Path = Path("/etc/os-release")) -> None:
        self._folder = folder
        self._wanted_suite = suite
        self._os_release = os_release
        self._building = asyncio.Lock()
        # To be held from before it is asked what is needed until the rest is removed: nobody finds an image meanwhile.
        self.removing = asyncio.Lock()
        # Trees that this process has read: reading them takes seconds, so it is done once.
        self._checked: set[str] = set()

    async def prepare(self) -> None:
        """Checks that images can be built here, and reads the base if there is one. Nothing is built.

        Raises DriverError whose hint mends the machine: also for an image that was changed since it was built.
        """
        if os.geteuid() != 0:
            raise DriverError(
                "images can only be built by root", "run the hive as root, or with HIVE_DRIVER=bubblewrap"
            )
        for program, package in _PROGRAMS.items():
            if shutil.which(program, path=ENVIRONMENT["PATH"]) is None:
                raise DriverError(f"{program} is not installed", f"apt-get install {package}")
        base = self._plan_base()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
        except OSError as error:
            raise DriverError(f"the folder of images cannot be made: {error}", "") from error
        manifest = find_manifest(self._folder / base.id)
        if manifest is not None:
            await self._check(manifest)

    async def build(self, packages: Sequence[str]) -> Mapping[str, str]:
        """Makes the base and the layer of `packages`, each unless it is there, and returns the versions of `packages`.

        What is there is read once by each daemon before it is used. Raises DriverError that names every package
        that cannot be had; or says what was changed; or how the machine fails.
        """
        wanted = _sort_packages(packages)
        async with self.removing:
            is_built = self._is_built(wanted)
        if not is_built:
            async with self._building, self.locked() as lock:
                await self._build_missing(wanted, lock)
        manifests = self._find_manifests(wanted)
        for manifest in manifests:
            await self._check(manifest)
        return {name: manifests[0].versions.get(name, "unknown") for name in packages}

    def find_layers(self, packages: Sequence[str]) -> tuple[Path, ...]:
        """The folders that make up the root of a container with `packages`: read-only, the topmost first.

        Raises DriverError if they were not built, or their manifests were changed.
        """
        return tuple(self._folder / manifest.id / ROOT for manifest in self._find_manifests(_sort_packages(packages)))

    async def observe(self, wanted: Collection[tuple[str, ...]]) -> Shelf:
        """What there is, see `ManagedImages`."""
        return await asyncio.to_thread(self._observe, wanted, frozenset(self._checked))

    def list_all(self) -> list[Manifest]:
        """All images, the oldest first. Those whose manifest cannot be trusted are not among them."""
        found: list[Manifest] = []
        for path in self._list_folders():
            with contextlib.suppress(DriverError):
                manifest = find_manifest(path)
                if manifest is not None:
                    found.append(manifest)
        return sorted(found, key=lambda manifest: (manifest.built_at, manifest.id))

    def list_damaged(self) -> list[str]:
        """The ids of those whose manifest cannot be trusted, or is not there."""
        trusted = {manifest.id for manifest in self.list_all()}
        return [path.name for path in self._list_folders() if path.name not in trusted]

    def find_ids(self, packages: Sequence[str]) -> tuple[str, ...]:
        """The ids of the images for packages, the topmost first, whether these are there or not.

        Of a base that is not there its own alone: what would lie on it is not known. Raises DriverError if no base
        is to be had on this machine, or the manifest of the one that is there cannot be trusted.
        """
        wanted = _sort_packages(packages)
        plan = self._plan_base()
        base = find_manifest(self._folder / plan.id)
        if base is None or all(name in base.versions for name in wanted):
            return (plan.id,)
        return plan_layer(base, wanted).id, plan.id

    def find_mounted(self) -> set[str]:
        """Those that a container has now, of whichever hive."""
        return find_mounted(self._folder, {path.name for path in self._list_folders()})

    async def compare(self, image_id: str) -> list[Change] | None:
        """Reads all of an image again: None if it is as it was built, else what differs (see `find_changes`).

        What differs is not used any more. Raises NotFoundError; DriverError if it cannot be read or its manifest
        cannot be trusted.
        """
        folder = self._find_folder(image_id)
        self._checked.discard(image_id)
        manifest = find_manifest(folder)
        if manifest is None:
            raise DriverError(f"the image {image_id} has no manifest", render_hint(folder))
        changes = await asyncio.to_thread(find_changes, folder, manifest)
        if changes is None:
            self._checked.add(image_id)
        return changes

    async def remove(self, image_id: str) -> None:
        """Removes an image, a damaged one, too; it is built again when it is needed.

        Raises NotFoundError; ConflictError if a container has it; DriverError if the disk refuses.
        """
        async with self._building, self.locked():
            folder = self._find_folder(image_id)
            if await asyncio.to_thread(find_mounted, self._folder, {image_id}):
                raise ConflictError(f"a container runs on {image_id}", "stop the agents that have it: hive stop NAME")
            await asyncio.to_thread(self._discard, folder)

    async def remove_unused(self, keep: Iterable[Sequence[str]], unused_s: float = 0.0) -> list[str]:
        """Removes what is not for one of the lists of packages in `keep`, and returns the ids.

        What a container runs on stays, and so does what came out of use, or was built, less than `unused_s` ago.
        `keep` has all that is deployed or is being deployed. Raises DriverError.
        """
        async with self._building, self.locked():
            kept = {image_id for packages in ((), *keep) for image_id in self.find_ids(packages)}
            return await asyncio.to_thread(self._remove_others, kept, unused_s)

    # -- what is there -------------------------------------------------------------------------------------

    def _observe(self, wanted: Collection[tuple[str, ...]], checked: frozenset[str]) -> Shelf:
        shelf = Shelf(
            tuple(self.list_all()), tuple(self.list_damaged()), frozenset(self.find_mounted()), checked, ids={}
        )
        try:
            return replace(shelf, ids={packages: self.find_ids(packages) for packages in wanted})
        except DriverError as error:
            # The base is among the damaged ones, or there can be none.
            return replace(shelf, problem=error.message, hint=error.hint)

    def _find_built(self, wanted: tuple[str, ...]) -> list[Manifest]:
        """The images for packages, the topmost first, as far as they are built. Raises DriverError."""
        base = find_manifest(self._folder / self._plan_base().id)
        if base is None:
            return []
        if all(name in base.versions for name in wanted):
            return [base]
        layer = find_manifest(self._folder / plan_layer(base, wanted).id)
        return [base] if layer is None else [layer, base]

    def _is_built(self, wanted: tuple[str, ...]) -> bool:
        return _is_whole(self._find_built(wanted), wanted)

    def _find_manifests(self, wanted: tuple[str, ...]) -> list[Manifest]:
        found = self._find_built(wanted)
        if not _is_whole(found, wanted):
            what = f"with {', '.join(wanted)}" if wanted else "for containers"
            raise DriverError(f"there is no image {what}", "rebuild the agent: that builds it")
        return found

    def _list_folders(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.name.startswith((f"{BASE}-", f"{LAYER}-")))
        except FileNotFoundError:
            return []

    def _find_folder(self, image_id: str) -> Path:
        """By the names that there are: no id becomes a path."""
        for path in self._list_folders():
            if path.name == image_id:
                return path
        raise NotFoundError(f"there is no image {image_id[:80]!r}")

    async def _check(self, manifest: Manifest) -> None:
        if manifest.id in self._checked:
            return
        await asyncio.to_thread(check_tree, self._folder / manifest.id, manifest)
        self._checked.add(manifest.id)

    # -- what images are made from -------------------------------------------------------------------------

    def _plan_base(self) -> Plan:
        return plan_base(self._decide_suite()[0], platform.machine())

    def _decide_suite(self) -> tuple[str, bool]:
        """The suite of the base, and whether it is the host's own, so that the host's sources have it."""
        host = _read_os_release(self._os_release)
        codename = host.get("VERSION_CODENAME", "")
        if self._wanted_suite:
            return self._wanted_suite, self._wanted_suite == codename
        if host.get("ID") != "debian" or not codename:
            name = host.get("PRETTY_NAME", "this machine")
            raise DriverError(
                f"there is no image for {name}: it is not a Debian release",
                "name one of Debian's suites in HIVE_IMAGE_SUITE, or use HIVE_DRIVER=bubblewrap",
            )
        return codename, True

    # -- building ------------------------------------------------------------------------------------------

    async def _build_missing(self, wanted: tuple[str, ...], lock: int) -> None:
        """Builds what is not there; by now another daemon may have built it."""
        if self._is_built(wanted):
            return
        suite, own_sources = self._decide_suite()
        builder = Builder(self._folder, suite, own_sources=own_sources)
        benches = Benches(self._folder)
        bench = await benches.open(lock)
        try:
            plan = self._plan_base()
            base = find_manifest(self._folder / plan.id)
            if base is None:
                base = await builder.build_base(plan, bench)
                self._checked.add(base.id)
            if not self._is_built(wanted):
                await self._check(base)
                layer = await builder.build_layer(plan_layer(base, wanted), base, bench)
                self._checked.add(layer.id)
        finally:
            await benches.close()
            await asyncio.to_thread(builder.empty_staging)

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncGenerator[int]:
        """Holds the lock on the folder. Raises DriverError if it cannot be had in time, or for the disk's errors."""
        try:
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise DriverError(f"the folder of images cannot be written: {error}", "is the disk full?") from error
        try:
            await _take(handle)
            yield handle
        except OSError as error:
            raise DriverError(f"the images cannot be changed: {error}", "is the disk full?") from error
        finally:
            os.close(handle)

    def _remove_others(self, kept: set[str], unused_s: float) -> list[str]:
        """Removes what is neither kept nor mounted. The time of an image's folder says when it was last of use."""
        removed: list[str] = []
        mounted = self.find_mounted()
        for path in self._list_folders():
            if path.name in kept or path.name in mounted:
                os.utime(path)
            elif not unused_s or time.time() - path.stat().st_mtime >= unused_s:
                self._discard(path)
                removed.append(path.name)
        return removed

    def _discard(self, path: Path) -> None:
        """Takes an image out of its place in one step, then removes it. Raises OSError."""
        staging = self._folder / "staging"
        staging.mkdir(mode=0o700, exist_ok=True)
        gone = staging / path.name
        if gone.exists():
            shutil.rmtree(gone)
        self._checked.discard(path.name)
        path.rename(gone)
        shutil.rmtree(gone)


async def _take(handle: int) -> None:
    try:
        async with asyncio.timeout(LOCK_TIMEOUT_S):
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(_LOCK_POLL_S)
                else:
                    return
    except TimeoutError as error:
        raise DriverError("another program builds images", "wait for it, then try again") from error


def _sort_packages(packages: Sequence[str]) -> tuple[str, ...]:
    """Raises DriverError for what is not a package's name: apt-get would take it for something else."""
    for name in packages:
        try:
            parse_package(name)
        except ValueError as error:
            raise DriverError(str(error)) from error
    return tuple(sorted(set(packages)))


def _is_whole(found: Sequence[Manifest], wanted: Sequence[str]) -> bool:
    return len(found) > 1 or (bool(found) and all(name in found[0].versions for name in wanted))


def _read_os_release(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}
