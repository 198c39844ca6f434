"""What `hive doctor` says of drivers: what the one in use lacks, and what another one would take."""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli_process import call_on_nixos
from hyperhive.cli.doctor_checks import Check, CheckStatus, missing, ok, parse_version
from hyperhive.cli.doctor_drivers import (
    Asked,
    check_drivers,
    find_driver,
    judge_runsc,
    judge_sandbox,
    judge_unused,
    read_driver,
)
from hyperhive.cli.doctor_images import check_folder, check_images, decide_suite, judge_images
from hyperhive.cli.doctor_kernel import (
    IMAGE_FEATURES,
    NIXOS_FEATURES,
    check_features,
    judge_features,
    judge_kernel_version,
)
from hyperhive.cli.doctor_nixos import check_found, check_inputs, parse_service_environment
from hyperhive.core.paths import Roots
from hyperhive.system import kernel_probe
from hyperhive.system.process import run

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BUILT_AT = "2026-01-01T00:00:00+00:00"
INSIDE = "Name:\tcat\nNoNewPrivs:\t1\nSeccomp:\t2\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n"


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path / "data", tmp_path / "run")


def base(**fields: Any) -> dict[str, Any]:
    row = {"id": "base-1", "kind": "base", "suite": "bookworm", "size_bytes": 1, "built_at": BUILT_AT, "problem": ""}
    return row | {"used_by": ["manager"], "checked": True} | fields


def test_the_driver_is_the_running_hives_or_the_one_that_it_would_have(roots: Roots) -> None:
    environment = {"HIVE_DRIVER": "nspawn"}
    assert find_driver(Asked(roots, environment, {"driver": "gvisor"}))[0] == "gvisor"
    assert find_driver(Asked(roots, environment, None))[0] == "nspawn"
    assert find_driver(Asked(roots, {}, None))[0] == "bubblewrap"


def test_the_driver_of_the_service_stands_in_its_settings(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    assert read_driver(settings) == ""
    settings.write_text("#HIVE_DRIVER=gvisor\nHIVE_DRIVER=bubblewrap\nHIVE_DRIVER='nspawn'\nHIVE_PORT=1\n")
    assert read_driver(settings) == "nspawn"


async def test_a_driver_that_there_is_not_is_told_with_where_it_was_named(roots: Roots) -> None:
    [check] = await check_drivers(Asked(roots, {"HIVE_DRIVER": "docker\x1b[31m"}, None))
    assert (check.status, "\x1b" in check.detail) == (CheckStatus.MISSING, False)
    assert "by HIVE_DRIVER" in check.detail and check.mend


async def test_one_driver_is_told_in_detail_and_the_others_in_a_line(roots: Roots) -> None:
    checks = {check.name: check for check in await check_drivers(Asked(roots, {"HIVE_DRIVER": "gvisor"}, None))}
    needed = {"root", "runsc", "systemd-nspawn", "mmdebstrap", "apt-get", "unshare", "setpriv", "kernel", "base image"}
    assert needed | {"driver", "bubblewrap", "nspawn"} <= set(checks)
    assert "bwrap" not in checks
    for name in ("bubblewrap", "nspawn", "nixos"):
        assert checks[name].status is CheckStatus.OK and checks[name].detail.startswith("not in use")
    assert not [check for check in checks.values() if check.status is not CheckStatus.OK and not check.mend]


async def test_on_a_machine_without_them_the_programs_of_the_driver_in_use_are_missing(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    done = await run(
        [sys.executable, "-m", "hyperhive.cli.main", "doctor", "--json"],
        timeout_s=60,
        env=os.environ | {"HIVE_DATA": str(tmp_path), "PATH": str(empty), "HIVE_DRIVER": "nspawn"},
    )
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.status == 1
    for name, package in (("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap"), ("apt-get", "apt")):
        assert checks[name]["status"] == "missing"
        assert checks[name]["mend"].endswith(f"apt-get install -y {package}")
    assert (checks["bubblewrap"]["status"], checks["gvisor"]["status"]) == ("ok", "ok")
    assert "lacks bwrap" in checks["bubblewrap"]["detail"] and "apt-get install -y runsc" in checks["gvisor"]["detail"]


def test_what_another_driver_lacks_is_no_trouble() -> None:
    lacking = [ok("git", "2"), missing("root", "needed", "be root"), missing("runsc", "none", "apt-get install runsc")]
    check = judge_unused("gvisor", lacking)
    assert (check.status, check.detail) == (
        CheckStatus.OK,
        "not in use; it lacks root, runsc: apt-get install runsc",
    )
    assert judge_unused("nspawn", lacking[:1]).detail == "not in use; could be, with HIVE_DRIVER=nspawn"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("NoNewPrivs:\t1", "no bar to new privileges"),
        ("Seccomp:\t2", "no filter of system calls"),
        ("CapEff:\t0000000000000000", "capabilities"),
    ],
)
def test_a_sandbox_that_leaves_a_door_open_is_found(line: str, found: str) -> None:
    assert judge_sandbox(INSIDE).status is CheckStatus.OK
    for other in ("", line[:-1] + "9"):
        check = judge_sandbox(INSIDE.replace(line, other))
        assert check.status is CheckStatus.MISSING and found in check.detail and check.mend


