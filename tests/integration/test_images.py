"""Images are built by the real mmdebstrap, apt and systemd-nspawn; whatever a package does while it is installed.

The base is the one of `image_cache`; what is built on it is in a test's own folder, whose base is the same files.
"""

import asyncio
import platform
import shutil
import signal
import stat
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import structlog

from hyperhive.core.errors import ConflictError
from hyperhive.host.drivers.image_bench import Benches
from hyperhive.host.drivers.image_build import BUILD_UID, install
from hyperhive.host.drivers.image_manifest import find_manifest, is_whiteout, scan_tree
from hyperhive.host.drivers.image_tree import clean_layer
from hyperhive.host.drivers.protocol import DriverError
from image_cache import find_folder, link_images, make_images, open_images
from image_shelf import Shelf

BUILD = """
import asyncio, sys
from pathlib import Path
from hyperhive.host.drivers.images import Images
asyncio.run(Images(Path(sys.argv[1]), sys.argv[2]).build(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def base() -> Path:
    """The folder of the base image."""
    [root] = make_images().find_layers([])
    return root.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images with that base, and the lists of packages that came with it."""
    return link_images(tmp_path / "images").parent


@pytest.fixture(autouse=True)
def untouched_host() -> Iterator[None]:
    """What a build must leave as it is on the host."""
    before = _look_at_host()
    yield
    assert _look_at_host() == before


def _look_at_host() -> tuple[object, ...]:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    null = Path("/dev/null").stat()
    dpkg = Path("/var/lib/dpkg/status").stat()
    noted = sorted(path.name for path in Path("/run/systemd/nspawn/propagate").glob("image*"))
    return (null.st_mode, null.st_rdev, dpkg.st_ino, dpkg.st_mtime_ns, sorted(mounts), noted)


def test_a_base_holds_nothing_that_a_container_must_not_have(base: Path) -> None:
    found = [path.lstat() for path in (base / "root").rglob("*")]
    assert len(found) > 1000
    assert all(
        stat.S_ISREG(entry.st_mode) or stat.S_ISDIR(entry.st_mode) or stat.S_ISLNK(entry.st_mode) for entry in found
    )
    assert not [entry for entry in found if stat.S_ISREG(entry.st_mode) and entry.st_mode & 0o6000]
    assert max(entry.st_uid for entry in found) < 1000 and (base / "root").stat().st_mode & 0o777 == 0o755
    assert stat.S_IMODE(find_folder().stat().st_mode) == 0o700
    kept = ("etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap", "etc/apt/auth.conf")
    assert not [name for name in kept if (base / "root" / name).exists()]
    for name in (
        "etc/apt/sources.list.d",
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "var/log",
        "var/lib/apt/lists",
        "var/cache/apt",
    ):
        assert list((base / "root" / name).iterdir()) == []


def test_a_base_has_what_agents_need_and_its_manifest_every_version(base: Path) -> None:
    for name in ("python3", "bash", "git", "curl", "ssh", "rg", "less", "ps", "patch", "xz", "unzip", "jq"):
        assert (base / "root/usr/bin" / name).exists() or (base / "root/bin" / name).exists(), name
    manifest = find_manifest(base)
    assert manifest is not None and 100_000_000 < manifest.size_bytes < 500_000_000
    told = _run("dpkg-query", f"--admindir={base}/root/var/lib/dpkg", "--show", "--showformat=${Package} ${Version}\n")
    assert dict(line.split() for line in told.splitlines()) == manifest.versions


