"""What a config says, read in the one language that the driver has: `agent.toml`, or `agent.nix` of systems of Nix.

An agent.nix is a program of the manager's: its evaluation takes seconds, and as long as a minute if it is meant to.
The same is evaluated once however many ask for it, and what is only proposed waits in a line of its own, which is
short. What it comes to depends on the flake that it is evaluated with, too, and the operator approves what they see:
what the first evaluation gave is kept and counts from then on (see `evaluations`).
"""

import asyncio
import contextlib
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from hyperhive.core.errors import InvalidInputError, TooLargeError
from hyperhive.core.names import container_name
from hyperhive.host.configs.evaluations import Evaluations, make_key
from hyperhive.host.drivers.protocol import BuildsSystems, Driver
from hyperhive.host.remembered import Remembered
from hyperhive.wire.agent_config import CONFIG_FILE, AgentConfig, parse_agent_config, render_schema
from hyperhive.wire.agent_nix import NIX_FILE, list_changed_options, parse_agent_options, render_options_schema

# Configs that are held in memory: those of all agents, and what is proposed and reviewed beside them.
CACHED_LIMIT = 300
# Proposals that are evaluated or wait for that, of all agents: the last of them waits some minutes at worst.
PROPOSED_LIMIT = 3
# Each may take the memory and the time that the driver allows one.
AT_ONCE = 2
# A config that is wrong stays wrong; but for one that needed longer than it may on a machine that was busy.
FAILURE_KEPT_S = 60.0


class Reader(Protocol):
    """Reads configs. `file` is the one that it reads."""

    file: str

    def prepare(self) -> None:
        """To be called once before all else. Raises OSError."""
        ...

    def render_schema(self) -> dict[str, Any]:
        """The JSON Schema of what `file` may say."""
        ...

    async def read(self, agent: str, files: Mapping[str, bytes]) -> AgentConfig:
        """What the files of a config of `agent` say.

        Raises InvalidInputError that tells why they cannot be used; DriverError for what the machine lacks.
        """
        ...

    async def check(self, agent: str, files: Mapping[str, bytes]) -> AgentConfig:
        """As `read`, of files that are only proposed, of which nothing is kept.

        Raises TooLargeError, too, if too many of them wait.
        """
        ...


class TomlReader:
    def __init__(self) -> None:
        self.file = CONFIG_FILE

    def prepare(self) -> None:
        pass

    def render_schema(self) -> dict[str, Any]:
        return render_schema()

    async def read(self, agent: str, files: Mapping[str, bytes]) -> AgentConfig:
        return parse_agent_config(_get_file(files, CONFIG_FILE, NIX_FILE))

    async def check(self, agent: str, files: Mapping[str, bytes]) -> AgentConfig:
        return await self.read(agent, files)


class NixReader:
    def __init__(self, driver: BuildsSystems, folder: Path) -> None:
        """`folder` keeps the evaluations."""
        self.file = NIX_FILE
        self._driver = driver
        self._kept = Evaluations(folder)
        # By its key, what a config was evaluated to, and what it is.
        self._known: Remembered[str, tuple[bytes, AgentConfig]] = Remembered(CACHED_LIMIT)
        # One for each key that somebody asks for just now.
        self._asked: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._proposed = asyncio.Lock()
        self._proposals = 0

    def prepare(self) -> None:
        self._kept.prepare()

    def render_schema(self) -> dict[str, Any]:
        return render_options_schema()

    async def read(self, agent: str, files: Mapping[str, bytes]) -> AgentConfig:
        key = _make_key(agent, files)
        content, config = self._known.find(key) or await self._find(key, agent, files, self._at_once)
        await asyncio.to_thread(self._kept.save, agent, key, content)
        return config

    async def check(self, agent: str, files: Mapping[str, bytes]) -> AgentConfig:
        key = _make_key(agent, files)
        known = self._known.find(key)
        if known is not None:
            return known[1]
        if self._proposals >= PROPOSED_LIMIT:
            raise TooLargeError(
                f"{self._proposals} proposals are being evaluated already", "wait for their answers, then propose it"
            )
        self._proposals += 1
        try:
            # Before the lock of the key: who has to know what is deployed never waits for this line.
            async with self._proposed:
                return (await self._find(key, agent, files, contextlib.nullcontext()))[1]
        finally:
            self._proposals -= 1

    async def _find(
        self, key: str, agent: str, files: Mapping[str, bytes], room: AbstractAsyncContextManager[None]
    ) -> tuple[bytes, AgentConfig]:
        """What was kept, or what an evaluation says, for which there has to be `room`."""
        asked = self._asked.setdefault(key, asyncio.Lock())
        async with asked:
            # Whoever asked before may have found out.
            known = self._known.find(key)
            if known is None:
                kept = await asyncio.to_thread(self._kept.find, agent, key)
                known = _parse_first(kept)
                if known is None:
                    async with room:
                        known = await self._evaluate(key, agent, files, kept)
                self._known.put(key, known)
            return known

    async def _evaluate(
        self, key: str, agent: str, files: Mapping[str, bytes], kept: Sequence[bytes]
    ) -> tuple[bytes, AgentConfig]:
        """`kept` is what it came to for versions of the hive that had other options."""
        try:
            content = await self._driver.evaluate(container_name(agent), files)
            config = parse_agent_options(content)
            _check_unchanged(kept, content)
        except InvalidInputError as error:
            self._known.put(key, error, FAILURE_KEPT_S)
            raise
        return content, config


def make_reader(driver: Driver, folder: Path) -> Reader:
    """The reader of the driver's language. `folder` keeps evaluations, if there are any."""
    return NixReader(driver, folder) if isinstance(driver, BuildsSystems) else TomlReader()


def _get_file(files: Mapping[str, bytes], wanted: str, other: str) -> bytes:
    """The file that is read. Raises InvalidInputError without it, and if there is what would be read elsewhere."""
    if wanted in files and other not in files:
        return files[wanted]
    language = "are built with Nix" if wanted == NIX_FILE else "are not built with Nix"
    if wanted in files:
        raise InvalidInputError(
            f"there is {other} beside {wanted}",
            f"this hive's containers {language}: only {wanted} would count, so remove {other}",
        )
    if other in files:
        raise InvalidInputError(
            f"there is {other} and no {wanted}",
            f"this hive's containers {language}: write {wanted} in place of {other}",
        )
    empty = "{ }" if wanted == NIX_FILE else "an empty one"
    raise InvalidInputError(f"there is no {wanted} in it", f"{empty} means: all defaults")


def _make_key(agent: str, files: Mapping[str, bytes]) -> str:
    _get_file(files, NIX_FILE, CONFIG_FILE)
    return make_key(container_name(agent), files)


def _parse_first(contents: Sequence[bytes]) -> tuple[bytes, AgentConfig] | None:
    """The first that this version of the hive can read."""
    for content in contents:
        with contextlib.suppress(InvalidInputError):
            return content, parse_agent_options(content)
    return None


def _check_unchanged(kept: Sequence[bytes], content: bytes) -> None:
    """Raises InvalidInputError if options that were there before have become something else."""
    changed = sorted({option for before in kept for option in list_changed_options(before, content)})
    if changed:
        raise InvalidInputError(
            f"{NIX_FILE}: with the present flake it comes to something else than when it was first read: "
            f"{', '.join(changed)}",
            "propose it again, with any change in its files: what it comes to now is for the operator to approve",
        )
