"""The images of containers, and which agents need them: listed, compared, and removed when nobody does any more.

An agent needs what its deployed config and the one that its container was started with ask for; a destroyed one that
is kept, too, until it is purged. So does what is being deployed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError
from hyperhive.host.configs.configs import Configs
from hyperhive.host.drivers.image_build import BASE
from hyperhive.host.drivers.image_manifest import IN_LIST, Manifest
from hyperhive.host.drivers.image_shelf import ManagedImages, Shelf
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.host.store.rows import to_agent, to_approval
from hyperhive.host.store.store import Store, View
from hyperhive.wire.operator.images import Image, ImageCheck, ImageDifference, PrunedImages

log = structlog.get_logger(__name__)

# What nobody has needed for so long goes by itself: until then a config that is reverted finds what it had.
UNUSED_S = 7 * 24 * 3600.0
EVERY_S = 6 * 3600.0
# After a start there is other work first.
FIRST_AFTER_S = 3600.0
DIFFERENCES_LIMIT = 200
_SHOWN_USERS = 5


class AgentImages:
    """`images` are the driver's; None for one whose containers have this machine's system."""

    def __init__(self, store: Store, configs: Configs, images: ManagedImages | None) -> None:
        self._store = store
        self._configs = configs
        self._images = images
        # Reading all of an image keeps the disk busy: one at a time.
        self._comparing = asyncio.Lock()

    async def run_forever(self) -> None:
        if self._images is None:
            await asyncio.Event().wait()
        await asyncio.sleep(FIRST_AFTER_S)
        while True:
            try:
                pruned = await self.prune(UNUSED_S)
                if pruned.removed:
                    log.info("images.removed", images=pruned.removed, freed_bytes=pruned.freed_bytes)
            except HiveError as error:
                log.warning("images.not_removed", message=error.message)
            await asyncio.sleep(EVERY_S)

    async def list_images(self) -> list[Image]:
        """All that there are, the oldest first, those that cannot be used at the end."""
        images = self._images
        if images is None:
            return []
        uses = await self._list_uses()
        shelf = await images.observe(_list_wanted(uses))
        needed = _find_needs(shelf, uses)
        rows = [_show(manifest, needed, shelf) for manifest in shelf.manifests]
        return rows + [_show_damaged(image_id, needed, shelf) for image_id in shelf.damaged]

    async def compare(self, image_id: str) -> ImageCheck:
        """Reads all of an image and says what differs from what was built. Raises NotFoundError."""
        images = self._get_images(image_id)
        hint = f"`hive images rm {image_id}`: it is built anew when it is needed"
        async with self._comparing:
            try:
                changes = await images.compare(image_id)
            except DriverError as error:
                return ImageCheck(id=image_id, problem=error.message, hint=hint, differences=[], count=0)
        if changes is None:
            return ImageCheck(id=image_id, problem="", hint="", differences=[], count=0)
        shown = [ImageDifference(path=change.path, change=change.kind.value) for change in changes[:DIFFERENCES_LIMIT]]
        problem = f"it was changed: {len(changes):,} entries" if changes else f"it was changed: {IN_LIST}"
        return ImageCheck(id=image_id, problem=problem, hint=hint, differences=shown, count=len(changes))

    async def remove(self, image_id: str) -> None:
        """Removes an image that no agent needs, or one that cannot be used as it was changed.

        Raises NotFoundError, ConflictError if an agent needs it or a container runs on it, and DriverError.
        """
        images = self._get_images(image_id)
        is_damaged = bool((await self.compare(image_id)).problem)
        async with images.removing:
            users = [] if is_damaged else await self._find_users(images, image_id)
            if users:
                named = ", ".join(users[:_SHOWN_USERS]) + (", …" if len(users) > _SHOWN_USERS else "")
                hint = "what no config needs can go: `hive images prune` removes all of that"
                raise ConflictError(f"{image_id} is needed by {named}", hint)
            await images.remove(image_id)

    async def prune(self, unused_s: float = 0.0) -> PrunedImages:
        """Removes what no agent needs, and has not needed for so long. Raises DriverError."""
        images = self._images
        if images is None:
            return PrunedImages(removed=[], freed_bytes=0)
        sizes = {manifest.id: manifest.size_bytes for manifest in (await images.observe(())).manifests}
        async with images.removing:
            uses = await self._list_uses()
            removed = await images.remove_unused([packages for _, packages in uses], unused_s)
        return PrunedImages(removed=removed, freed_bytes=sum(sizes.get(image_id, 0) for image_id in removed))

    def _get_images(self, image_id: str) -> ManagedImages:
        if self._images is None:
            raise NotFoundError(f"there is no image {image_id[:80]!r}", "this hive's driver has none")
        return self._images

    async def _find_users(self, images: ManagedImages, image_id: str) -> list[str]:
        """The agents that need an image. Raises DriverError if that cannot be told."""
        uses = await self._list_uses()
        shelf = await images.observe(_list_wanted(uses))
        if shelf.problem:
            raise DriverError(shelf.problem, shelf.hint)
        return _find_needs(shelf, uses).get(image_id, [])

    async def _list_uses(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each agent with a list of packages that it needs; several times if it needs several."""
        commits, new = await self._store.read(_list_commits)
        uses: list[tuple[str, tuple[str, ...]]] = [(agent, ()) for agent in new]
        for agent, commit in commits:
            version = self._configs.find_cached(agent)
            try:
                if version is None or version.commit != commit:
                    version = await self._configs.load(agent, commit)
            except (InvalidInputError, NotFoundError):
                # No container can be started with it.
                continue
            uses.append((agent, tuple(version.config.packages)))
        return uses


