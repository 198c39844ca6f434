"""What an approval changes of the system of an agent: packages that come, go or become others, and what that takes.

It takes seconds to minutes to find out, so it is no part of a review: it is worked out when somebody asks for it. Both
sides are evaluated with the present flake. What depends on the machine's store is true for a while only.
"""

import asyncio
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from hyperhive.core.errors import InvalidInputError, NotFoundError, render_error
from hyperhive.core.names import container_name
from hyperhive.core.text import cut_chars
from hyperhive.host.configs.configs import Configs
from hyperhive.host.configs.evaluations import make_key
from hyperhive.host.drivers.protocol import BuildsSystems, Driver, DriverError, Package
from hyperhive.host.remembered import Remembered
from hyperhive.host.review import Reviews
from hyperhive.wire.agent_nix import NIX_FILE
from hyperhive.wire.operator.configs import PackageChange, SystemChange

# Each may take the memory and the time of an evaluation.
AT_ONCE = 2
# Changes that are held in memory, and for how long: then the store may hold something else.
KEPT_LIMIT = 30
KEPT_S = 600.0
# A config that is wrong stays wrong, but for one that needed longer than it may on a machine that was busy; and a store
# that does not answer may be well again.
FAILURE_KEPT_S = 60.0
# More rows than that are read by nobody.
LISTED_LIMIT = 500
NAME_LIMIT_CHARS = 100
VERSIONS_LIMIT_CHARS = 200

# What a new agent is compared with: the packages that every NixOS has say nothing of it.
_EMPTY = {NIX_FILE: b"{ }\n"}
_ANOTHER_BUILD = "(another build)"
_NO_VERSION = "(no version)"

Key = tuple[str, str, str]


class SystemChanges:
    def __init__(self, reviews: Reviews, configs: Configs, driver: Driver, *, kept_s: float = KEPT_S) -> None:
        self._reviews = reviews
        self._configs = configs
        self._driver = driver
        self._kept_s = kept_s
        self._known: Remembered[Key, SystemChange] = Remembered(KEPT_LIMIT)
        # One for each key that somebody asks for just now.
        self._asked: weakref.WeakValueDictionary[Key, asyncio.Lock] = weakref.WeakValueDictionary()
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def find(self, approval_id: int) -> SystemChange:
        """What is known, or is worked out now, one at a time for the same change.

        Raises NotFoundError for no approval, one without a commit, and where agents have no systems of their own;
        InvalidInputError for what cannot be evaluated, DriverError for what the machine lacks for that.
        """
        if not isinstance(self._driver, BuildsSystems):
            raise NotFoundError(
                "agents have no systems of their own here", "only where they are built with Nix is there one to compare"
            )
        approval, base = await self._reviews.find_compared(approval_id)
        if approval.commit is None:
            raise NotFoundError(
                f"approval {approval_id} has no commit", "a new agent with the default config has nothing to compare"
            )
        repository = self._configs.repository(approval.agent)
        before = _EMPTY if base is None else await repository.read_files(base)
        after = await repository.read_files(approval.commit)
        name = container_name(approval.agent)
        key = (make_key(name, before), make_key(name, after), self._driver.revision)
        asked = self._asked.setdefault(key, asyncio.Lock())
        async with asked:
            # Whoever asked before may have found out.
            change = self._known.find(key)
            if change is None:
                async with self._at_once:
                    change = await self._work_out(key, self._driver, name, before, after)
        return change.model_copy(update={"base": base or ""})

    async def _work_out(
        self, key: Key, driver: BuildsSystems, name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]
    ) -> SystemChange:
        try:
            new = await _list_packages(driver, name, after)
            old = await _list_base(driver, name, before)
        except InvalidInputError as error:
            self._known.put(key, error, FAILURE_KEPT_S)
            raise
        change = await _measure(driver, old, new)
        kept_s = min(self._kept_s, FAILURE_KEPT_S) if change.problem else self._kept_s
        self._known.put(key, change, kept_s)
        return change


async def _list_packages(driver: BuildsSystems, name: str, files: Mapping[str, bytes]) -> list[Package]:
    if NIX_FILE not in files:
        raise InvalidInputError(f"there is no {NIX_FILE} in it", "its system cannot be told without that")
    return await driver.list_packages(name, files)


async def _list_base(driver: BuildsSystems, name: str, files: Mapping[str, bytes]) -> list[Package]:
    """As `_list_packages`, of what is compared with: an error names it."""
    try:
        return await _list_packages(driver, name, files)
    except InvalidInputError as error:
        raise InvalidInputError(f"what it is compared with: {error.message}", error.hint) from error


async def _measure(driver: BuildsSystems, old: Sequence[Package], new: Sequence[Package]) -> SystemChange:
    """What differs, and what that takes, or why that is not known."""
    changes = plan_changes(old, new)
    change = SystemChange(
        base="",
        packages=changes[:LISTED_LIMIT],
        left_out=max(0, len(changes) - LISTED_LIMIT),
        added_bytes=0,
        removed_bytes=0,
        download_bytes=0,
        fetched=0,
        built=[],
        problem="",
    )
    paths_old, paths_new = ([package.path for package in packages] for packages in (old, new))
    if set(paths_old) == set(paths_new):
        return change
    try:
        sizes = await driver.compare_packages(paths_old, paths_new)
    except (DriverError, InvalidInputError) as error:
        return change.model_copy(update={"problem": render_error(error)})
    names = {package.path: package.name for package in (*old, *new)}
    built = sorted({cut_chars(names.get(path) or path, NAME_LIMIT_CHARS) for path in sizes.unknown})
    return change.model_copy(
        update={
            "added_bytes": sizes.added,
            "removed_bytes": sizes.removed,
            "download_bytes": sizes.download,
            "fetched": sizes.fetched,
            "built": built,
        }
    )


def plan_changes(before: Sequence[Package], after: Sequence[Package]) -> list[PackageChange]:
    """One row for each name under which something else is there, by name.

    The same version with another place in the store is another build, with other sources, patches or dependencies:
    that differs, too. Names and versions are cut where they are absurd.
    """
    old, new = _group(before), _group(after)
    return [
        _plan_change(name, old.get(name, {}), new.get(name, {}))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _group(packages: Iterable[Package]) -> dict[str, dict[str, set[str]]]:
    """The places in the store by version by name."""
    grouped: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for package in packages:
        grouped[package.name][package.version].add(package.path)
    return grouped


def _plan_change(name: str, old: Mapping[str, set[str]], new: Mapping[str, set[str]]) -> PackageChange:
    change: Literal["added", "removed", "changed"] = "changed" if old and new else "added" if new else "removed"
    shown = [version if version or change != "changed" else _NO_VERSION for version in sorted(old)]
    shown_new: list[str] = []
    for version in sorted(new):
        text = version if version or change != "changed" else _NO_VERSION
        rebuilt = version in old and old[version] != new[version]
        shown_new.append(f"{text} {_ANOTHER_BUILD}" if rebuilt else text)
    return PackageChange(
        change=change, name=cut_chars(name, NAME_LIMIT_CHARS), before=_join(shown), after=_join(shown_new)
    )


def _join(versions: Sequence[str]) -> str:
    return cut_chars(", ".join(cut_chars(version, NAME_LIMIT_CHARS) for version in versions), VERSIONS_LIMIT_CHARS)
