"""Where everything is. All paths derive from one `Roots`, so that a test or a rehearsal runs anywhere."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.names import parse_known_agent_name

# The variable that names the data folder, for the daemon and for every command.
DATA_VARIABLE = "HIVE_DATA"
# In an agent's state folder: the conversation that is resumed next is another agent's, too, and becomes one of its own.
FORK_FILE = "hyperhive-fork"

_SYSTEM_DATA = Path("/var/lib/hyperhive")
_SYSTEM_RUN = Path("/run/hyperhive")
_PROGRAM = "hyperhive"
# The rehearsal (`hive demo`) has folders of its own, so that it never meets a real hive's.
_REHEARSAL_SUFFIX = "-demo"


@dataclass(frozen=True, slots=True)
class Roots:
    """The two folders of a hive, both absolute: `data` is to be kept, `run` holds sockets and may be remade.

    The per-agent methods raise InvalidInputError for anything that is not an agent's name, so that no name
    leaves the folder it belongs to.
    """

    data: Path
    run: Path

    @property
    def database(self) -> Path:
        """Messages, approvals, questions, agents, events. Only the daemon opens it."""
        return self.data / "hive.sqlite"

    @property
    def telemetry(self) -> Path:
        """Copies of agents' events; losing its last second loses nothing that matters."""
        return self.data / "telemetry.sqlite"

    @property
    def message_index(self) -> Path:
        """Which messages contain a word; derived, and made anew if it is gone."""
        return self.data / "search.sqlite"

    @property
    def audit_heads(self) -> Path:
        """The newest row of the audit, minute by minute: what shows that its end was cut off."""
        return self.data / "audit.head"

    @property
    def audit_notes(self) -> Path:
        """Where commands that work without the daemon leave what it is to record in the audit."""
        return self.data / "audit-notes"

    @property
    def lock(self) -> Path:
        """Held by the one daemon that works on this data folder."""
        return self.data / "hive.lock"

    @property
    def credential(self) -> Path:
        """The operator's API key or long-lived token, mode 0600, if it is not in the environment."""
        return self.data / "credential"

    @property
    def prices(self) -> Path:
        """What models cost, if the operator says so; read again when it changes."""
        return self.data / "prices.toml"

    @property
    def vapid_key(self) -> Path:
        """By what browsers know that a push is the hive's: a private key, made at the first start, mode 0600."""
        return self.data / "vapid.pem"

    @property
    def notify_urls(self) -> Path:
        """Where notifiers send to, one apprise URL a line, mode 0600, if the operator wants any."""
        return self.data / "notify.urls"

    @property
    def receipts_folder(self) -> Path:
        """What the senders of notifications leave for a daemon that did not live to hear of it."""
        return self.run / "receipts"

    @property
    def hive_socket(self) -> Path:
        """The operator's API for the command line; the caller is known by its uid."""
        return self.run / "hive.sock"

    @property
    def host_socket(self) -> Path:
        """For desktop clients; who may connect is what its mode says."""
        return self.run / "host.sock"

    @property
    def containers_folder(self) -> Path:
        """What drivers keep of running containers, outside the daemon's memory."""
        return self.run / "containers"

    @property
    def images_folder(self) -> Path:
        """What containers of the nspawn driver have for a system; made anew if it is gone."""
        return self.data / "images"

    @property
    def evaluations_folder(self) -> Path:
        """What configs written in Nix were evaluated to, by agents and drafts: what was approved."""
        return self.data / "evaluations"

    @property
    def helper_folder(self) -> Path:
        """What the root helper notes; closed to the daemon."""
        return self.data / "helper"

    @property
    def agents_folder(self) -> Path:
        return self.data / "agents"

    @property
    def proposed_folder(self) -> Path:
        """The configs the manager edits; it sees this folder as /agents."""
        return self.data / "proposed"

    @property
    def applied_folder(self) -> Path:
        """The applied repos; the manager sees this folder as /applied, read-only."""
        return self.data / "applied"

    @property
    def staging_folder(self) -> Path:
        """Where the daemon prepares what it then puts in place whole. Emptied at each start."""
        return self.data / "staging"

    @property
    def snapshots_folder(self) -> Path:
        """Archives of agents, a folder for each; agents that are gone have theirs, too."""
        return self.data / "snapshots"

    def snapshots_folder_of(self, name: str) -> Path:
        """The archives of one agent, and what is to replace its folders."""
        return self.snapshots_folder / parse_known_agent_name(name)

    def applied_repo(self, name: str) -> Path:
        """The bare repository of an agent's config. Only the daemon writes it."""
        return self.applied_folder / f"{parse_known_agent_name(name)}"

    def notes_repo(self, name: str) -> Path:
        """The bare repository of the versions of an agent's notes. Only the daemon reads and writes it."""
        return self.data / "notes" / parse_known_agent_name(name)

    def versions_folder(self, name: str) -> Path:
        """The files of an agent's deployed config, a folder for each commit: /config in the container."""
        return self.data / "versions" / parse_known_agent_name(name)

    def proposed_folder_of(self, name: str) -> Path:
        """What the manager edits of one agent: `config`, and `state` of a draft."""
        return self.proposed_folder / parse_known_agent_name(name)

    def agent_folder(self, name: str) -> Path:
        """All that is kept of one agent: state and claude."""
        return self.agents_folder / parse_known_agent_name(name)

    def journal(self, name: str) -> Path:
        """The end of what its container wrote, once it is destroyed."""
        return self.agent_folder(name) / "journal"

    def state_folder(self, name: str) -> Path:
        """/state in the container."""
        return self.agent_folder(name) / "state"

    def claude_folder(self, name: str) -> Path:
        """~/.claude in the container."""
        return self.agent_folder(name) / "claude"

    def agent_sockets_folder(self, name: str) -> Path:
        """/run/hive in the container: the folder is bound, as a bound socket file dies with the daemon."""
        return self.run / "agents" / parse_known_agent_name(name)


