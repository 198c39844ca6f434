"""The host's own apt, asked for what an image needs: by its sources, keys, proxies and pins, and no more of its state.

What talks to the network is apt on the host, as the user that it fetches as; the scripts of packages run later, in a
room without any network. apt's hooks of the host stay out: they are about the host's packages.
"""

import asyncio
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from hyperhive.host.drivers.image_bench import ENVIRONMENT, Bench
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.files import write_atomically
from hyperhive.system.process import Completed, ProcessError, run

LISTS_TIMEOUT_S = 300.0
FETCH_TIMEOUT_S = 900.0
# Lists that are older are fetched again before they say that a package does not exist.
_FRESH_S = 600.0
_OLD_S = 24 * 3600.0

_NO_CANDIDATE = re.compile(r"E: (?:Unable to locate package (\S+)|Package '(\S+)' has no installation candidate)")
# What `apt-get --simulate` would install: `Inst NAME[:ARCHITECTURE] [OLD VERSION] (NEW VERSION …`.
_PLANNED = re.compile(r"^Inst ([^\s:]+)", re.MULTILINE)
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]+\.(?:list|sources)")
_HOST_APT = Path("/etc/apt")
# Of the host's apt configuration: how to fetch (proxies, certificates, what to accept). Never what to run.
_FETCHING = "Acquire"
# What it fetches beside packages, such as translations and icons, is of no use here.
_FETCHED = ("Acquire::Languages", "Acquire::IndexTargets")
# Packages of a `file:` source apt uses where they are; like this it copies them, and compares the copy with its lists.
_COPYING = 'Dir::Bin::Methods::file "copy";\n'
_INSTALL = ("install", "--yes", "--no-install-recommends", "--")
_OWN_CONFIG = """
// Neither the other configuration of the host nor its hooks.
Dir::Etc::Parts "/dev/null";
Dir::Etc::Main "/dev/null";
Debug::NoLocking "true";
APT::Install-Recommends "false";
// Half of what apt writes down to be faster the next time is enough.
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
"""


def list_host_sources(folder: Path = _HOST_APT) -> list[Path]:
    """The files that the host's apt reads its sources from, as it names them."""
    parts = folder / "sources.list.d"
    found = [path for path in sorted(parts.iterdir()) if _SOURCE_NAME.fullmatch(path.name)] if parts.is_dir() else []
    return [path for path in [folder / "sources.list", *found] if path.is_file() and path.stat().st_size]


def list_host_secrets(folder: Path = _HOST_APT) -> list[Path]:
    """What apt needs besides, for as long as it fetches a base: logins of sources, and pins."""
    names = ("auth.conf", "auth.conf.d", "preferences", "preferences.d")
    return [folder / name for name in names if (folder / name).exists()]


