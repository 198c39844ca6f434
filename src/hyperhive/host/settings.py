"""The daemon's own settings: a field a setting, from flags, the environment (`HIVE_…`) or the default.

Credentials are read once, kept in memory, and never shown.
"""

import argparse
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import AnyHttpUrl, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from hyperhive.core.errors import InvalidInputError

# The prefix by which Anthropic marks its long-lived OAuth tokens; everything else is an API key.
_TOKEN_PREFIX = "sk-ant-oat"  # noqa: S105 - a prefix, not a secret
CREDENTIAL_LIMIT_BYTES = 4096
# What the unit has systemd pass on (LoadCredential=), if the machine's store has it.
SYSTEMD_CREDENTIAL = "hyperhive.credential"
DEFAULT_UPSTREAM = "https://api.anthropic.com"


class Settings(BaseSettings):
    """What an operator may set."""

    model_config = SettingsConfigDict(env_prefix="HIVE_", extra="ignore", frozen=True)

    data: Path | None = Field(default=None, description="The data folder.")
    port: int = Field(default=7000, ge=0, le=65535, description="The dashboard's port on 127.0.0.1; 0: any free one.")
    agent_ports: bool = Field(
        default=False, description="Each agent's page also at the port of its name, of which no two may be the same."
    )
    driver: str = Field(default="bubblewrap", description="What starts containers.")
    keep_root: bool = Field(
        default=False, description="Started as root, stay root: no helper does for the daemon what needs it."
    )
    image_suite: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9-]{1,30})?$",
        description="The Debian suite of containers' images, such as bookworm; the machine's if not named.",
    )
    nix_inputs: str = Field(
        default="", description="What systems of agents are built from on NixOS: hyperhive=/PATH nixpkgs=/PATH …"
    )
    upstream: AnyHttpUrl | None = Field(
        default=None, description=f"The Messages API, or one compatible with it; {DEFAULT_UPSTREAM} if not named."
    )
    rehearsal: bool = Field(default=False, description="No model behind this hive: a stand-in answers.")
    credential: Path | None = Field(default=None, description="A file of mode 0600 with the API key or token.")
    warm_s: float = Field(
        default=300,
        ge=0,
        le=7 * 24 * 3600,
        allow_inf_nan=False,
        description="How long claude stays open after a turn, in seconds.",
    )
    hibernate_s: float = Field(
        default=3600,
        ge=0,
        le=365 * 24 * 3600,
        allow_inf_nan=False,
        description="After how long the container of an idle agent stops, in seconds; 0: never.",
    )
    terminal_idle_s: float = Field(
        default=3600,
        ge=0,
        le=365 * 24 * 3600,
        allow_inf_nan=False,
        description="After how long a terminal that nobody looks at or types into is closed, in seconds; 0: never.",
    )
    limit_memory: str = Field(
        default="80%",
        pattern=r"^([1-9][0-9]{0,5}[KMGT]|([1-9][0-9]?|100)%)?$",
        description="The most memory of a container whose config does not say: 2G, or a part of the machine's; none.",
    )
    limit_cpu: float = Field(
        default=0, ge=0, le=1024, allow_inf_nan=False, description="The same in cores of processors; 0: no limit."
    )
    limit_tasks: int = Field(
        default=4096, ge=0, le=1_000_000, description="The same in processes and threads; 0: no limit."
    )
    claude: str = Field(default="", description="Another claude CLI than the bundled one.")
    ca_file: Path | None = Field(
        default=None, description="Certificates (PEM) that claude is to trust besides those it brings."
    )
    messages_per_minute: int = Field(
        default=120, ge=0, le=1_000_000, description="What an agent may send to all others together; 0: no limit."
    )
    messages_per_minute_pair: int = Field(
        default=60, ge=0, le=1_000_000, description="What an agent may send to any one recipient; 0: no limit."
    )
    egress_map: str = Field(
        default="", description="HOST[:PORT]=IP:PORT,…: where connections of agents to these hosts go instead."
    )
    push_contact: str = Field(
        default="mailto:operator@example.com", description="Where push services find who sends: mailto:… or https:…"
    )
    push_private: bool = Field(
        default=False, description="Push services at private addresses and any port, and by http on this machine, too."
    )
    webhook_private: bool = Field(
        default=False, description="Webhooks to private addresses and any port, and by http on this machine, too."
    )
    message_retention_days: int = Field(
        default=30, ge=0, le=36500, description="How many days messages and ended terminals are kept; 0: for ever."
    )
    state_limit: str = Field(
        default="10G",
        pattern=r"^([1-9][0-9]{0,5}[KMGT]|0)$",
        description="What an agent's folders may hold, such as 10G, unless its config says otherwise; 0: no limit.",
    )
    disk_reserve: str = Field(
        default="",
        pattern=r"^([1-9][0-9]{0,5}[KMGT]|0|)$",
        description="What agents leave free of the disk, such as 2G; empty: by the disk's size; 0: nothing.",
    )
    notify: Path | None = Field(default=None, description="A file of mode 0600 with apprise URLs, one a line.")
    notify_dwell_s: float = Field(
        default=60,
        ge=0,
        le=24 * 3600,
        allow_inf_nan=False,
        description="How long something waits for you before notifiers tell you of it, in seconds.",
    )
    notify_cooldown_s: float = Field(
        default=300,
        ge=0,
        le=24 * 3600,
        allow_inf_nan=False,
        description="How long after a message of a notifier the next one comes at the earliest, in seconds.",
    )
    notify_remind_s: float = Field(
        default=14400,
        ge=0,
        le=30 * 24 * 3600,
        allow_inf_nan=False,
        description="After how long notifiers tell you once more of what still waits, in seconds; 0: never.",
    )
    notify_quiet: str = Field(default="", description="When notifiers are silent, such as 22:00-08:00.")
    notify_quiet_deadlines: bool = Field(
        default=False, description="Told in quiet hours, too: what would be lost before they end."
    )
    time_zone: str = Field(default="", description="Yours, such as Europe/Berlin; the machine's if not named.")
    public_url: AnyHttpUrl | None = Field(
        default=None, description="Where you reach the pages, for links in messages; this machine's port if not named."
    )

    @property
    def is_rehearsed(self) -> bool:
        """Whether nobody is behind the model: what a named upstream is, only the operator knows."""
        return self.rehearsal and self.upstream is None


