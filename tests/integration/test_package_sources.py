"""The real apt fetches packages from sources of any kind, and the real dpkg installs what it has fetched."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hyperhive.host.drivers.image_apt import Apt
from hyperhive.host.drivers.image_bench import Bench, Benches
from hyperhive.host.drivers.image_build import install
from hyperhive.host.drivers.protocol import DriverError
from image_cache import make_images
from package_source import put_package


@pytest.fixture(scope="module")
def base() -> Path:
    """The tree of the base image."""
    [root] = make_images().find_layers([])
    return root


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    benches = Benches(tmp_path / "groups")
    with (tmp_path / "lock").open("w") as lock:
        try:
            yield await benches.open(lock.fileno())
        finally:
            await benches.close()


@pytest.fixture
async def apt(tmp_path: Path) -> Apt:
    apt = Apt(tmp_path / "apt")
    await apt.prepare()
    return apt


@pytest.fixture
def room(tmp_path: Path) -> Path:
    room = tmp_path / "room"
    room.mkdir()
    return room


@pytest.fixture
def packages() -> Iterator[Path]:
    """A source with a package, one that it needs, and another; in a folder that apt's own user may enter."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "of packages"
        put_package(folder, "wanted", depends="needed, bash")
        put_package(folder, "needed")
        put_package(folder, "other")
        yield folder


def name_source(kind: str, packages: Path, folder: Path) -> Path:
    """A list of sources with this one. Its name has a space, which apt takes as %20."""
    place = str(packages).replace(" ", "%20")
    if kind == "mirror+file":
        mirrors = packages.parent / "mirrors"
        mirrors.write_text(f"file:{place}/\n")
        place = str(mirrors)
    sources = folder / "sources.list"
    sources.write_text(f"deb [trusted=yes] {kind}:{place} ./\n")
    return sources


@pytest.mark.parametrize(("kind", "mode"), [("file", 0o755), ("file", 0o700), ("copy", 0o755), ("mirror+file", 0o755)])
async def test_packages_of_a_folder_are_installed_with_what_they_need(
    kind: str, mode: int, apt: Apt, bench: Bench, base: Path, packages: Path, room: Path, tmp_path: Path
) -> None:
    packages.parent.chmod(mode)
    sources = name_source(kind, packages, tmp_path)
    found = await apt.fetch(["wanted"], base / "var/lib/dpkg", sources, room / "packages", bench)
    names = ["needed_1%3a1.0_all.deb", "wanted_1%3a1.0_all.deb"]
    assert [path.name for path in found] == names
    # Copies: the source is somebody else's.
    assert all((packages / f"{name}.deb").exists() for name in ("needed", "wanted", "other"))
    assert not any(path.is_symlink() for path in found)
    upper = tmp_path / "upper"
    await install(base, found, room, upper, bench)
    assert [(upper / "etc" / name).exists() for name in ("wanted", "needed", "other")] == [True, True, False]


async def test_a_package_that_is_not_the_one_of_the_list_is_refused(
    apt: Apt, bench: Bench, base: Path, packages: Path, room: Path, tmp_path: Path
) -> None:
    sources = name_source("file", packages, tmp_path)
    changed = bytearray((packages / "needed.deb").read_bytes())
    changed[-1] ^= 1
    (packages / "needed.deb").write_bytes(changed)
    with pytest.raises(DriverError, match="Hash Sum mismatch"):
        await apt.fetch(["wanted"], base / "var/lib/dpkg", sources, room / "packages", bench)


async def test_packages_that_apt_leaves_where_they_are_are_named_and_not_left_out(
    apt: Apt, bench: Bench, base: Path, packages: Path, room: Path, tmp_path: Path
) -> None:
    # apt's own way with such sources.
    with (tmp_path / "apt/apt.conf").open("a") as config:
        config.write('Dir::Bin::Methods::file "file";\n')
    sources = name_source("file", packages, tmp_path)
    with pytest.raises(DriverError) as caught:
        await apt.fetch(["wanted", "other"], base / "var/lib/dpkg", sources, room / "packages", bench)
    assert caught.value.message == "apt left no file of: needed, other, wanted"
    assert caught.value.hint


async def test_what_the_base_has_already_needs_no_file(
    apt: Apt, bench: Bench, base: Path, packages: Path, room: Path, tmp_path: Path
) -> None:
    sources = name_source("file", packages, tmp_path)
    assert await apt.fetch(["bash"], base / "var/lib/dpkg", sources, room / "packages", bench) == []