class Apt:
    """The host's apt with a folder of its own for lists and packages.

    `dpkg` is the folder of a base's dpkg; `sources` another list of sources than the host's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # How the host fetches, as a file that apt can read, too, when it has another configuration.
        self.fetching = folder / "fetching.conf"
        self._config = folder / "apt.conf"
        self._lists = folder / "state" / "lists"
        self._stamp = folder / "fetched"

    async def prepare(self) -> None:
        """Makes the folder, with a configuration that fetches as the host's does. Raises DriverError or OSError."""
        for path in (self._lists / "partial", self._folder / "cache/archives/partial"):
            path.mkdir(parents=True, exist_ok=True)
        command = ["apt-config", "dump", "--format", '%F "%v";%n', _FETCHING]
        try:
            done = await run(command, timeout_s=20, env=ENVIRONMENT, cwd=Path("/"))
        except ProcessError as error:
            raise DriverError(str(error), "apt-get install apt") from error
        if not done.ok:
            raise DriverError(f"the configuration of apt cannot be read: {done.error_text}", "try `apt-config dump`")
        fetching = select_fetching(done.stdout.decode("utf-8", "replace")) + _COPYING
        write_atomically(self.fetching, fetching.encode(), 0o600)
        write_atomically(self._config, (fetching + _OWN_CONFIG).encode(), 0o600)

    def adopt_lists(self, lists: Path) -> None:
        """Takes over the lists that were fetched for a base: nothing fetches them a second time. Raises OSError."""
        shutil.rmtree(self._lists, ignore_errors=True)
        shutil.move(lists, self._lists)
        lists.mkdir()
        (self._lists / "partial").mkdir(exist_ok=True)
        self._stamp.touch()

    async def fetch(
        self, packages: Sequence[str], dpkg: Path, sources: Path | None, target: Path, bench: Bench
    ) -> list[Path]:
        """Fetches `packages` and what they need beside those that `dpkg` has installed, to `target`.

        Returns the files. Raises DriverError that names every one of `packages` that cannot be had, or every package
        that they need of which apt left no file, and OSError.
        """
        if self._age_s() > _OLD_S:
            await self._update(dpkg, sources, bench)
        missing = await self._list_missing(packages, dpkg, sources, bench)
        done = None if missing else await self._download(packages, dpkg, sources, bench)
        if (missing or (done and not done.ok)) and self._age_s() > _FRESH_S:
            # The lists may be older than what is in the archive now.
            await self._update(dpkg, sources, bench)
            missing = await self._list_missing(packages, dpkg, sources, bench)
            done = None if missing else await self._download(packages, dpkg, sources, bench)
        if done is None or not done.ok:
            raise explain_failure(packages, missing, done)
        planned = await self._list_planned(packages, dpkg, sources, bench)
        found = await asyncio.to_thread(_move_packages, self._folder / "cache/archives", target)
        check_all_fetched(planned, [path.name for path in found])
        return found

    async def _update(self, dpkg: Path, sources: Path | None, bench: Bench) -> None:
        done = await self._run(["apt-get", "update"], dpkg, sources, bench, LISTS_TIMEOUT_S)
        if not done.ok:
            raise DriverError(f"apt cannot fetch its lists: {done.error_text}", "try `apt-get update` on the host")
        self._stamp.touch()

    async def _list_missing(self, packages: Sequence[str], dpkg: Path, sources: Path | None, bench: Bench) -> list[str]:
        # By exact names: apt-get takes what it does not know for a pattern, or for an order to remove something.
        done = await self._run(["apt-cache", "pkgnames"], dpkg, sources, bench, 60)
        if not done.ok:
            raise DriverError(f"apt does not know its packages: {done.error_text}", "try `apt-get update` on the host")
        known = set(done.stdout.decode("utf-8", "replace").split())
        return [name for name in packages if name not in known]

    async def _download(self, packages: Sequence[str], dpkg: Path, sources: Path | None, bench: Bench) -> Completed:
        archives = self._folder / "cache/archives"
        await asyncio.to_thread(_remove_packages, archives)
        command = ["apt-get", "--download-only", *_INSTALL, *packages]
        return await self._run(command, dpkg, sources, bench, FETCH_TIMEOUT_S)

    async def _list_planned(self, packages: Sequence[str], dpkg: Path, sources: Path | None, bench: Bench) -> list[str]:
        done = await self._run(["apt-get", "--simulate", *_INSTALL, *packages], dpkg, sources, bench, 60)
        if not done.ok:
            raise explain_failure(packages, [], done)
        return parse_planned(done.stdout.decode("utf-8", "replace"))

    async def _run(
        self, command: Sequence[str], dpkg: Path, sources: Path | None, bench: Bench, timeout_s: float
    ) -> Completed:
        program, *rest = command
        places = ["fetch", str(self._folder / "state"), str(self._folder / "cache"), str(dpkg)]
        argv = ["env", f"APT_CONFIG={self._config}", program, "--quiet=2", *_render_sources(sources), *rest]
        return await bench.run(places, argv, timeout_s=timeout_s)

    def _age_s(self) -> float:
        try:
            return max(0.0, time.time() - self._stamp.stat().st_mtime)
        except OSError:
            return float("inf")


def select_fetching(dump: str) -> str:
    """What `apt-config dump` says of how the host fetches, as apt reads it."""
    return "".join(
        f"{line}\n"
        for line in dump.splitlines()
        if line.startswith((f"{_FETCHING}::", f"{_FETCHING} ")) and not line.startswith(_FETCHED)
    )


def parse_planned(simulation: str) -> list[str]:
    """The names of the packages that apt would install, new ones and upgrades, as `apt-get --simulate` tells them."""
    return _PLANNED.findall(simulation)


def check_all_fetched(planned: Sequence[str], files: Sequence[str]) -> None:
    """Raises DriverError that names each of the packages `planned` of which none of `files` is: NAME_VERSION_….deb."""
    fetched = {name.partition("_")[0] for name in files}
    absent = sorted(set(planned) - fetched)
    if absent:
        hint = "apt uses packages of some sources, such as cdrom:, where they are: take one by https: or file:"
        raise DriverError(f"apt left no file of: {', '.join(absent)}", hint)


def explain_failure(packages: Sequence[str], missing: Sequence[str], done: Completed | None) -> DriverError:
    """Why packages were not fetched: which of them cannot be had, or what apt said."""
    text = "" if done is None else done.stderr.decode("utf-8", "replace")
    named = {first or second for first, second in _NO_CANDIDATE.findall(text)}
    absent = [name for name in packages if name in missing or name in named]
    if absent:
        hint = "take names that `apt-cache search` finds on the host, or add a source to the host's apt"
        return DriverError(f"not in the apt sources of this machine: {', '.join(absent)}", hint)
    # Below a complaint may be more of it, such as all the hashes of a file that is not the one of the list.
    complaints = [line for line in text.splitlines() if line.startswith("E: ")]
    said = " / ".join(complaints)[:500] or ("" if done is None else done.error_text)
    listed = ", ".join(packages)
    return DriverError(f"apt cannot fetch {listed}: {said}", f"try `apt-get install --simulate {' '.join(packages)}`")


def _render_sources(sources: Path | None) -> list[str]:
    if sources is None:
        return []
    return [f"--option=Dir::Etc::SourceList={sources}", "--option=Dir::Etc::SourceParts=/dev/null"]


def _remove_packages(archives: Path) -> None:
    for path in archives.glob("*.deb"):
        path.unlink()


def _move_packages(archives: Path, target: Path) -> list[Path]:
    target.mkdir(mode=0o755)
    for path in archives.glob("*.deb"):
        path.rename(target / path.name)
    return sorted(target.iterdir())
