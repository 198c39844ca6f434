"""What package scripts leave behind becomes an image that holds nothing dangerous, and no link leads out on the way."""

import os
import socket
import stat
from pathlib import Path

import pytest

from hyperhive.host.drivers.image_tree import clean_base, clean_layer, strip_tree
from hyperhive.host.drivers.protocol import DriverError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in (
        "etc/apt/sources.list.d",
        "usr/sbin",
        "usr/bin",
        "dev",
        "tmp",
        "var/log/apt",
        "var/cache/apt/archives",
    ):
        (root / name).mkdir(parents=True)
    return root


def test_setuid_bits_go_and_the_rest_of_the_mode_stays(root: Path) -> None:
    for mode in (0o4755, 0o2755, 0o6711):
        path = root / f"usr/bin/{mode:o}"
        path.write_bytes(b"")
        path.chmod(mode)
    strip_tree(root, first_uid=0)
    for mode in (0o4755, 0o2755, 0o6711):
        assert stat.S_IMODE((root / f"usr/bin/{mode:o}").stat().st_mode) == mode & 0o777


def test_pipes_and_sockets_go(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "usr/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "socket").rename(root / "usr/socket")
    strip_tree(root, first_uid=0)
    assert sorted(path.name for path in (root / "usr").iterdir()) == ["bin", "sbin"]


def test_a_base_has_no_sources_logins_logs_or_host_names(root: Path) -> None:
    for name in ("etc/apt/sources.list", "etc/apt/auth.conf", "var/log/apt/term.log", "tmp/x", "dev/x"):
        (root / name).write_text("user:secret")
    (root / "etc/apt/sources.list.d/own.list").write_text("user:secret")
    (root / "etc/hostname").write_text("the-host")
    clean_base(root, keep_sources=False)
    left = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert left == ["etc/hostname", "etc/machine-id", "etc/resolv.conf", "usr/sbin/policy-rc.d"]
    assert (root / "etc/hostname").read_bytes() == b""
    assert os.access(root / "usr/sbin/policy-rc.d", os.X_OK)


def test_sources_of_another_suite_stay_for_the_layers(root: Path) -> None:
    (root / "etc/apt/sources.list").write_text("deb x\n")
    clean_base(root, keep_sources=True)
    assert (root / "etc/apt/sources.list").read_text() == "deb x\n"


@pytest.mark.parametrize("name", ["var", "var/log", "var/cache", "etc", "etc/apt", "dev", "tmp"])
def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    for below in ("log", "apt/lists", "lib/dpkg", "cache/apt", "auth.conf.d"):
        (outside / below).mkdir(parents=True)
        (outside / below / "kept").write_text("kept")
    (outside / "kept").write_text("kept")
    before = sorted(outside.rglob("*"))
    layer = tmp_path / "layer"
    (layer / name).parent.mkdir(parents=True)
    (layer / name).symlink_to(outside)
    clean_layer(layer, first_uid=5)
    assert sorted(outside.rglob("*")) == before


def test_a_base_whose_folders_are_links_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "usr/sbin").rmdir()
    (root / "usr/sbin").symlink_to(tmp_path)
    with pytest.raises(DriverError, match=r"policy-rc\.d"):
        clean_base(root, keep_sources=False)
    assert not (tmp_path / "policy-rc.d").exists()


def test_of_a_layer_what_every_build_writes_anew_goes(root: Path) -> None:
    (root / "var/log/apt/term.log").write_text("x")
    (root / "usr/bin/tool").write_text("x")
    clean_layer(root, first_uid=5)
    assert not (root / "var/log").exists() and not (root / "dev").exists()
    assert (root / "usr/bin/tool").exists()
