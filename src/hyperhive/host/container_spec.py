"""What an agent's container is made of. Pure: the same agent and settings give the same container."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.names import MANAGER, container_name
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.protocol import ContainerSpec, Mount
from hyperhive.host.git_config import APPLIED, GIT_CONFIG_FILE
from hyperhive.host.store.rows import AgentRecord

HARNESS = (sys.executable, "-I", "-m", "hyperhive.harness.main")

# Not a credential: it makes claude send its requests, and the gateway puts the real one in its place.
PLACEHOLDER = "held-by-the-hive"

# For the manager. By a file, as git does not hand on to the far side of a fetch what variables say of settings.
_GIT = {
    "GIT_CONFIG_SYSTEM": str(APPLIED / GIT_CONFIG_FILE),
    "GIT_AUTHOR_NAME": MANAGER,
    "GIT_AUTHOR_EMAIL": "manager@localhost",
    "GIT_COMMITTER_NAME": MANAGER,
    "GIT_COMMITTER_EMAIL": "manager@localhost",
}


@dataclass(frozen=True, slots=True)
class HarnessSettings:
    """What the daemon's settings say about harnesses.

    `credential` is what the gateway adds: api_key, token, or none (the agent has a login of its own). `claude` is
    the path of another CLI than the bundled one, as seen in the container; empty for the bundled one.
    """

    credential: str
    warm_s: float
    claude: str = ""


def plan_container(
    record: AgentRecord,
    roots: Roots,
    settings: HarnessSettings,
    *,
    config_folder: Path,
    environment: Mapping[str, str],
) -> ContainerSpec:
    """The container of one agent for its present generation.

    `config_folder` has the files of its config, and `environment` is what that config adds: ours counts more.
    """
    mounts = [
        Mount(roots.state_folder(record.name), Path("/state"), writable=True),
        Mount(roots.claude_folder(record.name), Path("/home/agent/.claude"), writable=True),
        Mount(roots.agent_sockets_folder(record.name), Path("/run/hive")),
        Mount(config_folder, Path("/config")),
    ]
    if settings.claude and not Path(settings.claude).is_relative_to("/usr"):
        mounts.append(Mount(Path(settings.claude), Path(settings.claude)))
    if record.name == MANAGER:
        mounts.append(Mount(roots.proposed_folder, Path("/agents"), writable=True))
        mounts.append(Mount(roots.applied_folder, APPLIED))
    return ContainerSpec(
        name=container_name(record.name),
        command=HARNESS,
        environment=_drop_ours(environment) | _environment(record, settings),
        mounts=tuple(mounts),
        uid=record.uid,
    )


def _drop_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the variables that are the harness's, also those that we leave at their default."""
    return {name: value for name, value in environment.items() if not name.startswith("HIVE_")}


def _environment(record: AgentRecord, settings: HarnessSettings) -> dict[str, str]:
    environment = {
        "HOME": "/home/agent",
        "USER": "agent",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        # The rules for commands are judged as bash reads them.
        "SHELL": "/bin/bash",
        "CLAUDE_CONFIG_DIR": "/home/agent/.claude",
        "ANTHROPIC_BASE_URL": "http://model.hive",
        "ANTHROPIC_UNIX_SOCKET": "/run/hive/model.sock",
        "HIVE_GENERATION": str(record.generation),
        "HIVE_WARM_S": f"{settings.warm_s:g}",
    }
    if settings.claude:
        environment["HIVE_CLAUDE"] = settings.claude
    if settings.credential == "api_key":
        environment["ANTHROPIC_API_KEY"] = PLACEHOLDER
    if settings.credential == "token":
        environment["CLAUDE_CODE_OAUTH_TOKEN"] = PLACEHOLDER
    if record.name == MANAGER:
        environment |= _GIT
    return environment
