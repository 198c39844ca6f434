"""Which images there are, which belong to which packages, and which may go. Those here are small and made by hand."""

import asyncio
import os
import platform
from pathlib import Path

import pytest

from hyperhive.core.errors import NotFoundError
from hyperhive.host.drivers.image_build import plan_base, plan_layer, render_install
from hyperhive.host.drivers.image_manifest import TREE, Change, ChangeKind, Manifest, save_manifest, scan_tree
from hyperhive.host.drivers.image_mounts import find_mounted
from hyperhive.host.drivers.images import Images
from hyperhive.host.drivers.protocol import DriverError
from image_shelf import ARCH, UBUNTU, Shelf


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
    assert base.id not in (await shelf.images.observe(())).checked
    await shelf.images.build([])
    assert base.id in (await shelf.images.observe(())).checked
    (shelf.folder / base.id / "root/etc/name").write_text("other")
    await shelf.images.build([])
    assert await shelf.images.compare(base.id) == [Change("etc/name", ChangeKind.CHANGED)]
    assert base.id not in (await shelf.images.observe(())).checked
    with pytest.raises(DriverError, match="was changed"):
        await shelf.images.build([])


async def test_what_was_added_removed_and_changed_is_told_by_its_path(shelf: Shelf) -> None:
    base = shelf.put_base()
    assert await shelf.images.compare(base.id) is None
    root = shelf.folder / base.id / "root"
    (root / "etc/name").unlink()
    (root / "etc/new\x1b[31m name").touch()
    root.chmod(0o700)
    assert await shelf.images.compare(base.id) == [
        Change(".", ChangeKind.CHANGED),
        Change("etc/name", ChangeKind.REMOVED),
        Change("etc/new\\u001b[31m name", ChangeKind.ADDED),
    ]


async def test_a_change_that_was_written_into_the_list_of_files_too_is_one_nobody_can_tell(shelf: Shelf) -> None:
    base = shelf.put_base()
    (shelf.folder / base.id / "root/etc/name").write_text("other")
    lines, _ = scan_tree(shelf.folder / base.id / "root")
    (shelf.folder / base.id / TREE).write_text("".join(f"{line}\n" for line in lines))
    assert await shelf.images.compare(base.id) == []
    with pytest.raises(DriverError, match="was changed: in its list of files"):
        await shelf.images.build([])


@pytest.mark.parametrize("name", ["", ".", "..", "apt", "lock", "base-0", "base-0/..", "../images"])
async def test_only_images_can_be_verified_and_removed(shelf: Shelf, name: str) -> None:
    shelf.put_base()
    (shelf.folder / "apt").mkdir()
    for act in (shelf.images.compare, shelf.images.remove):
        with pytest.raises(NotFoundError):
            await act(name)
    assert (shelf.folder / "apt").is_dir() and len(shelf.names()) == 1


async def test_a_damaged_image_can_be_removed(shelf: Shelf) -> None:
    base = shelf.put_base()
    (shelf.folder / base.id / "manifest.json").write_text("{")
    assert (shelf.images.list_all(), shelf.images.list_damaged()) == ([], [base.id])
    with pytest.raises(DriverError, match="cannot be read"):
        await shelf.images.compare(base.id)
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


async def test_what_came_out_of_use_lately_stays_for_a_while(shelf: Shelf) -> None:
    base = shelf.put_base()
    old, late, needed = (shelf.put_layer(base, name) for name in ("old-one", "late-one", "sl"))
    for image in (base, old, needed):
        os.utime(shelf.folder / image.id, (1, 1))
    assert await shelf.images.remove_unused([["sl"]], unused_s=3600) == [old.id]
    # What is needed is so from now on.
    assert await shelf.images.remove_unused([], unused_s=3600) == []
    assert shelf.names() == {base.id, late.id, needed.id}


def test_the_ids_of_images_are_known_before_these_are_built(shelf: Shelf) -> None:
    planned = plan_base("bookworm", platform.machine()).id
    assert shelf.images.find_ids(["sl"]) == (planned,)
    base = shelf.put_base()
    assert shelf.images.find_ids(["git"]) == (base.id,) == (planned,)
    ids = shelf.images.find_ids(["sl"])
    assert ids == (shelf.put_layer(base, "sl").id, base.id)
    # Also of one that cannot be used: it is needed all the same.
    (shelf.folder / ids[0] / "manifest.json").write_text("{")
    assert shelf.images.find_ids(["sl"]) == ids


async def test_what_there_is_is_told_with_the_images_of_each_list_of_packages(shelf: Shelf) -> None:
    base = shelf.put_base()
    layer = shelf.put_layer(base, "sl")
    await shelf.images.build(["sl"])
    seen = await shelf.images.observe([(), ("sl",), ("sl", "git")])
    assert (seen.manifests, seen.damaged, seen.mounted) == ((base, layer), (), frozenset())
    assert seen.checked == {base.id, layer.id}
    assert seen.ids == {
        (): (base.id,),
        ("sl",): (layer.id, base.id),
        ("sl", "git"): (shelf.images.find_ids(["git", "sl"])),
    }
    (shelf.folder / base.id / "manifest.json").write_text("{")
    seen = await shelf.images.observe([(), ("sl",)])
    assert (seen.manifests, seen.damaged, seen.ids) == ((layer,), (base.id,), {})
    assert "cannot be read" in seen.problem and seen.hint


def test_a_mounted_image_is_known_by_what_the_kernel_says(tmp_path: Path) -> None:
    def write(process: str, namespace: str, *mounts: tuple[str, str, str]) -> None:
        folder = tmp_path / process
        (folder / "ns").mkdir(parents=True)
        (folder / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
        (folder / "root").symlink_to("/")
        lines = [
            f"101 99 {device} {inner} {point} ro,idmapped - ext4 /dev/sda1 rw\n" for device, inner, point in mounts
        ]
        (folder / "mountinfo").write_text("odd\n" + "".join(lines))

    own = (("8:1", "/", "/"), ("8:2", "/vol", "/data\\040disk"), ("8:3", "/", "/data"))
    write("self", "1", *own)
    write("1", "1", *own)
    write(
        "2",
        "2",
        ("8:2", "/vol/images/layer-1/root", "/run/x/stage/layer0"),
        ("8:2", "/vol/images/layer-2/root/etc", "/etc"),
    )
    write("3", "3", ("8:1", "/vol/images/layer-2/root", "/a"), ("8:2", "/other/images/layer-2/root", "/b"))
    (tmp_path / "4").mkdir()
    # Of the second image only a folder is mounted, and images of that name in other places.
    folder = Path("/data disk/images")
    assert find_mounted(folder, {"layer-1", "layer-2"}, tmp_path) == {"layer-1"}
    assert find_mounted(folder, set(), tmp_path) == set()


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
