"""What apt is told, and what is made of what it says."""

from pathlib import Path

import pytest

from hyperhive.host.drivers.image_apt import (
    check_all_fetched,
    explain_failure,
    list_host_secrets,
    list_host_sources,
    parse_planned,
    select_fetching,
)
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.process import Completed


def test_of_the_hosts_configuration_only_how_to_fetch_is_taken() -> None:
    dump = (
        'Acquire "";\nAcquire::http::Proxy "http://proxy.invalid:3128";\nAcquireOther::x "1";\n'
        'Acquire::Languages:: "en";\nAcquire::IndexTargets::deb::DEP-11 "";\n'
        'APT::Update::Post-Invoke-Success:: "touch /evil";\nDPkg::Pre-Install-Pkgs:: "evil";\n'
    )
    assert select_fetching(dump) == 'Acquire "";\nAcquire::http::Proxy "http://proxy.invalid:3128";\n'


def test_sources_are_the_files_that_apt_itself_would_read(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("")
    for name in ("debian.sources", "b.list", "old.list.disabled", "notes", "two words.list"):
        (parts / name).write_text("x\n")
    (parts / "folder.list").mkdir()
    assert [path.name for path in list_host_sources(tmp_path)] == ["b.list", "debian.sources"]
    (tmp_path / "sources.list").write_text("deb x\n")
    assert list_host_sources(tmp_path)[0] == tmp_path / "sources.list"
    assert list_host_sources(tmp_path / "none") == []


def test_logins_and_pins_are_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "auth.conf.d").mkdir()
    (tmp_path / "preferences").write_text("")
    assert list_host_secrets(tmp_path) == [tmp_path / "auth.conf.d", tmp_path / "preferences"]


def fail(stderr: str) -> Completed:
    return Completed(("apt-get",), 100, b"", stderr.encode())


def test_every_package_that_cannot_be_had_is_named() -> None:
    said = fail("E: Package 'b' has no installation candidate\nE: Unable to locate package c\n")
    error = explain_failure(["a", "b", "c", "d"], ["a"], said)
    assert error.message == "not in the apt sources of this machine: a, b, c"
    assert error.hint


def test_any_other_failure_is_told_in_apts_words() -> None:
    error = explain_failure(["a"], [], fail("E: Failed to fetch a.deb\nE: Unable to fetch some archives"))
    assert error.message == "apt cannot fetch a: E: Failed to fetch a.deb / E: Unable to fetch some archives"
    assert error.hint.endswith("--simulate a`")
    mismatch = (
        "E: Failed to fetch a.deb  Hash Sum mismatch\n   Hashes of expected file:\n    - SHA256:1\nE: Some failed"
    )
    assert explain_failure(["a"], [], fail(mismatch)).message.endswith("a.deb  Hash Sum mismatch / E: Some failed")
    assert explain_failure(["a"], [], fail("what is this")).message.endswith("what is this")


def test_what_apt_would_install_are_its_new_packages_and_its_upgrades() -> None:
    said = (
        "Remv old-one [1.0]\nInst libc6 [2.36-9] (2.36-10 Debian:12.15/oldstable [amd64]) []\n"
        "Inst g++ (4:12.2.0-3 Debian:12.15/oldstable [amd64])\nInst wine:i386 (8.0 Debian:12.15/oldstable [i386])\n"
        "Conf g++ (4:12.2.0-3 Debian:12.15/oldstable [amd64])\n"
    )
    assert parse_planned(said) == ["libc6", "g++", "wine"]
    assert parse_planned("") == []


def test_packages_that_apt_left_no_file_of_are_named() -> None:
    files = ["g++_4%3a12.2.0-3_amd64.deb", "libc6_2.36-10_amd64.deb"]
    check_all_fetched(["libc6", "g++"], files)
    check_all_fetched([], [])
    with pytest.raises(DriverError) as caught:
        check_all_fetched(["libc6", "zlib", "libc", "g++"], files)
    assert caught.value.message == "apt left no file of: libc, zlib"
    assert caught.value.hint
