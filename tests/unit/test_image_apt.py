"""What apt is told, and what is made of what it says."""

from pathlib import Path

from hyperhive.host.drivers.image_apt import explain_failure, list_host_secrets, list_host_sources, select_fetching
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