def _list_commits(view: View) -> tuple[list[tuple[str, str]], list[str]]:
    """Each agent with a commit that it needs, and the agents that have none yet."""
    records = [to_agent(row) for name in ("list_agents", "list_destroyed_agents") for row in view.list(name)]
    found = {(record.name, commit) for record in records for commit in (record.deployed_commit, record.started_commit)}
    at_work = [to_approval(row) for row in view.list("list_approvals_at_work")]
    found |= {(approval.agent, approval.commit) for approval in at_work}
    new = [record.name for record in records if record.deployed_commit is None]
    return sorted((agent, commit) for agent, commit in found if commit is not None), new


def _list_wanted(uses: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """Each list of packages once."""
    return list(dict.fromkeys(packages for _, packages in uses))


def _find_needs(shelf: Shelf, uses: Sequence[tuple[str, tuple[str, ...]]]) -> dict[str, list[str]]:
    """The agents that need each image, by its id, as far as the shelf can tell."""
    needs: dict[str, set[str]] = {}
    for agent, packages in uses:
        for image_id in shelf.ids.get(packages, ()):
            needs.setdefault(image_id, set()).add(agent)
    return {image_id: sorted(agents) for image_id, agents in needs.items()}


def _show(manifest: Manifest, needed: Mapping[str, list[str]], shelf: Shelf) -> Image:
    asked = manifest.made_from.get("packages", [])
    return Image(
        id=manifest.id,
        kind="base" if manifest.kind == BASE else "layer",
        suite=str(manifest.made_from.get("suite", "")),
        packages={name: manifest.versions.get(name, "unknown") for name in asked},
        size_bytes=manifest.size_bytes,
        built_at=datetime.fromisoformat(manifest.built_at),
        used_by=needed.get(manifest.id, []),
        mounted=manifest.id in shelf.mounted,
        checked=manifest.id in shelf.checked,
        problem="",
    )


def _show_damaged(image_id: str, needed: Mapping[str, list[str]], shelf: Shelf) -> Image:
    return Image(
        id=image_id,
        kind="base" if image_id.startswith(f"{BASE}-") else "layer",
        suite="",
        packages={},
        size_bytes=None,
        built_at=None,
        used_by=needed.get(image_id, []),
        mounted=image_id in shelf.mounted,
        checked=False,
        problem="its manifest was changed or cannot be read",
    )
