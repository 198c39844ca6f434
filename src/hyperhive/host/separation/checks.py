"""What the helper does for the daemon, decided by itself and not by what the daemon says.

The daemon talks to browsers and agents. Were it not itself any more, it could ask for anything; what it gets are the
containers of agents as the hive makes them, and nothing else of root's.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from hyperhive.core.config_values import parse_any_variable, parse_package
from hyperhive.core.errors import InvalidInputError, RefusedError
from hyperhive.core.names import MANAGER, MANAGER_CONTAINER, parse_agent_name
from hyperhive.core.paths import Roots
from hyperhive.core.uids import has_range
from hyperhive.host.configs.trees import check_path, show_path
from hyperhive.host.container_spec import CONFIG, HARNESS, plan_mounts
from hyperhive.host.drivers.nix_packages import check_store_paths
from hyperhive.host.drivers.protocol import ContainerSpec, Mount
from hyperhive.host.separation.verbs import (
    Arguments,
    BuildArguments,
    ComparisonArguments,
    ExecArguments,
    NameArguments,
    ObserveImagesArguments,
    RemoveUnusedArguments,
    SpecArguments,
    StopArguments,
    SystemArguments,
)

TIMEOUT_LIMIT_S: Final = 3600.0
# A commit, as git names it.
_VERSION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Checks:
    """`claude` and `ca_file` are those of the hive's settings, see `container_spec.HarnessSettings`."""

    def __init__(self, roots: Roots, claude: str, ca_file: Path | None) -> None:
        self._roots = roots
        self._claude = claude
        self._ca_file = ca_file

    def check(self, arguments: Arguments) -> None:
        """Raises RefusedError for what the hive has no reason to ask."""
        try:
            self._check(arguments)
        except InvalidInputError as error:
            raise RefusedError(error.message, error.hint) from error
        except ValueError as error:
            raise RefusedError(str(error)) from error

    def _check(self, arguments: Arguments) -> None:
        match arguments:
            case SpecArguments():
                self._check_spec(arguments.to_spec())
            case NameArguments():
                _find_agent(arguments.name)
                if isinstance(arguments, StopArguments | ExecArguments):
                    _check_timeout(arguments.timeout_s)
                if isinstance(arguments, SystemArguments):
                    _check_paths(arguments.files)
            case BuildArguments():
                _check_packages([arguments.packages])
            case ObserveImagesArguments():
                _check_packages(arguments.wanted)
            case RemoveUnusedArguments():
                _check_packages(arguments.keep)
            case ComparisonArguments():
                for paths in (arguments.before, arguments.after):
                    check_store_paths(paths)
            case _:
                # The ids of images are looked for among those that there are.
                pass

    def _check_spec(self, spec: ContainerSpec) -> None:
        agent = _find_agent(spec.name)
        if spec.command != HARNESS:
            raise RefusedError("its command is not the harness")
        if spec.uid is None or not has_range(spec.uid):
            raise RefusedError(f"the uid {spec.uid} has no range of its own", "only agents have containers")
        for name in spec.environment:
            try:
                parse_any_variable(name)
            except ValueError as error:
                raise RefusedError(f"a variable {error}") from error
        if not spec.working_folder.is_absolute() or ".." in spec.working_folder.parts:
            raise RefusedError("its working folder is no absolute path")
        _check_packages([spec.packages])
        self._check_mounts(agent, spec.mounts)

    def _check_mounts(self, agent: str, mounts: tuple[Mount, ...]) -> None:
        versions = self._roots.versions_folder(agent)
        folders = [mount.source for mount in mounts if mount.target == CONFIG]
        if not folders or folders[0].parent != versions or not _VERSION.fullmatch(folders[0].name):
            raise RefusedError(f"its config is not in {versions}")
        planned = plan_mounts(agent, self._roots, claude=self._claude, ca_file=self._ca_file, config_folder=folders[0])
        if mounts != planned:
            raise RefusedError(f"its mounts are not those of {agent}")
        for mount in planned:
            self._check_source(mount.source)

    def _check_source(self, source: Path) -> None:
        """What the daemon could have put something else in place of: it must be there, and no link lead to it."""
        top = next((root for root in (self._roots.data, self._roots.run) if source.is_relative_to(root)), None)
        if top is None:
            # One of the settings', where only root can change it.
            return
        try:
            found = source.resolve(strict=True)
            if found != top.resolve(strict=True) / source.relative_to(top):
                raise RefusedError(f"{source} is reached by a link")
        except (OSError, RuntimeError) as error:
            raise RefusedError(f"{source} cannot be found: {error}") from error
        if not (found.is_dir() or found.is_file()):
            raise RefusedError(f"{source} is neither a folder nor a file")


def _find_agent(container: str) -> str:
    """Whose container has that name. Raises InvalidInputError if it is no agent's."""
    return MANAGER if container == MANAGER_CONTAINER else parse_agent_name(container)


def _check_timeout(timeout_s: float) -> None:
    if timeout_s > TIMEOUT_LIMIT_S:
        raise RefusedError(f"nothing waits longer than {TIMEOUT_LIMIT_S:g} s")


def _check_paths(paths: Collection[str]) -> None:
    """Raises InvalidInputError, and RefusedError for a file that is to be a folder, too."""
    for path in paths:
        check_path(path)
        if any(str(parent) in paths for parent in PurePosixPath(path).parents):
            raise RefusedError(f"{show_path(path)} is below a file")


def _check_packages(lists: Iterable[Iterable[str]]) -> None:
    """Raises ValueError."""
    for packages in lists:
        for name in packages:
            parse_package(name)