@pytest.mark.parametrize("text", ["runsc version release-20221205.0", "runsc version unknown", ""])
def test_a_gvisor_that_is_too_old_or_tells_no_version_is_missing(text: str) -> None:
    assert judge_runsc(Check("runsc", CheckStatus.OK, text)).status is CheckStatus.MISSING
    new = Check("runsc", CheckStatus.OK, "runsc version release-20240729.0")
    assert judge_runsc(new) == new


@pytest.mark.parametrize(
    ("release", "status"), [("5.18.0-x", "missing"), ("4.19", "missing"), ("5.19.0", "ok"), ("6.1", "ok")]
)
def test_a_kernel_before_layers_with_mapped_ids_is_missing_them(release: str, status: str) -> None:
    assert judge_kernel_version(release).status == status
    assert parse_version("none") == (0, 0)


def test_what_the_kernel_refuses_is_told_feature_by_feature(tmp_path: Path) -> None:
    answer = json.dumps({"user namespaces": "", "overlayfs": "No such device", "id-mapped mounts": "Invalid argument"})
    namespaces, overlay, mapped = judge_features(answer.encode(), tmp_path, IMAGE_FEATURES)
    assert namespaces.status is CheckStatus.OK
    assert (overlay.status, overlay.mend) == (CheckStatus.MISSING, "modprobe overlay")
    assert mapped.status is CheckStatus.MISSING and str(tmp_path) in mapped.detail and "ext4" in mapped.mend
    for silent in (b"", b"[]", b"{}"):
        [check] = judge_features(silent, tmp_path, IMAGE_FEATURES)
        assert check.status is CheckStatus.WARN


