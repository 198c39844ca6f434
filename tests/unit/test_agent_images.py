"""Which images agents need, and what may be removed: on a real store and real configs, with small images."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config_rig import ConfigRig, open_config_rig
from helper_rig import open_helper_rig
from hyperhive.core.approvals import ApprovalStatus
from hyperhive.core.errors import ConflictError, NotFoundError
from hyperhive.host.agent_images import AgentImages
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.image_shelf import ManagedImages
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.host.separation.client import HelperImages
from hyperhive.wire.operator.images import Image
from image_shelf import Shelf


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ConfigRig]:
    async with open_config_rig(tmp_path) as rig:
        yield rig


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture(params=["its own", "a helper's"])
async def managed(request: pytest.FixtureRequest, shelf: Shelf, tmp_path: Path) -> AsyncIterator[ManagedImages]:
    """The images of the shelf, as the daemon has them and as it asks its helper for them."""
    if request.param == "its own":
        yield shelf.images
        return
    folder = tmp_path / "helper"
    folder.mkdir()
    async with open_helper_rig(folder, BubblewrapDriver(folder / "containers"), shelf.images) as helper:
        yield HelperImages(helper.open_helper())


def asking(*packages: str) -> dict[str, str]:
    return {"agent.toml": f"packages = {list(packages)}\n".replace("'", '"')}


async def test_each_image_is_shown_with_the_agents_that_need_it(
    rig: ConfigRig, shelf: Shelf, managed: ManagedImages
) -> None:
    images = AgentImages(rig.store, rig.configs, managed)
    base = shelf.put_base()
    layer, unused = shelf.put_layer(base, "sl"), shelf.put_layer(base, "hello")
    await rig.spawn("alice", asking("sl"))
    await rig.spawn("bob", asking("git"))
    rows = {row.id: row for row in await images.list_images()}
    assert rows[base.id].used_by == ["alice", "bob", "manager"]
    assert (rows[base.id].kind, rows[base.id].suite, rows[base.id].packages["git"]) == ("base", "bookworm", "2.39")
    assert (rows[layer.id].used_by, rows[layer.id].packages) == (["alice"], {"sl": "1"})
    assert (rows[unused.id].used_by, rows[unused.id].kind, rows[unused.id].mounted) == ([], "layer", False)
    # One that is kept can be revived, and needs it then.
    await rig.destroy("alice")
    assert next(row for row in await images.list_images() if row.id == layer.id).used_by == ["alice"]


async def test_what_a_config_needs_is_not_removed_and_the_rest_is(
    rig: ConfigRig, shelf: Shelf, managed: ManagedImages
) -> None:
    images = AgentImages(rig.store, rig.configs, managed)
    base = shelf.put_base()
    layer, unused, building = (shelf.put_layer(base, name) for name in ("sl", "hello", "cowsay"))
    await rig.spawn("alice", asking("sl"))
    approval = await rig.propose("alice", asking("cowsay"))
    for image in (base, layer):
        with pytest.raises(ConflictError, match="is needed by alice"):
            await images.remove(image.id)
    # What waits for the operator needs nothing yet; what was approved does.
    assert rows_without_agents(await images.list_images()) == {unused.id, building.id}
    await rig.end(approval, ApprovalStatus.APPROVED)
    pruned = await images.prune()
    assert (pruned.removed, pruned.freed_bytes) == ([unused.id], unused.size_bytes)
    assert shelf.names() == {base.id, layer.id, building.id}
    with pytest.raises(NotFoundError):
        await images.remove(unused.id)


def rows_without_agents(rows: list[Image]) -> set[str]:
    return {row.id for row in rows if not row.used_by}


async def test_what_differs_is_told_and_can_be_removed_whoever_needs_it(
    rig: ConfigRig, shelf: Shelf, managed: ManagedImages
) -> None:
    images = AgentImages(rig.store, rig.configs, managed)
    base = shelf.put_base()
    layer = shelf.put_layer(base, "sl")
    await rig.spawn("alice", asking("sl"))
    assert (await images.compare(layer.id)).problem == ""
    (shelf.folder / layer.id / "root/etc/name").write_text("other")
    check = await images.compare(layer.id)
    assert (check.problem, check.count) == ("it was changed: 1 entries", 1)
    assert [(one.path, one.change) for one in check.differences] == [("etc/name", "changed")]
    assert layer.id in check.hint
    await images.remove(layer.id)
    assert shelf.names() == {base.id}


async def test_a_base_whose_manifest_was_changed_is_shown_as_such_and_can_go(
    rig: ConfigRig, shelf: Shelf, managed: ManagedImages
) -> None:
    images = AgentImages(rig.store, rig.configs, managed)
    base = shelf.put_base()
    (shelf.folder / base.id / "manifest.json").write_text("{")
    [row] = await images.list_images()
    assert (row.id, row.kind, row.size_bytes, bool(row.problem)) == (base.id, "base", None, True)
    assert (await images.compare(base.id)).problem
    await images.remove(base.id)
    assert await images.list_images() == []


async def test_while_it_is_not_known_who_needs_what_nothing_is_removed(
    rig: ConfigRig, shelf: Shelf, managed: ManagedImages
) -> None:
    images = AgentImages(rig.store, rig.configs, managed)
    base = shelf.put_base()
    layer = shelf.put_layer(base, "sl")
    await rig.spawn("alice", asking("sl"))
    (shelf.folder / base.id / "manifest.json").write_text("{")
    with pytest.raises(DriverError, match="cannot be read"):
        await images.remove(layer.id)
    with pytest.raises(DriverError, match="cannot be read"):
        await images.prune()
    assert shelf.names() == {base.id, layer.id}


async def test_a_config_that_cannot_be_used_is_in_nobodys_way(
    rig: ConfigRig, shelf: Shelf, managed: ManagedImages
) -> None:
    images = AgentImages(rig.store, rig.configs, managed)
    base = shelf.put_base()
    layer = shelf.put_layer(base, "sl")
    await rig.spawn("alice", asking("sl"))
    await rig.spawn("bob")
    await rig.store.write(lambda tx: tx.list("set_deployed_commit", name="bob", commit="0" * 40, at=0))
    rig.configs.forget("bob")
    assert (await images.prune()).removed == []
    assert shelf.names() == {base.id, layer.id}


async def test_where_containers_have_the_machines_own_system_there_are_none(rig: ConfigRig) -> None:
    images = AgentImages(rig.store, rig.configs, None)
    assert (await images.list_images(), (await images.prune()).removed) == ([], [])
    for act in (images.compare, images.remove):
        with pytest.raises(NotFoundError):
            await act("base-0")