async def test_a_layer_is_built_once_and_needs_no_network_then(folder: Path) -> None:
    images = open_images(folder)
    await images.prepare()
    versions = await images.build(["hello", "git"])
    assert set(versions) == {"hello", "git"} and all(versions.values()) and "unknown" not in versions.values()
    layer, base = images.find_layers(["git", "hello"])
    assert _run(str(layer / "usr/bin/hello")).startswith("Hello")
    assert base.parent.name.startswith("base-") and layer.parent.name.startswith("layer-")
    names = {str(path.relative_to(layer)) for path in layer.rglob("*")}
    assert not {name for name in names if name.startswith(("var/cache/apt", "var/lib/apt/lists", "var/log", "tmp"))}
    assert not {name for name in names if name.startswith("usr/bin/")} - {"usr/bin/hello"}
    assert {path.lstat().st_uid for path in layer.rglob("*")} == {layer.stat().st_uid} == {0}
    shutil.rmtree(folder / "apt")
    later = open_images(folder)
    await later.prepare()
    assert await later.build(["git", "hello"]) == versions
    assert not (folder / "apt").exists() and not (folder / "staging").exists()


async def test_every_package_that_cannot_be_had_is_named_and_nothing_is_left(folder: Path, base: Path) -> None:
    with pytest.raises(DriverError) as caught:
        await open_images(folder).build(["hello", "no-such-package", "hello-", "python3.x"])
    assert caught.value.message == "not in the apt sources of this machine: hello-, no-such-package, python3.x"
    assert caught.value.hint
    assert [path.name for path in folder.iterdir() if path.name.startswith(("base-", "layer-"))] == [base.name]
    assert not (folder / "staging").exists()


async def test_two_daemons_that_want_the_same_build_it_once(folder: Path) -> None:
    # Without the lists of packages that came with the base, they are fetched.
    shutil.rmtree(folder / "apt")
    with structlog.testing.capture_logs() as told:
        one, other = open_images(folder), open_images(folder)
        first, second = await asyncio.gather(one.build(["hello"]), other.build(["hello"]))
    assert first == second
    assert [line["event"] for line in told].count("image.building") == 1
    assert len([path for path in folder.iterdir() if path.name.startswith("layer-")]) == 1


def test_a_build_that_was_killed_leaves_nobody_at_work_and_is_done_again(folder: Path) -> None:
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    argv = [sys.executable, "-c", BUILD, str(folder), suite, "hello"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as daemon:
        _wait(lambda: (folder / "staging/room").exists() and _list_children(daemon.pid))
        daemon.send_signal(signal.SIGKILL)
    # The lock is free when the last process of the build is gone.
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert open_images(folder).find_layers(["hello"])[0].is_dir()
    assert not (folder / "staging").exists()


HOSTILE = """#!/bin/sh
exec 2>&1
test -e /proc/1/root/etc/os-release || echo no-root
try() {
  name=$1; shift
  if "$@" >/dev/null 2>&1; then echo "done $name"; else echo "refused $name"; fi >>/usr/share/told
}
try mount mount -t tmpfs none /srv
try node mknod /usr/share/disk b 8 0
try module sh -c 'echo x >/proc/sys/kernel/modprobe'
try sysrq sh -c 'echo h >/proc/sysrq-trigger'
try network sh -c 'ls /sys/class/net | grep -v "^lo$"'
try host test -e "$HOST_FILE"
try packages sh -c 'echo x >/mnt/x'
id -u >>/usr/share/told
cp /bin/sh /usr/share/shell; chmod 4755 /usr/share/shell
mkfifo /usr/share/pipe
rm -f /usr/bin/jq
rm -rf /usr/share/doc; mkdir /usr/share/doc; echo new >/usr/share/doc/new
chown 1000:1000 /usr/share/doc/new
rm -rf /var/log; ln -s "$HOST_FOLDER" /var/log
rm -rf /var/cache; ln -s "$HOST_FOLDER" /var/cache
sleep 1000 &
exit 0
"""


async def test_a_hostile_package_gets_no_further_than_its_layer(base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "apt").mkdir(parents=True)
    script = HOSTILE.replace("$HOST_FILE", str(outside)).replace("$HOST_FOLDER", str(outside))
    upper = await _install(base, tmp_path, {"postinst": script})
    told = (upper / "usr/share/told").read_text().split("\n")
    refused = [f"refused {name}" for name in ("mount", "node", "module", "sysrq", "network", "host", "packages")]
    assert told == [*refused, "0", ""]
    clean_layer(upper, first_uid=BUILD_UID)
    assert sorted(path.name for path in outside.rglob("*")) == ["apt"]
    assert stat.S_IMODE((upper / "usr/share/shell").stat().st_mode) == 0o755
    assert not (upper / "usr/share/pipe").exists()
    assert (upper / "usr/share/doc/new").stat().st_uid == 1000
    assert {path.lstat().st_uid for path in upper.rglob("*")} == {0, 1000}
    _wait(lambda: not [pid for pid in _list_processes() if BUILD_UID <= pid < BUILD_UID + 65536])


async def test_what_a_package_removes_stays_removed_in_the_layer(base: Path, tmp_path: Path) -> None:
    upper = await _install(base, tmp_path, {"postinst": HOSTILE})
    clean_layer(upper, first_uid=BUILD_UID)
    assert is_whiteout((upper / "usr/bin/jq").lstat())
    assert any(line.startswith("folder hides") and line.endswith('"usr/share/doc"') for line in scan_tree(upper)[0])
    merged = tmp_path / "merged"
    merged.mkdir()
    layers = f"{upper}:{base / 'root'}"
    script = 'mount -t overlay overlay -o "lowerdir=$1" "$2" && ls "$2/usr/share/doc" && test ! -e "$2/usr/bin/jq"'
    assert _run("unshare", "--mount", "sh", "-c", script, "sh", layers, str(merged)) == "new\n"


async def test_a_package_that_cannot_be_installed_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="error processing package hostile"):
        await _install(base, tmp_path, {"postinst": "#!/bin/sh\nexit 1\n"})


