"""Which images there are, which belong to which packages, and which may go. Those here are small and made by hand."""

import asyncio
import platform
from pathlib import Path

import pytest

from hyperhive.core.errors import NotFoundError
from hyperhive.host.drivers.image_build import Plan, plan_base, plan_layer, render_install
from hyperhive.host.drivers.image_manifest import Manifest, digest_lines, find_manifest, save_manifest, scan_tree
from hyperhive.host.drivers.images import Images
from hyperhive.host.drivers.protocol import DriverError

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04"\nID=ubuntu\nVERSION_CODENAME=noble\nID_LIKE=debian\n'
ARCH = 'PRETTY_NAME="Arch Linux"\nID=arch\n'


class Shelf:
    """A folder of images on a machine with the given os-release."""

    def __init__(self, folder: Path, os_release: str = DEBIAN) -> None:
        self.folder = folder / "images"
        self.folder.mkdir()
        release = folder / "os-release"
        release.write_text(os_release)
        self.images = Images(self.folder, os_release=release)
        self.other_suite = Images(self.folder, "trixie", os_release=release)

    def put(self, plan: Plan, **versions: str) -> Manifest:
        folder = self.folder / plan.id
        (folder / "root/etc").mkdir(parents=True)
        (folder / "root/etc/name").write_text(plan.id)
        lines, size_bytes = scan_tree(folder / "root")
        built_at = f"2026-11-22T10:00:{len(self.names()):02}+00:00"
        manifest = Manifest(plan.id, plan.kind, plan.made_from, versions, digest_lines(lines), size_bytes, built_at)
        save_manifest(folder, manifest, lines)
        found = find_manifest(folder)
        assert found is not None
        return found

    def put_base(self) -> Manifest:
        return self.put(plan_base("bookworm", platform.machine()), git="2.39", jq="1.6")

    def put_layer(self, base: Manifest, *packages: str) -> Manifest:
        return self.put(plan_layer(base, packages), git="2.39", jq="1.6", **dict.fromkeys(packages, "1"))

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.name.startswith(("base-", "layer-"))}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


async def test_what_is_built_is_used_as_it_is_whatever_order_packages_are_named_in(shelf: Shelf) -> None:
    base = shelf.put_base()
    layer = shelf.put_layer(base, "hello", "sl")
    assert await shelf.images.build(["sl", "hello", "git", "sl"][:2]) == {"sl": "1", "hello": "1"}
    roots = (shelf.folder / layer.id / "root", shelf.folder / base.id / "root")
    assert shelf.images.find_layers(["hello", "sl"]) == shelf.images.find_layers(["sl", "hello", "sl"]) == roots


async def test_what_the_base_has_needs_no_layer(shelf: Shelf) -> None:
    base = shelf.put_base()
    assert await shelf.images.build([]) == {}
    assert await shelf.images.build(["jq", "git"]) == {"git": "2.39", "jq": "1.6"}
    assert shelf.images.find_layers(["git"]) == (shelf.folder / base.id / "root",)


def test_what_was_not_built_has_no_layers(shelf: Shelf) -> None:
    with pytest.raises(DriverError, match="there is no image for containers"):
        shelf.images.find_layers([])
    shelf.put_base()
    with pytest.raises(DriverError, match="there is no image with hello, sl"):
        shelf.images.find_layers(["sl", "hello"])


def test_a_layer_fits_only_the_base_that_it_was_built_on(shelf: Shelf) -> None:
    base = shelf.put_base()
    shelf.put_layer(base, "sl")
    again = Manifest(base.id, base.kind, base.made_from, base.versions, base.tree, base.size_bytes, "2027-01-01")
    lines, _ = scan_tree(shelf.folder / base.id / "root")
    save_manifest(shelf.folder / base.id, again, lines)
    with pytest.raises(DriverError, match="there is no image with sl"):
        shelf.images.find_layers(["sl"])


@pytest.mark.parametrize("name", ["", "x", "--force", "a b", "a/../b", "sl=1", "sl:amd64", "sl;id", "*", "a" * 65])
async def test_what_is_not_the_name_of_a_package_never_reaches_apt(shelf: Shelf, name: str) -> None:
    shelf.put_base()
    with pytest.raises(DriverError):
        await shelf.images.build([name])
    with pytest.raises(DriverError):
        shelf.images.find_layers([name])


