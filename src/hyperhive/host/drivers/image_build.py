"""Builds images, each in `<folder>/staging`, and puts it in place by one rename once its manifest is written.

Whoever calls this holds the lock on the folder, which all that the bench runs holds, too. What fails leaves nothing.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hyperhive.host.drivers.image_apt import Apt, list_host_secrets, list_host_sources
from hyperhive.host.drivers.image_bench import ENVIRONMENT, Bench
from hyperhive.host.drivers.image_manifest import (
    ROOT,
    Manifest,
    digest_lines,
    digest_value,
    parse_versions,
    save_manifest,
    scan_tree,
)
from hyperhive.host.drivers.image_tree import clean_base, clean_layer
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.clock import now
from hyperhive.system.files import sync_folder
from hyperhive.system.process import Completed, ProcessError, run

log = structlog.get_logger(__name__)

BASE, LAYER = "base", "layer"
# To be raised when the same packages would give another image.
RECIPE = 1
# What a base has beside what Debian calls essential: docs/decisions/0025-images.md says why.
BASE_PACKAGES = (
    "bash",
    "ca-certificates",
    "curl",
    "git",
    "jq",
    "less",
    "openssh-client",
    "patch",
    "procps",
    "python3",
    "ripgrep",
    "tzdata",
    "unzip",
    "xz-utils",
)
BASE_TIMEOUT_S = 900.0
INSTALL_TIMEOUT_S = 900.0
SYNC_TIMEOUT_S = 120.0
# The user namespace of builds: ids that no agent has, and by systemd's rules nothing else.
BUILD_UID = 1_887_436_800
_IDS = 65536
# Of what systemd-nspawn gives a container, what is not needed to install files for others and to become them.
_DROPPED = (
    "CAP_AUDIT_CONTROL,CAP_AUDIT_WRITE,CAP_DAC_READ_SEARCH,CAP_IPC_OWNER,CAP_LEASE,CAP_LINUX_IMMUTABLE,CAP_MKNOD,"
    "CAP_NET_ADMIN,CAP_NET_BIND_SERVICE,CAP_NET_BROADCAST,CAP_NET_RAW,CAP_SETFCAP,CAP_SETPCAP,CAP_SYS_ADMIN,"
    "CAP_SYS_BOOT,CAP_SYS_NICE,CAP_SYS_PTRACE,CAP_SYS_RESOURCE,CAP_SYS_TTY_CONFIG"
)
# Nobody reads manuals and translations in a container; and what is half written after a power cut has no name yet.
_DPKG_OPTIONS = (
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
# Where the packages to install are seen; every Debian has that folder, and it is empty.
_PACKAGES_TARGET = "/mnt"
_DPKG = "var/lib/dpkg"


@dataclass(frozen=True, slots=True)
class Plan:
    """An image to be: its id follows from what it is made from."""

    kind: str
    made_from: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.kind}-{digest_value(self.made_from)[:24]}"


def plan_base(suite: str, architecture: str) -> Plan:
    made_from = {
        "recipe": RECIPE,
        "suite": suite,
        "architecture": architecture,
        "packages": list(BASE_PACKAGES),
        "options": list(_DPKG_OPTIONS),
    }
    return Plan(BASE, made_from)


def plan_layer(base: Manifest, packages: Sequence[str]) -> Plan:
    """By all that came of the base, not just its id: a layer fits the very base that it was built on."""
    return Plan(LAYER, {"recipe": RECIPE, "base": base.digest, "packages": sorted(packages)})


class Builder:
    """Builds images of a suite in `folder`. `own_sources`: the host's apt has it; else mmdebstrap knows its place."""

    def __init__(self, folder: Path, suite: str, *, own_sources: bool) -> None:
        self._folder = folder
        self._staging = folder / "staging"
        self._own_sources = own_sources
        self._suite = suite
        self._apt = Apt(folder / "apt" / suite)

    async def build_base(self, plan: Plan, bench: Bench) -> Manifest:
        """Raises DriverError; nothing is then left in place."""
        started_s = time.monotonic()
        log.info("image.building", image=plan.id, suite=self._suite)
        try:
            await self._prepare()
            root = self._staging / "image" / ROOT
            argv = self._render_mmdebstrap(root)
            done = await bench.run(["run"], argv, timeout_s=BASE_TIMEOUT_S)
            if not done.ok:
                hint = f"try `mmdebstrap --variant=apt {self._suite} /tmp/try`"
                raise DriverError(f"the base image cannot be built: {done.error_text}", hint)
            return await self._finish(plan, started_s)
        except OSError as error:
            raise DriverError(f"the base image cannot be built: {error}", "is the disk full?") from error

    async def build_layer(self, plan: Plan, base: Manifest, bench: Bench) -> Manifest:
        """Raises DriverError, which names every package that cannot be had; nothing is then left in place."""
        started_s = time.monotonic()
        packages = list(plan.made_from["packages"])
        log.info("image.building", image=plan.id, packages=packages)
        try:
            await self._prepare()
            lower = self._folder / base.id / ROOT
            room = self._staging / "room"
            sources = None if self._own_sources else lower / "etc/apt/sources.list"
            found = await self._apt.fetch(packages, lower / _DPKG, sources, room / "packages", bench)
            log.info("image.fetched", image=plan.id, files=len(found), seconds=_seconds(started_s))
            await install(lower, found, room, self._staging / "image" / ROOT, bench)
            return await self._finish(plan, started_s)
        except OSError as error:
            listed = ", ".join(packages)
            raise DriverError(f"the image with {listed} cannot be built: {error}", "is the disk full?") from error

    def empty_staging(self) -> None:
        """Removes what an interrupted build left. Raises OSError."""
        if self._staging.exists():
            shutil.rmtree(self._staging)

    async def _prepare(self) -> None:
        await asyncio.to_thread(self.empty_staging)
        for name in ("image", "room"):
            (self._staging / name).mkdir(mode=0o700, parents=True)
        await self._apt.prepare()

    def _render_mmdebstrap(self, root: Path) -> list[str]:
        hidden = list_host_secrets() if self._own_sources else []
        # The hooks that mmdebstrap brings are words of a shell; these paths are fixed.
        hooks = [f"--setup-hook=copy-in {' '.join(map(str, hidden))} /etc/apt"] if hidden else []
        return [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=apt",
            "--format=directory",
            f"--include={','.join(BASE_PACKAGES)}",
            f"--aptopt={self._apt.fetching}",
            *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
            # They serve the first layer.
            "--skip=cleanup/apt/lists",
            *hooks,
            self._suite,
            str(root),
            *(map(str, list_host_sources()) if self._own_sources else ()),
        ]

    async def _finish(self, plan: Plan, started_s: float) -> Manifest:
        manifest = await asyncio.to_thread(self._seal, plan)
        # Before it has its name, so that what has one is whole after a power cut.
        try:
            await run(
                ["sync", "--file-system", str(self._staging)],
                timeout_s=SYNC_TIMEOUT_S,
                env=ENVIRONMENT,
                cwd=Path("/"),
            )
        except ProcessError as error:
            raise DriverError(f"an image cannot be written: {error}", "is the disk slow?") from error
        (self._staging / "image").rename(self._folder / plan.id)
        sync_folder(self._folder)
        await asyncio.to_thread(self.empty_staging)
        log.info("image.built", image=plan.id, size_bytes=manifest.size_bytes, seconds=_seconds(started_s))
        return manifest

    def _seal(self, plan: Plan) -> Manifest:
        image = self._staging / "image"
        root = image / ROOT
        if plan.kind == BASE:
            self._apt.adopt_lists(root / "var/lib/apt/lists")
            clean_base(root, keep_sources=not self._own_sources)
        else:
            clean_layer(root, first_uid=BUILD_UID)
        lines, size_bytes = scan_tree(root)
        status = root / _DPKG / "status"
        # A layer of what the base satisfies already has none.
        versions = parse_versions(status.read_text("utf-8", "replace")) if status.is_file() else {}
        manifest = Manifest(
            plan.id, plan.kind, plan.made_from, versions, digest_lines(lines), size_bytes, now().isoformat()
        )
        save_manifest(image, manifest, lines)
        return manifest