@dataclass(frozen=True, slots=True)
class Credential:
    """What the gateway adds to requests: an API key or a long-lived OAuth token."""

    kind: Literal["api_key", "token"]
    value: SecretStr


def parse_flags(argv: list[str]) -> Settings:
    """The settings of a command line; a flag counts more than the environment. Exits with 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="hived", description="the hive's daemon; `hive up` starts it")
    for name, field in Settings.model_fields.items():
        action = "store_true" if field.annotation is bool else "store"
        parser.add_argument(f"--{name.replace('_', '-')}", action=action, default=None, help=field.description)
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    try:
        return Settings(**given)
    except ValueError as error:
        parser.error(_explain(error))


def load_credential(settings: Settings, default_file: Path) -> Credential | None:
    """The operator's credential: from the file named in the settings, the environment, systemd, or `default_file`.

    Raises InvalidInputError for a file that others could read, or that holds no credential.
    """
    if settings.credential is not None:
        return _read_credential(settings.credential)
    for variable in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"):
        if os.environ.get(variable):
            return parse_credential(os.environ[variable])
    passed = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent"), SYSTEMD_CREDENTIAL)
    if passed.exists():
        return _read_credential(passed)
    return _read_credential(default_file) if default_file.exists() else None


def parse_credential(text: str) -> Credential:
    """An API key or a long-lived token, told apart by its prefix. Raises InvalidInputError for anything odd."""
    value = text.strip()
    if not value.isascii() or not value.isprintable() or not value or " " in value:
        raise InvalidInputError("that is not a credential", "it is one line of letters, digits and dashes")
    return Credential("token" if value.startswith(_TOKEN_PREFIX) else "api_key", SecretStr(value))


def check_ca_file(path: Path | None) -> Path | None:
    """The file of certificates, at its absolute path. Raises InvalidInputError for one that agents could not read."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}", "name another --ca-file") from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(f"{path} is not a plain file", "name another --ca-file")
    if not status.st_mode & stat.S_IROTH:
        raise InvalidInputError(f"{path} cannot be read by agents", f"certificates are no secret: chmod a+r {path}")
    return path.resolve()


def _read_credential(path: Path) -> Credential:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInputError(f"{path} is not a plain file", "name another --credential")
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise InvalidInputError(f"{path} can be read by others", f"chmod 600 {path}")
            text = file.read(CREDENTIAL_LIMIT_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}", "name another --credential") from error
    return parse_credential(text)


def _explain(error: ValueError) -> str:
    return " ".join(str(error).splitlines()[1:3]) or str(error)
