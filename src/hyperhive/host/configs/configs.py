"""The configs that agents run with: loaded from their applied repos, built, and held while they are deployed."""

import asyncio
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hyperhive.core.approvals import AT_WORK, ApprovalKind
from hyperhive.core.errors import (
    HiveError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    UnavailableError,
    render_error,
)
from hyperhive.core.names import MANAGER, container_name
from hyperhive.core.paths import Roots
from hyperhive.core.policy import Policy, render_policy
from hyperhive.host.agent_records import get_agent, save_deployed
from hyperhive.host.configs.defaults import plan_default_files
from hyperhive.host.configs.reading import make_reader
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.host.configs.support import list_unsupported
from hyperhive.host.drivers.protocol import BuildsSystems, Driver
from hyperhive.host.git_config import save_git_config
from hyperhive.host.store.rows import AgentRecord, to_approval
from hyperhive.host.store.store import Store, View
from hyperhive.system.clock import now
from hyperhive.system.files import make_folders_beneath, write_atomically
from hyperhive.wire.agent_config import CONFIG_FILE, PROMPT_FILE, AgentConfig
from hyperhive.wire.agent_link import HarnessConfig, McpServerFields

log = structlog.get_logger(__name__)

SCHEMA_FILE = "agent.schema.json"
# claude gets it, with our own text before it, as one argument, for which the kernel allows 128 KiB.
PROMPT_LIMIT_BYTES = 96 * 1024
# What the parser says of a file that is no TOML, at the first place that it names.
_AT_LINE = re.compile(rf"{re.escape(CONFIG_FILE)} is (not (?:TOML|UTF-8))(?:: (.*))? \(at line (\d+)[^)]*\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Version:
    """One commit of an agent's config, understood.

    `folder` has its files once it is built: the container sees it as /config.
    """

    agent: str
    commit: str
    config: AgentConfig
    prompt: str
    folder: Path
    policy: Policy


class Configs:
    """`prepare` is to be called once before all else. What is deployed is cached: `note_deployed` keeps it true.

    `account`: whether agents log in by themselves, without a credential of the hive's.
    """

    def __init__(self, store: Store, roots: Roots, driver: Driver, *, account: bool = False) -> None:
        self._store = store
        self._roots = roots
        self._driver = driver
        self._account = account
        self._reader = make_reader(driver, roots.evaluations_folder)
        self._deployed: dict[str, Version] = {}
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def prepare(self) -> None:
        """Makes the folders, removes what a crash left half-made, and publishes the schema for the manager."""
        await asyncio.to_thread(self._prepare)
        known = await self._store.read(_list_known)
        await asyncio.to_thread(_remove_others, self._roots.evaluations_folder, known)

    def _prepare(self) -> None:
        if self._roots.staging_folder.exists():
            shutil.rmtree(self._roots.staging_folder)
        self._roots.staging_folder.mkdir(mode=0o700)
        # Whatever the umask: agents have to walk there.
        for folder, mode in ((self._roots.applied_folder, 0o755), (self._roots.versions_folder(MANAGER).parent, 0o711)):
            folder.mkdir(exist_ok=True)
            folder.chmod(mode)
        self._reader.prepare()
        schema = json.dumps(self._reader.render_schema(), indent=2).encode() + b"\n"
        write_atomically(self._roots.applied_folder / SCHEMA_FILE, schema, 0o644)
        save_git_config(self._roots.applied_folder)

    @property
    def file(self) -> str:
        """The file that says what an agent is and may do, in the language of this hive's driver."""
        return self._reader.file

    @property
    def evaluates(self) -> bool:
        """Whether reading a config may take a minute."""
        return isinstance(self._driver, BuildsSystems)

    def render_schema(self) -> dict[str, Any]:
        """The JSON Schema of what `file` may say."""
        return self._reader.render_schema()

    def repository(self, name: str) -> ConfigRepository:
        """The applied repo of an agent or a draft. Raises InvalidInputError for what is no name."""
        return ConfigRepository(self._roots.applied_repo(name), self._roots.staging_folder)

    def lock(self, name: str) -> asyncio.Lock:
        """To be held while an applied repo is changed."""
        return self._locks[name]

    async def ensure(self, name: str) -> str:
        """Makes the applied repo with the default config and the manager's working copy of it, where missing.

        Returns the commit of the first config. Raises StorageError if the disk refuses, or something is in the way.
        """
        async with self.lock(name):
            try:
                return await self._ensure(name)
            except OSError as error:
                # The manager can write there: a link or a file in the way is not followed.
                raise StorageError(
                    f"the folders for the config of {name} cannot be made: {error}", "remove what is in the way"
                ) from error

    async def _ensure(self, name: str) -> str:
        repository = self.repository(name)
        first = await repository.ensure(plan_default_files(name, self.file), now())
        await asyncio.to_thread(save_git_config, self._roots.applied_folder)
        uid = await self._find_manager_uid()
        make_folders_beneath(self._roots.data, [self._roots.proposed_folder.name], mode=0o700, uid=uid)
        make_folders_beneath(self._roots.proposed_folder, [name], mode=0o700, uid=uid)
        target = self._roots.proposed_folder_of(name) / "config"
        await repository.make_working_copy(target, f"/applied/{name}", uid)
        return first

    async def load(self, name: str, commit: str) -> Version:
        """One commit, understood. Raises InvalidInputError that says why it cannot be used."""
        return await self._understand(name, commit, await self.repository(name).read_files(commit))

    async def load_and_build(self, name: str, commit: str) -> Version:
        """`load` and `build` with one look at the repository. Raises like both."""
        files = await self.repository(name).read_folder(commit)
        version = await self._understand(name, commit, _contents(files))
        await self.build(version, files)
        return version

    async def _understand(self, name: str, commit: str, files: Mapping[str, bytes]) -> Version:
        config = await self._reader.read(name, files)
        prompt = self._check(config, files)
        folder = self._roots.versions_folder(name) / commit
        return Version(name, commit, config, prompt, folder, config.to_policy())

    async def read(self, name: str, files: Mapping[str, bytes]) -> AgentConfig:
        """What the files of a config of an agent say. Raises InvalidInputError, DriverError if that is not known."""
        return await self._reader.read(name, files)

    async def check_files(self, name: str, files: Mapping[str, bytes]) -> None:
        """Raises InvalidInputError that says why these files are no config that an agent can have; DriverError."""
        self._check(await self._reader.read(name, files), files)

    async def check_carried_over(self, origin: str, name: str, files: Mapping[str, bytes]) -> None:
        """Raises InvalidInputError if these files come to something else for the agent `name` than for `origin`.

        What is approved is approved for one agent, and a program can ask which one it is evaluated for. Raises as
        `read`, too.
        """
        before, after = await self.read(origin, files), await self.read(name, files)
        changed = [field for field in AgentConfig.model_fields if getattr(before, field) != getattr(after, field)]
        if changed:
            raise InvalidInputError(
                f"the {self.file} of {origin} comes to something else for {name}: {', '.join(changed)}",
                f"have the manager draft {name} with it: then you see what it comes to, and approve that",
            )

    async def check_proposed(self, name: str, files: Mapping[str, bytes]) -> None:
        """As `check_files`, of what is only proposed. Raises TooLargeError, too, if too much of that waits."""
        self._check(await self._reader.check(name, files), files)

    def _check(self, config: AgentConfig, files: Mapping[str, bytes]) -> str:
        """The prompt beside a config. Raises InvalidInputError if it, or what the config asks for, cannot be."""
        unsupported = list_unsupported(config, self._driver.unlimited, account=self._account)
        if unsupported:
            raise InvalidInputError("; ".join(unsupported), "leave these keys out")
        return _parse_prompt(files.get(PROMPT_FILE, b""))

    async def get_deployed(self, name: str) -> Version:
        """What is deployed for an agent; one that never had a config gets the default one.

        Raises NotFoundError for an unknown agent, InvalidInputError if its config cannot be used, UnavailableError
        while its first config is being built.
        """
        cached = self._deployed.get(name)
        if cached is not None:
            return cached
        record, expected = await self._store.read(
            lambda view: (get_agent(view, name), _is_spawned_with_commit(view, name))
        )
        commit = record.deployed_commit
        if commit is None:
            if expected:
                raise UnavailableError(f"the config of {name} is being built", "wait until it is deployed")
            commit = first = await self.ensure(name)
            await self._store.write(lambda tx: save_deployed(tx, name, first))
        version = await self.load(name, commit)
        self.note_deployed(version)
        return version

    async def get_policy(self, name: str) -> Policy:
        """What an agent may do, by what is deployed. Raises like `get_deployed`."""
        return (await self.get_deployed(name)).policy

    async def get_deployed_commit(self, name: str) -> str | None:
        """The commit that is deployed for an agent, None before its first start. Raises NotFoundError."""
        return (await self._store.read(lambda view: get_agent(view, name))).deployed_commit

    def find_cached(self, name: str) -> Version | None:
        return self._deployed.get(name)

    def note_deployed(self, version: Version) -> None:
        """To be called once a version is deployed."""
        self._deployed[version.agent] = version

    def forget(self, name: str) -> None:
        """To be called when an agent is destroyed or purged."""
        self._deployed.pop(name, None)

    async def build(self, version: Version, files: Mapping[str, tuple[bytes, bool]] | None = None) -> None:
        """Makes what a container of this version needs. Again is no error. `files` are its commit's, if known.

        Raises DriverError for what this machine lacks, StorageError if the disk refuses; InvalidInputError for a
        system that cannot be built.
        """
        await self._driver.build(version.config.packages)
        if isinstance(self._driver, BuildsSystems):
            files = files or await self.repository(version.agent).read_folder(version.commit)
            await self._driver.build_system(container_name(version.agent), _contents(files))
        try:
            version.folder.parent.mkdir(exist_ok=True)
            version.folder.parent.chmod(0o755)
            if not version.folder.exists():
                repository = self.repository(version.agent)
                await repository.put_files(files or await repository.read_folder(version.commit), version.folder)
        except OSError as error:
            raise StorageError(f"the config's files cannot be written: {error}", "is the disk full?") from error

    async def drop_submissions(self, name: str) -> None:
        """Forgets what was submitted and did not become an approval: to be called while nobody submits."""
        # Without a look at git, as hives of many agents start with this.
        if (self._roots.applied_repo(name) / "refs" / "incoming").exists():
            async with self.lock(name):
                await self.repository(name).drop_incoming()

    async def remove_builds(self, record: AgentRecord) -> None:
        """Removes the builds of an agent but for what is deployed and what its container was started with."""
        kept = {record.deployed_commit, record.started_commit}
        await asyncio.to_thread(_remove_others, self._roots.versions_folder(record.name), kept)

    async def drop_incoming(self) -> None:
        """At the daemon's start: forgets what an earlier one took over and died before it became an approval."""
        for repo in await asyncio.to_thread(lambda: list(self._roots.applied_folder.glob("*/refs/incoming"))):
            name = repo.parents[1].name
            try:
                await self.repository(name).drop_incoming()
            except HiveError as error:
                log.warning("configs.incoming_kept", agent=name, message=error.message)

    async def _find_manager_uid(self) -> int | None:
        row = await self._store.read(lambda view: view.find("get_agent", name=MANAGER))
        return None if row is None else row["uid"]


def render_config_failure(error: HiveError) -> str:
    """Why an agent is not started with its config, with the line in the file where that is known."""
    found = _AT_LINE.fullmatch(error.message)
    if found is not None:
        kind, what, line = found.groups()
        return f"config does not parse, line {line}: {what or kind}"
    words = "config cannot be used" if isinstance(error, InvalidInputError | NotFoundError) else "config cannot be read"
    return f"{words}: {render_error(error)}"


def render_harness_config(version: Version) -> HarnessConfig:
    """What the harness is told of a version."""
    servers = {
        name: McpServerFields(command=server.command, args=server.args, env=server.env)
        for name, server in version.config.mcp_servers.items()
    }
    return HarnessConfig(
        commit=version.commit,
        model=version.config.model,
        prompt=version.prompt,
        warm_s=version.config.warm_s,
        compact_at=version.config.compact_at,
        notes_limit=version.config.notes_limit,
        policy=render_policy(version.policy),
        mcp_servers=servers,
    )


def _contents(files: Mapping[str, tuple[bytes, bool]]) -> dict[str, bytes]:
    return {path: content for path, (content, _) in files.items()}


def _parse_prompt(content: bytes) -> str:
    if len(content) > PROMPT_LIMIT_BYTES:
        raise InvalidInputError(
            f"{PROMPT_FILE} has {len(content):,} bytes, more than {PROMPT_LIMIT_BYTES:,}",
            "put what is not always needed into another file",
        )
    try:
        prompt = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{PROMPT_FILE} is not UTF-8 text", "write it anew") from error
    if "\0" in prompt:
        raise InvalidInputError(f"{PROMPT_FILE} has a NUL character", "remove it")
    return prompt


def _is_spawned_with_commit(view: View, name: str) -> bool:
    """Whether a two-step spawn of the agent is at work: it must never start with another config than that."""
    approvals = [to_approval(row) for row in view.list("list_open_approvals", agent=name)]
    return any(
        approval.kind is ApprovalKind.SPAWN and approval.commit is not None and approval.status in AT_WORK
        for approval in approvals
    )


def _list_known(view: View) -> set[str]:
    """Agents, also destroyed ones, drafts, and of whom there are snapshots."""
    queries = ("list_agents", "list_destroyed_agents", "list_drafts")
    named = {row["name"] for query in queries for row in view.list(query)}
    return named | {row["agent"] for row in view.list("list_snapshots", agent=None)}


def _remove_others(folder: Path, kept: Container[str | None]) -> None:
    if not folder.exists():
        return
    for build in folder.iterdir():
        if build.name not in kept:
            shutil.rmtree(build, ignore_errors=True)