def decide_roots(
    data: Path | None,
    *,
    environment: Mapping[str, str],
    uid: int,
    working_folder: Path,
    rehearsal: bool = False,
) -> Roots:
    """The folders of the hive that is meant.

    `data` is the `--data` option and counts most, then HIVE_DATA; with either, everything is below that
    folder. Without them root gets the system's folders and anyone else the XDG ones, and a rehearsal folders
    of its own beside them; who names one of these means the hive that is there. A relative folder is taken from
    `working_folder`. Raises InvalidInputError when nothing says where data belongs.
    """
    if data is None and environment.get(DATA_VARIABLE):
        data = Path(environment[DATA_VARIABLE])
    if data is None:
        return _plan_default_roots(environment, uid, rehearsal)
    folder = working_folder / data
    with contextlib.suppress(InvalidInputError):
        for default in (_plan_default_roots(environment, uid, rehearsed) for rehearsed in (False, True)):
            if default.data == folder:
                return default
    return Roots(data=folder, run=folder / "run")


def _plan_default_roots(environment: Mapping[str, str], uid: int, rehearsal: bool) -> Roots:
    name = _PROGRAM + (_REHEARSAL_SUFFIX if rehearsal else "")
    if uid == 0:
        return Roots(data=_SYSTEM_DATA.with_name(name), run=_SYSTEM_RUN.with_name(name))
    folder = _find_user_data_folder(environment) / name
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return Roots(data=folder, run=Path(runtime) / name if runtime.startswith("/") else folder / "run")


def _find_user_data_folder(environment: Mapping[str, str]) -> Path:
    # The XDG specification has relative values ignored.
    if environment.get("XDG_DATA_HOME", "").startswith("/"):
        return Path(environment["XDG_DATA_HOME"])
    if environment.get("HOME", "").startswith("/"):
        return Path(environment["HOME"]) / ".local/share"
    raise InvalidInputError(
        "neither HOME nor XDG_DATA_HOME says where data belongs", f"set {DATA_VARIABLE} to a folder"
    )