async def test_the_kernel_is_asked_and_nothing_is_left(tmp_path: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    for folder in ("/proc", str(tmp_path)):
        done = await run([sys.executable, "-I", "-S", kernel_probe.__file__, folder], timeout_s=30)
        assert done.ok, done.error_text
        reasons = json.loads(done.stdout)
        assert set(reasons) == {"user namespaces", "overlayfs", "id-mapped mounts"}
        # Of what is no disk nobody's ids can be mapped.
        assert folder != "/proc" or reasons["id-mapped mounts"]
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == len(mounts.splitlines())


def test_a_base_is_told_with_its_age_and_what_lies_on_it() -> None:
    layer = base(id="layer-1", kind="layer", suite="", size_bytes=1024**2)
    check = judge_images([base(), layer], NOW)
    assert (check.status, check.detail) == (
        CheckStatus.OK,
        "of bookworm, built 1 d ago, as it was built; 1 with packages on it, 1.0 MiB",
    )
    assert "not compared" in judge_images([base(checked=False)], NOW).detail
    # One of another suite, which nobody has.
    assert judge_images([base(used_by=[], checked=False)], NOW).status is CheckStatus.WARN
    assert judge_images([], NOW).mend == "hive start manager"
    damaged = judge_images([base(problem="its manifest was\x1b changed")], NOW)
    assert (damaged.status, damaged.mend) == (CheckStatus.MISSING, "hive images rm base-1")
    assert "\x1b" not in damaged.detail


def test_without_a_hive_the_base_is_looked_for_in_its_folder(tmp_path: Path) -> None:
    assert check_folder(tmp_path / "none", "bookworm", NOW).status is CheckStatus.WARN
    image = tmp_path / "base-1"
    image.mkdir()
    (image / "manifest.json").write_text(json.dumps({"made_from": {"suite": "bookworm"}, "built_at": BUILT_AT}))
    (tmp_path / "base-2").mkdir()
    (tmp_path / "base-2/manifest.json").write_text("[]")
    check = check_folder(tmp_path, "bookworm", NOW)
    assert check.status is CheckStatus.OK and check.detail.startswith("of bookworm, built 1 d ago")
    assert check_folder(tmp_path, "trixie", NOW).status is CheckStatus.WARN
    nowhere = check_folder(tmp_path, "", NOW)
    assert nowhere.status is CheckStatus.MISSING and "HIVE_IMAGE_SUITE" in nowhere.mend
    (image / "manifest.json").write_text(json.dumps({"made_from": {"suite": "bookworm"}, "built_at": "then"}))
    assert "built ? ago" in check_folder(tmp_path, "bookworm", NOW).detail
    assert check_folder(image / "manifest.json", "bookworm", NOW).status is CheckStatus.WARN


def test_the_suite_is_the_one_that_is_named(roots: Roots) -> None:
    assert decide_suite({"HIVE_IMAGE_SUITE": "trixie"}) == "trixie"
    assert check_images(roots, {"HIVE_IMAGE_SUITE": "trixie"}, None).status is CheckStatus.WARN


# -- nixos -----------------------------------------------------------------------------------------------------


async def test_on_another_machine_the_nixos_driver_lacks_a_nixos(roots: Roots) -> None:
    checks = {check.name: check for check in await check_drivers(Asked(roots, {"HIVE_DRIVER": "nixos"}, None))}
    assert {"driver", "root", "NixOS", "nixos-container", "machinectl", "bwrap", "nix", "nix inputs"} <= set(checks)
    assert "base image" not in checks
    for name in ("NixOS", "nix inputs"):
        assert checks[name].status is CheckStatus.MISSING and "services.hyperhive" in checks[name].mend
    assert checks["nix"].status is CheckStatus.OK and "with flakes" in checks["nix"].detail
    # Only root may look.
    assert ("id-mapped mounts" in checks) == (os.geteuid() == 0)


async def test_the_roots_of_containers_are_on_a_disk_whose_files_can_have_other_owners() -> None:
    # A place that is not there yet, on what is no disk.
    _, mapped = await check_features(Path("/proc/none/at/all"), NIXOS_FEATURES)
    assert (mapped.name, mapped.status) == ("id-mapped mounts", CheckStatus.MISSING)
    assert "on the disk of /proc: " in mapped.detail and "ZFS 2.2" in mapped.mend
    answer = json.dumps({"user namespaces": "", "overlayfs": "No such device", "id-mapped mounts": ""})
    # What only images need is not asked for.
    found = judge_features(answer.encode(), Path("/"), NIXOS_FEATURES)
    assert [(check.name, check.status) for check in found] == [
        ("user namespaces", CheckStatus.OK),
        ("id-mapped mounts", CheckStatus.OK),
    ]


async def test_a_machine_that_is_a_nixos_is_told_by_its_marker(tmp_path: Path) -> None:
    named = f"hyperhive={tmp_path} nixpkgs={tmp_path}"
    done = await call_on_nixos(tmp_path, "doctor", "--json", HIVE_DRIVER="nixos", HIVE_NIX_INPUTS=named)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert "this machine is none" not in checks["NixOS"]["detail"]
    assert checks["nix inputs"]["status"] == "ok"
    assert "hive install" not in checks["service"]["detail"]


def test_what_systems_are_built_from_must_be_named_and_there(tmp_path: Path) -> None:
    there = f"hyperhive={tmp_path} nixpkgs={tmp_path} unstable={tmp_path}"
    assert check_inputs(there, is_used=False) == ok("nix inputs", "hyperhive, nixpkgs, unstable")
    for text, told in (
        ("", "HIVE_NIX_INPUTS is not set"),
        (f"nixpkgs={tmp_path}", "does not name hyperhive"),
        ("nonsense", "does not name hyperhive and nixpkgs"),
        (f"{there}/none\x1b[31m", "not there: "),
    ):
        check = check_inputs(text, is_used=False)
        assert check.status is CheckStatus.MISSING and told in check.detail and check.mend
        assert "\x1b" not in check.detail
    # What runs was told it by somebody.
    assert check_inputs("", is_used=True).status is CheckStatus.OK


def test_what_the_service_is_told_of_containers_is_read_from_systemd() -> None:
    shown = 'Environment=HIVE_DRIVER=nixos "HIVE_NIX_INPUTS=hyperhive=/a nixpkgs=/b" HIVE_DATA=/x "ODD=\\"" PATH\n'
    told = {"HIVE_DRIVER": "nixos", "HIVE_NIX_INPUTS": "hyperhive=/a nixpkgs=/b"}
    assert parse_service_environment(shown) == told
    for nothing in ("", "Environment=\n", 'Environment="HIVE_DRIVER=nixos\n'):
        assert parse_service_environment(nothing) == {}


def test_a_program_is_there_or_not() -> None:
    assert check_found("bwrap", "/usr/bin/bwrap") == ok("bwrap", "/usr/bin/bwrap")
    lacking = check_found("nixos-container", None)
    assert lacking.status is CheckStatus.MISSING and "nixos-rebuild switch" in lacking.mend