async def test_a_room_that_cannot_be_made_is_told_with_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="cannot be mounted") as caught:
        await _install(tmp_path / "no-base", tmp_path, {})
    assert "id-mapped" in caught.value.hint


async def _install(base: Path, folder: Path, scripts: Mapping[str, str]) -> Path:
    """What is written when a package with these scripts is installed on the base."""
    package = folder / "package/DEBIAN"
    package.mkdir(parents=True)
    (package / "control").write_text(
        "Package: hostile\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: hostile\n"
    )
    for name, script in scripts.items():
        (package / name).write_text(script)
        (package / name).chmod(0o755)
    room, upper = folder / "room", folder / "upper"
    (room / "packages").mkdir(parents=True)
    found = room / "packages/hostile.deb"
    _run("dpkg-deb", "--build", "--root-owner-group", str(package.parent), str(found))
    benches = Benches(folder / "groups")
    with (folder / "lock").open("w") as lock:
        bench = await benches.open(lock.fileno())
        try:
            await install(base / "root", [found], room, upper, bench)
        finally:
            await benches.close()
    return upper


async def test_an_image_that_a_container_runs_on_stays(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    base = shelf.put_base()
    layer = shelf.put_layer(base, "sl")
    place = tmp_path / "place"
    place.mkdir()
    script = 'mount --bind "$1" "$2" && echo mounted && read -r _'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(shelf.folder / layer.id / "root"), str(place)]
    container = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
    assert container.stdin is not None and container.stdout is not None
    assert await container.stdout.readline() == b"mounted\n"
    assert shelf.images.find_mounted() == {layer.id}
    with pytest.raises(ConflictError, match="a container runs on"):
        await shelf.images.remove(layer.id)
    assert await shelf.images.remove_unused([]) == []
    container.stdin.close()
    await asyncio.wait_for(container.wait(), 20)
    assert await shelf.images.remove_unused([]) == [layer.id]


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def _list_children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def _list_processes() -> list[int]:
    """The users of all processes."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            found.append(path.stat().st_uid)
        except OSError:
            continue
    return found


def _wait(is_so: Callable[[], object]) -> None:
    end_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)