async def install(lower: Path, packages: Sequence[Path], room: Path, upper: Path, bench: Bench) -> None:
    """Installs `packages`, files of one folder, on top of `lower`: what their scripts write is the new folder `upper`.

    Its owners are those of the builds' user namespace. `room` is a folder on the same disk, for mounts. Raises
    DriverError and OSError.
    """
    _make_places(room, upper)
    if not packages:
        return
    places = [*map(str, (lower, upper, room / "work", room / "low", room / "root")), str(BUILD_UID)]
    argv = render_install(room / "root", packages[0].parent, [path.name for path in packages])
    done = await bench.run(["install", *places], argv, timeout_s=INSTALL_TIMEOUT_S)
    if not done.ok:
        hint = "a package that needs the network, services or devices while it is installed cannot be had"
        raise DriverError(f"packages cannot be installed: {_find_complaint(done)}", hint)


def _make_places(room: Path, upper: Path) -> None:
    for folder in (room / "low", room / "work", room / "root", upper):
        folder.mkdir()
    upper.chmod(0o755)
    os.chown(upper, BUILD_UID, BUILD_UID)


def render_install(root: Path, packages: Path, names: Sequence[str]) -> list[str]:
    """The command that installs the packages `names` of a folder in the tree `root`, as root of a user namespace.

    Without any network, with few capabilities, and nothing of the host in sight but the packages.
    """
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={root}",
        # Neither needs systemd on the host.
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        "--as-pid2",
        f"--private-users={BUILD_UID}:{_IDS}",
        "--private-users-ownership=off",
        "--private-network",
        "--no-new-privileges=yes",
        f"--drop-capability={_DROPPED}",
        "--system-call-filter=~@keyring",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--machine=image",
        f"--bind-ro={packages}:{_PACKAGES_TARGET}",
        *(f"--setenv={name}={value}" for name, value in ENVIRONMENT.items()),
        "/usr/bin/apt-get",
        "--quiet=2",
        "--yes",
        "--no-install-recommends",
        "--option=APT::Sandbox::User=root",
        "--option=Dir::Cache::pkgcache=",
        "--option=Dir::Cache::srcpkgcache=",
        "--option=Dir::Etc::SourceList=/dev/null",
        "--option=Dir::Etc::SourceParts=/dev/null",
        "--option=Dpkg::Options::=--force-confold",
        "install",
        *(f"{_PACKAGES_TARGET}/{name}" for name in names),
    ]


def _find_complaint(done: Completed) -> str:
    """What dpkg said of the package that failed; the end of what was said if it said nothing."""
    lines = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").splitlines()
    found = [line.strip() for line in lines if line.startswith("dpkg: error")]
    return " / ".join(found)[:500] or done.error_text


def _seconds(since_s: float) -> float:
    return round(time.monotonic() - since_s, 1)
