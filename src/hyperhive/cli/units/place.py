"""Where the service is installed: for the whole machine, or for one user."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError, RefusedError
from hyperhive.core.paths import DATA_VARIABLE, Roots, decide_roots

SERVICE = "hyperhive.service"
SLICE = "hive.slice"
_MACHINE_UNITS = Path("/etc/systemd/system")
MACHINE_UNIT = _MACHINE_UNITS / SERVICE
MACHINE_DATA = decide_roots(None, environment={}, uid=0, working_folder=Path("/")).data
# From where the machine's systemd hands the account to the daemon, if it is there.
STORED_CREDENTIAL = Path("/etc/credstore/hyperhive.credential")
# Every NixOS has it, and nobody else.
_NIXOS = Path("/etc/NIXOS")


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of one service: the hive's own, the one of its units, and the file of its settings."""

    user: bool
    roots: Roots
    units: Path
    settings: Path

    @property
    def systemctl(self) -> str:
        """The command by which a person reaches the service."""
        return "systemctl --user" if self.user else "systemctl"

    @property
    def journal(self) -> str:
        return f"journalctl {'--user ' if self.user else ''}-u hyperhive"

    @property
    def install_command(self) -> str:
        return f"hive install --systemd{' --user' if self.user else ''}"

    @property
    def drop_ins(self) -> Path:
        """The operator's own changes to the service, which nobody else writes."""
        return self.units / f"{SERVICE}.d"


def decide_place(*, user: bool, environment: Mapping[str, str], uid: int) -> Place:
    """The place of the machine's service, or of that of the user `uid`.

    Raises RefusedError for what would be two hives in one, InvalidInputError if nothing says where a user's files
    belong.
    """
    if user:
        return _decide_user_place(environment, uid)
    roots = decide_roots(None, environment={}, uid=0, working_folder=Path("/"))
    named = environment.get(DATA_VARIABLE)
    if named and Path(named) != roots.data:
        raise RefusedError(
            f"the machine's service works on {roots.data}, and {DATA_VARIABLE} names another folder",
            f"unset {DATA_VARIABLE}",
        )
    return Place(False, roots, _MACHINE_UNITS, Path("/etc/hyperhive/hive.env"))


def is_nixos() -> bool:
    """Whether the units of this machine are a part of its configuration, and nobody's to write."""
    return _NIXOS.exists()


def _decide_user_place(environment: Mapping[str, str], uid: int) -> Place:
    if uid == 0:
        raise RefusedError("root's hive is the machine's", "leave out --user")
    roots = decide_roots(None, environment=environment, uid=uid, working_folder=Path.cwd())
    config = environment.get("XDG_CONFIG_HOME", "")
    if not config.startswith("/"):
        if not environment.get("HOME", "").startswith("/"):
            raise InvalidInputError("neither HOME nor XDG_CONFIG_HOME says where units belong", "set HOME")
        config = f"{environment['HOME']}/.config"
    return Place(True, roots, Path(config) / "systemd/user", Path(config) / "hyperhive/hive.env")
