"""What an agent's container is made of. Pure: the same agent and settings give the same container."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.limits import UNLIMITED, Limits, parse_memory_bytes
from hyperhive.core.login import PLACEHOLDER
from hyperhive.core.names import MANAGER, container_name
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.protocol import ContainerSpec, Mount
from hyperhive.host.git_config import APPLIED, GIT_CONFIG_FILE
from hyperhive.host.store.rows import AgentRecord
from hyperhive.wire.agent_config import AgentConfig
from hyperhive.wire.agent_config import Limits as LimitsConfig
from hyperhive.wire.agent_link import EGRESS_PORT, MODEL_PORT

HARNESS = (sys.executable, "-I", "-m", "hyperhive.harness.main")

# Where the files of an agent's config are in its container.
CONFIG = Path("/config")
# Where the certificates of --ca-file are in a container.
CA_FILE = Path("/run/hive-ca.pem")

# The harness carries it to egress.sock. The model has a socket of its own, which no proxy may come before.
_PROXY = f"http://127.0.0.1:{EGRESS_PORT}"
_NO_PROXY = "localhost,127.0.0.1,::1,model.hive"
# In both cases, as programs differ in which they read. Requests that are not https get an answer that says so.
_EGRESS = {
    **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), _PROXY),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), _NO_PROXY),
    # node's own fetch reads them only then, from node 22.21 and 24 on.
    "NODE_USE_ENV_PROXY": "1",
}

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
    the path of another CLI than the bundled one, as seen in the container; empty for the bundled one. `ca_file` has
    certificates that claude is to trust besides those it brings. `hibernate_s` is after how long an idle container
    stops, 0 for never. `limits` are those of a container whose config sets none.
    """

    credential: str
    warm_s: float
    claude: str = ""
    ca_file: Path | None = None
    hibernate_s: float = 3600.0
    limits: Limits = UNLIMITED


def plan_container(
    record: AgentRecord,
    roots: Roots,
    settings: HarnessSettings,
    *,
    config_folder: Path,
    config: AgentConfig,
) -> ContainerSpec:
    """The container of one agent for its present generation.

    `config_folder` has the files of its `config`. Of the variables that both set, ours counts.
    """
    host_network = config.network.mode == "host"
    mounts = plan_mounts(
        record.name, roots, claude=settings.claude, ca_file=settings.ca_file, config_folder=config_folder
    )
    return ContainerSpec(
        name=container_name(record.name),
        command=HARNESS,
        environment=_drop_ours(config.environment) | _environment(record, settings, host_network=host_network),
        mounts=mounts,
        uid=record.uid,
        packages=tuple(config.packages),
        limits=_plan_limits(config.limits, settings.limits),
        host_network=host_network,
    )


def plan_mounts(
    name: str, roots: Roots, *, claude: str, ca_file: Path | None, config_folder: Path
) -> tuple[Mount, ...]:
    """What the container of the agent `name` sees of this machine's files; see `HarnessSettings` and `plan_container`.

    Raises InvalidInputError for what is not the name of an agent.
    """
    mounts = [
        Mount(roots.state_folder(name), Path("/state"), writable=True),
        Mount(roots.claude_folder(name), Path("/home/agent/.claude"), writable=True),
        Mount(roots.agent_sockets_folder(name), Path("/run/hive")),
        Mount(config_folder, CONFIG),
    ]
    if claude and not Path(claude).is_relative_to("/usr"):
        mounts.append(Mount(Path(claude), Path(claude)))
    if ca_file is not None:
        mounts.append(Mount(ca_file, CA_FILE))
    if name == MANAGER:
        mounts.append(Mount(roots.proposed_folder, Path("/agents"), writable=True))
        mounts.append(Mount(roots.applied_folder, APPLIED))
    return tuple(mounts)


def _plan_limits(wanted: LimitsConfig, default: Limits) -> Limits:
    return Limits(
        default.memory_bytes if wanted.memory is None else parse_memory_bytes(wanted.memory),
        default.cpus if wanted.cpu is None else wanted.cpu,
        default.tasks if wanted.tasks is None else wanted.tasks,
    )


def _drop_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the variables that are the harness's, also those that we leave at their default."""
    return {name: value for name, value in environment.items() if not name.startswith("HIVE_")}


def _environment(record: AgentRecord, settings: HarnessSettings, *, host_network: bool) -> dict[str, str]:
    environment = {
        "HOME": "/home/agent",
        "USER": "agent",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        # The rules for commands are judged as bash reads them.
        "SHELL": "/bin/bash",
        "CLAUDE_CONFIG_DIR": "/home/agent/.claude",
        # On the host's loopback the port would be every program's: and nothing has to go through it.
        **({"HIVE_EGRESS_PORT": "0"} if host_network else _EGRESS),
        "HIVE_GENERATION": str(record.generation),
        "HIVE_WARM_S": f"{settings.warm_s:g}",
    }
    if settings.claude:
        environment["HIVE_CLAUDE"] = settings.claude
    if settings.ca_file is not None:
        # Adds to what claude trusts. SSL_CERT_FILE, which others read, would replace it.
        environment["NODE_EXTRA_CA_CERTS"] = str(CA_FILE)
    environment |= _plan_model_route(settings.credential)
    if record.name == MANAGER:
        environment |= _GIT
    return environment


def _plan_model_route(credential: str) -> dict[str, str]:
    """How claude reaches model.sock: directly with the hive's credential, by a port of the harness's without one.

    With the socket in its environment claude takes no notice of a login of its own (docs/gotchas.md).
    """
    if credential == "none":
        return {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{MODEL_PORT}", "HIVE_MODEL_PORT": str(MODEL_PORT)}
    variable = "ANTHROPIC_API_KEY" if credential == "api_key" else "CLAUDE_CODE_OAUTH_TOKEN"
    return {
        "ANTHROPIC_BASE_URL": "http://model.hive",
        "ANTHROPIC_UNIX_SOCKET": "/run/hive/model.sock",
        variable: PLACEHOLDER,
    }
