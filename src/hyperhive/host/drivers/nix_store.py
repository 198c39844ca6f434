"""What packages take in this machine's Nix store, as far as that can be told before anything is built or fetched."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from hyperhive.host.drivers.nix_packages import STORE, Fetch, check_store_paths, parse_fetch, parse_paths, parse_sizes
from hyperhive.host.drivers.protocol import DriverError, SizeDifference
from hyperhive.system.process import OUTPUT_LIMIT_BYTES, Completed

# Caches are asked over the network, and there may be many paths to ask for.
COMPARE_LIMIT_S: Final = 55.0

# Runs an argv to its end, as `Programs.run`; raises DriverError.
Ask = Callable[[Sequence[str]], Coroutine[Any, Any, Completed]]
ParsedT = TypeVar("ParsedT")


async def compare_packages(
    ask: Ask,
    before: Sequence[str],
    after: Sequence[str],
    *,
    store: Path = Path(STORE),
    timeout_s: float = COMPARE_LIMIT_S,
) -> SizeDifference:
    """See `BuildsSystems`. `store` is where the folder of the store is, which `ask` has nix use.

    Raises InvalidInputError for what is no store path, and DriverError if that takes longer than `timeout_s`.
    """
    asked = _Store(ask)
    old, new = check_store_paths(before), check_store_paths(after)
    if not await asyncio.to_thread(store.is_dir):
        raise DriverError(f"there is no store on this machine: {STORE}", "sizes are known where systems are built")
    try:
        async with asyncio.timeout(timeout_s):
            return await asked.compare(old, new)
    except TimeoutError as error:
        what = f"nix did not tell within {timeout_s:g} s what the packages take"
        raise DriverError(what, "are the caches in `substituters` to be reached?") from error


@dataclass(frozen=True, slots=True)
class _Store:
    ask: Ask

    async def compare(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        missing = await self._find_missing([*dict.fromkeys((*before, *after))])
        held = await self._find_sizes([path for path in before if path not in missing])
        kept = await self._find_sizes([path for path in after if path not in missing])
        # What of the packages before is not there either, as after an update of the flake, is not their difference.
        lacking = [path for path in before if path in missing]
        old = await self._plan_fetch(lacking)
        new = await self._plan_fetch(sorted(missing)) if missing.difference(lacking) else old
        homemade = new.unknown - old.unknown
        return SizeDifference(
            added=max(0, new.unpacked - old.unpacked),
            removed=sum(size for path, size in held.items() if path not in kept),
            download=max(0, new.download - old.download),
            fetched=len(new.paths - old.paths),
            unknown=tuple(path for path in after if path in homemade),
        )

    async def _find_missing(self, paths: Sequence[str]) -> set[str]:
        """Which of the paths are not in the store, or not whole."""
        if not paths:
            return set()
        done = await self._run("nix-store", "--check-validity", "--print-invalid", "--", *paths)
        return _parse(parse_paths, done.stdout)

    async def _find_sizes(self, paths: Sequence[str]) -> dict[str, int]:
        """The bytes of paths that are in the store, and of all that they need."""
        if not paths:
            return {}
        # Without an argument it would be the flake of the working folder.
        done = await self._run("nix", "path-info", "--recursive", "--size", "--", *paths)
        return _parse(parse_sizes, done.stdout)

    async def _plan_fetch(self, paths: Collection[str]) -> Fetch:
        if not paths:
            return Fetch()
        done = await self._run("nix-store", "--realise", "--dry-run", "--", *paths)
        fetch = _parse(parse_fetch, done.stderr)
        if fetch.unknown and fetch.away:
            # They would be taken for such as nobody but this machine can build.
            raise DriverError(f"what the packages take is not known: {fetch.away}", "is that cache there?")
        return fetch

    async def _run(self, *argv: str) -> Completed:
        done = await self.ask(argv)
        if not done.ok:
            raise DriverError(f"what the packages take is not known: {done.error_text}", "is the nix daemon well?")
        if max(len(done.stdout), len(done.stderr)) >= OUTPUT_LIMIT_BYTES:
            raise DriverError("what the packages take is not known: nix says far too much", "")
        return done


def _parse(parse: Callable[[str], ParsedT], said: bytes) -> ParsedT:
    try:
        return parse(said.decode("utf-8", "replace"))
    except ValueError as error:
        raise DriverError(
            f"what the packages take is not known: {error}", "is this nix newer than the hive?"
        ) from error