async def test_an_image_that_was_changed_is_not_used(shelf: Shelf) -> None:
    base = shelf.put_base()
    layer = shelf.put_layer(base, "sl")
    (shelf.folder / layer.id / "root/etc/name").write_text("other")
    with pytest.raises(DriverError, match=r"was changed: etc/name") as caught:
        await shelf.images.build(["sl"])
    assert str(shelf.folder / layer.id) in caught.value.hint
    assert await shelf.images.build(["git"]) == {"git": "2.39"}


async def test_a_tree_is_read_once_by_each_daemon_and_whenever_it_is_asked_for(shelf: Shelf) -> None:
    base = shelf.put_base()
    await shelf.images.build([])
    (shelf.folder / base.id / "root/etc/name").write_text("other")
    await shelf.images.build([])
    with pytest.raises(DriverError, match="was changed"):
        await shelf.images.verify(base.id)
    with pytest.raises(DriverError, match="was changed"):
        await shelf.images.build([])


@pytest.mark.parametrize("name", ["", ".", "..", "apt", "lock", "base-0", "base-0/..", "../images"])
async def test_only_images_can_be_verified_and_removed(shelf: Shelf, name: str) -> None:
    shelf.put_base()
    (shelf.folder / "apt").mkdir()
    for act in (shelf.images.verify, shelf.images.remove):
        with pytest.raises(NotFoundError):
            await act(name)
    assert (shelf.folder / "apt").is_dir() and len(shelf.names()) == 1


async def test_a_damaged_image_can_be_removed(shelf: Shelf) -> None:
    base = shelf.put_base()
    (shelf.folder / base.id / "manifest.json").write_text("{")
    assert shelf.images.list_all() == []
    await shelf.images.remove(base.id)
    assert shelf.names() == set()


async def test_what_no_config_needs_goes_and_the_base_stays(shelf: Shelf) -> None:
    base = shelf.put_base()
    used, unused = shelf.put_layer(base, "sl"), shelf.put_layer(base, "hello")
    old = shelf.put(plan_base("bullseye", platform.machine()))
    assert [image.id for image in shelf.images.list_all()] == [base.id, used.id, unused.id, old.id]
    assert set(await shelf.images.remove_unused([["sl"], ["git"], [], ["never-built"]])) == {unused.id, old.id}
    assert shelf.names() == {base.id, used.id}
    assert await shelf.images.remove_unused([]) == [used.id]
    assert shelf.names() == {base.id}


async def test_who_wants_an_image_waits_for_the_one_who_builds(shelf: Shelf) -> None:
    base = shelf.put_base()
    other = Images(shelf.folder, os_release=shelf.folder.parent / "os-release")
    async with shelf.images.locked():
        waiting = asyncio.create_task(other.remove(base.id))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done and shelf.names() == {base.id}
    await asyncio.wait_for(waiting, 10)
    assert shelf.names() == set()


@pytest.mark.parametrize("os_release", [UBUNTU, ARCH, ""])
def test_a_host_that_is_no_debian_needs_to_be_told_a_suite(tmp_path: Path, os_release: str) -> None:
    shelf = Shelf(tmp_path, os_release)
    with pytest.raises(DriverError, match="not a Debian release") as caught:
        shelf.images.find_layers([])
    assert "HIVE_IMAGE_SUITE" in caught.value.hint
    with pytest.raises(DriverError, match="there is no image for containers"):
        shelf.other_suite.find_layers([])


def test_each_suite_machine_and_list_of_packages_has_an_id_of_its_own(shelf: Shelf) -> None:
    base = shelf.put_base()
    plans = [plan_base("bookworm", "x86_64"), plan_base("trixie", "x86_64"), plan_base("bookworm", "aarch64")]
    plans += [plan_layer(base, ["a1"]), plan_layer(base, ["a1", "b1"])]
    assert len({plan.id for plan in plans}) == len(plans)
    assert plan_layer(base, ["b1", "a1"]).id == plan_layer(base, ["a1", "b1"]).id


def test_packages_are_installed_without_a_network_or_capabilities_over_the_machine(tmp_path: Path) -> None:
    argv = render_install(tmp_path / "root", tmp_path / "packages", ["a.deb"])
    assert {"--private-network", "--no-new-privileges=yes", "--private-users-ownership=off"} <= set(argv)
    [dropped] = [word for word in argv if word.startswith("--drop-capability=")]
    assert {"CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_NET_ADMIN", "CAP_SETFCAP"} <= set(dropped.partition("=")[2].split(","))
    assert argv[-2:] == ["install", "/mnt/a.deb"]
