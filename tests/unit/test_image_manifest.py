"""What was changed in an image shows, down to a byte, a mode or an owner."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperhive.host.drivers.image_manifest import (
    Manifest,
    check_tree,
    digest_lines,
    digest_value,
    find_manifest,
    parse_versions,
    save_manifest,
    scan_tree,
)
from hyperhive.host.drivers.protocol import DriverError


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "base-0"
    programs = folder / "root/usr/bin"
    programs.mkdir(parents=True)
    (programs / "tool").write_bytes(b"#!/bin/sh\n")
    (programs / "tool").chmod(0o755)
    (folder / "root/bin").symlink_to("usr/bin")
    (folder / "root/etc").mkdir()
    lines, size_bytes = scan_tree(folder / "root")
    versions = {"tool": "1.0-1"}
    manifest = Manifest("base-0", "base", {}, versions, digest_lines(lines), size_bytes, "2026-11-22T10:00:00+00:00")
    save_manifest(folder, manifest, lines)
    return folder


def check(image: Path) -> None:
    manifest = find_manifest(image)
    assert manifest is not None
    check_tree(image, manifest)


def test_an_image_that_nobody_touched_is_what_its_manifest_says(image: Path) -> None:
    check(image)


def test_when_something_was_written_is_no_change(image: Path) -> None:
    os.utime(image / "root/usr/bin/tool", (1, 1))
    check(image)


def _replace_link(root: Path) -> None:
    (root / "bin").unlink()
    (root / "bin").symlink_to("/elsewhere")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "content": (lambda root: (root / "usr/bin/tool").write_bytes(b"#!/bin/su\n"), "usr/bin/tool"),
    "mode": (lambda root: (root / "usr/bin/tool").chmod(0o4755), "usr/bin/tool"),
    "link": (_replace_link, "bin"),
    "more": (lambda root: (root / "etc/ld.so.preload").write_bytes(b""), "etc/ld.so.preload"),
    "less": (lambda root: (root / "usr/bin/tool").unlink(), "usr/bin/tool"),
    "pipe": (lambda root: os.mkfifo(root / "etc/pipe"), "etc/pipe"),
    "folder": (lambda root: (root / "etc").chmod(0o777), "etc"),
    "odd name": (lambda root: (root / 'etc/a\n"\x1b b').write_bytes(b""), r"etc/a\n\"\u001b b"),
    "not unicode": (lambda root: Path(os.fsdecode(bytes(root) + b"/etc/\xff")).write_bytes(b""), r"etc/\u00ff"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_any_change_is_refused_by_the_path_of_what_was_changed(image: Path, name: str) -> None:
    change, path = CHANGES[name]
    change(image / "root")
    with pytest.raises(DriverError) as caught:
        check(image)
    assert caught.value.message == f"the image base-0 was changed: {path}"
    assert caught.value.hint.startswith(f"rm -r {image}:")


def test_of_many_changes_only_some_are_shown(image: Path) -> None:
    for number in range(100):
        (image / f"root/etc/{number:03}").write_bytes(b"")
    with pytest.raises(DriverError) as caught:
        check(image)
    assert caught.value.message.endswith(": etc/000, etc/001, etc/002, …")


def test_a_list_of_files_that_was_changed_to_fit_does_not_help(image: Path) -> None:
    (image / "root/usr/bin/tool").write_bytes(b"other")
    lines, _ = scan_tree(image / "root")
    (image / "tree").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(DriverError):
        check(image)


@pytest.mark.parametrize("key", ["tree", "versions", "id", "made_from", "size_bytes"])
def test_a_manifest_that_was_changed_is_refused(image: Path, key: str) -> None:
    content = json.loads((image / "manifest.json").read_bytes())
    content[key] = {"tool": "2"} if key in {"versions", "made_from"} else "2"
    (image / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DriverError, match="was changed"):
        find_manifest(image)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"digest": "0"}', "\x00"])
def test_a_manifest_that_is_none_is_refused(image: Path, text: str) -> None:
    (image / "manifest.json").write_text(text)
    with pytest.raises(DriverError, match="cannot be read"):
        find_manifest(image)


def test_an_image_under_the_name_of_another_is_refused(image: Path) -> None:
    image.rename(image.parent / "base-1")
    with pytest.raises(DriverError, match="base-1 was changed"):
        find_manifest(image.parent / "base-1")


def test_a_folder_without_a_manifest_is_no_image(tmp_path: Path) -> None:
    assert find_manifest(tmp_path) is None


def test_a_file_of_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    _, size_bytes = scan_tree(tmp_path)
    assert 100_000 <= size_bytes < 150_000


def test_equal_values_have_equal_digests() -> None:
    assert digest_value({"a": 1, "b": [2]}) == digest_value({"b": [2], "a": 1})
    assert digest_value({"a": 1}) != digest_value({"a": "1"})


def test_versions_are_those_of_what_is_wholly_installed() -> None:
    status = (
        "Package: git\nStatus: install ok installed\nVersion: 1:2.39.5-0\nDescription: a\n Status: no\n Package: x\n\n"
        "Package: jq\nStatus: deinstall ok config-files\nVersion: 1.6\n\n"
        "Package: held\nStatus: hold ok installed\nVersion: 3\n\n"
        "Package: half\nStatus: install ok half-installed\nVersion: 3\n\n\n"
    )
    assert parse_versions(status) == {"git": "1:2.39.5-0", "held": "3"}
    assert parse_versions("") == {}
