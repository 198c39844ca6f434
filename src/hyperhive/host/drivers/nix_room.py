"""The sandbox that nix evaluates in: what nix itself needs, the flake, its inputs, and memory to write to.

As root there are two bubblewraps: the outer one makes a file system of folders that nobody else could walk to, the
inner one is the sandbox, as a uid that owns nothing. All else there is one, as whoever calls.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.uids import EVALUATION_UID
from hyperhive.host.drivers.bubblewrap_argv import keep, make_document, render_argv
from hyperhive.host.drivers.nix_errors import PRIVATE_STORE
from hyperhive.host.drivers.nixos_flake import CONFIG_FOLDER, NixInputs
from hyperhive.host.drivers.protocol import DriverError, Mount
from hyperhive.host.drivers.sandbox import Sandbox, plan_program_mounts, render_mounts
from hyperhive.wire.agent_nix import NIX_FILE

_STORE = Path("/nix/store")
# Of the nix daemon, where there is one.
DAEMON_SOCKET = Path("/nix/var/nix/daemon-socket/socket")
_SCRATCH = PRIVATE_STORE.parent
# Where the flake is inside, and all that is ours there.
PLACE = _SCRATCH.parent
FLAKE = PLACE / "flake"
# Copies of the flake and its inputs, where there is no daemon whose store has them: nixpkgs, twice.
_SCRATCH_LIMIT_BYTES = 1024**3
_NOTHING = b"{ ... }: { }\n"

# What makes the room is started in parts of it, too.
_PROGRAMS = ("prlimit", "bwrap", "setpriv")
_ISOLATION = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"),
    *("--uid", "1000", "--gid", "1000", "--hostname", "evaluation"),
)
# Root's: a pid namespace, that ends with who asked, and all of it with that. It has a proc of its own, in which the
# sandbox looks for its processes: in the machine's others may have their numbers, or nobody.
_APART = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)
_VIEW = (
    *("--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
    *("--perms", "0700", "--size", str(_SCRATCH_LIMIT_BYTES), "--tmpfs", str(_SCRATCH), "--remount-ro", "/"),
)
_ENVIRONMENT = {
    "HOME": f"{_SCRATCH}/home",
    # It is asked for, and there is no list of users.
    "USER": "agent",
    "TMPDIR": str(_SCRATCH),
    "PATH": "/usr/bin",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    # No settings but ours.
    "NIX_CONF_DIR": f"{_SCRATCH}/none",
    "NIX_USER_CONF_FILES": "",
}


@dataclass(frozen=True, slots=True)
class Nix:
    """The nix of a machine: its program, and its store and the socket of its daemon if there is one.

    Without a daemon each evaluation has a store of its own, into which the inputs are copied.
    """

    program: Path
    store: Path | None = None
    socket: Path | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """Where one flake is evaluated. With `says_nothing` its agent.nix is one without a word."""

    nix: Nix
    flake: Path
    inputs: NixInputs
    says_nothing: bool = False

    @property
    def path(self) -> str:
        """Where programs are looked for, also in the room, which has none of the links that NixOS has them by."""
        usual = os.environ.get("PATH", os.defpath)
        found = (shutil.which(name, path=usual) for name in _PROGRAMS)
        return os.pathsep.join([usual, *dict.fromkeys(str(Path(path).resolve().parent) for path in found if path)])

    @property
    def store(self) -> str:
        """What nix is to use as its store."""
        return "daemon" if self.nix.socket else str(PRIVATE_STORE)

    @property
    def names(self) -> dict[Path, str]:
        """What to call the places that are the machine's or the room's own, for who reads what nix says."""
        inputs = {path: f"<{name}>" for name, path in self.inputs.name_paths().items()}
        ours = {FLAKE / CONFIG_FOLDER: ".", FLAKE: ".", PRIVATE_STORE: "", _SCRATCH: "", PLACE: ""}
        return {**inputs, self.flake: ".", **ours}

    def plan(self, command: Sequence[str], handles: contextlib.ExitStack) -> tuple[list[int], list[str]]:
        """The handles to pass on, closed with `handles`, and the argv of nix with `command`. Raises OSError."""
        mounts, links = self._list_mounts()
        files = render_mounts(mounts, links)
        # The inner bubblewrap begins below /tmp.
        for folder in ("/tmp", str(_SCRATCH)):  # noqa: S108 - inside the sandbox
            files += ["--perms", "0755", "--dir", folder]
        numbers: list[int] = []
        if self.says_nothing:
            numbers.append(keep(handles, make_document(_NOTHING)))
            target = str(FLAKE / CONFIG_FOLDER / NIX_FILE)
            files += ["--perms", "0444", "--ro-bind-data", str(numbers[0]), target]
        as_root = os.geteuid() == 0
        sandbox = _plan_sandbox(files, as_root=as_root)
        more, argv = render_argv(sandbox, EVALUATION_UID, [str(self.nix.program), *command], handles)
        return [*numbers, *more], [*(_APART if as_root else ()), *argv]

    def _list_mounts(self) -> tuple[list[Mount], list[tuple[str, Path]]]:
        nix = self.nix
        mounts = [Mount(self.flake, FLAKE)]
        links: list[tuple[str, Path]] = []
        shown: list[Path] = []
        if nix.store is not None:
            mounts.append(Mount(nix.store, _STORE))
        if nix.socket is not None:
            mounts.append(Mount(nix.socket, DAEMON_SOCKET))
        if not nix.program.is_relative_to(_STORE):
            mounts.append(Mount(Path("/usr"), Path("/usr")))
            shown, links = _observe_system()
        shown += [path for path in self.inputs.name_paths().values() if not (nix.store and path.is_relative_to(_STORE))]
        return [*mounts, *plan_program_mounts(shown)], links


def observe_nix() -> Nix:
    """What is on this machine now. Raises DriverError if there is no nix."""
    program = shutil.which("nix")
    if program is None:
        raise DriverError("there is no nix on this machine", "the driver nixos runs on NixOS: see services.hyperhive")
    # A store that only its owner may use is none for evaluations; nor is a daemon that may not be asked.
    store = _STORE if os.access(_STORE, os.R_OK | os.X_OK) else None
    socket = DAEMON_SOCKET if store and os.access(DAEMON_SOCKET, os.W_OK) and DAEMON_SOCKET.is_socket() else None
    return Nix(Path(program).resolve(), store, socket)


def _plan_sandbox(files: Sequence[str], *, as_root: bool) -> Sandbox:
    environment = [part for name, value in _ENVIRONMENT.items() for part in ("--setenv", name, value)]
    end = ("--clearenv", *environment, "--chdir", str(_SCRATCH))
    if not as_root:
        return Sandbox((*_ISOLATION, *files, *_VIEW, *end))
    # The kernel lets the inner one mount a proc only where it sees a whole one; it is below that one then.
    system = ("--dev-bind", "/proc", "/proc", "--dev", "/dev", "--remount-ro", "/")
    # The outer one, which has no privilege left, may not signal another user's process when it ends: that is for the
    # pid namespace around it.
    return Sandbox((*_ISOLATION, "--bind", "/", "/", *_VIEW, *end), ("--die-with-parent", *files, *system))


def _observe_system() -> tuple[list[Path], list[tuple[str, Path]]]:
    """What programs in /usr need beside it: folders and files, and links."""
    shown = [path for path in (Path("/etc/ld.so.cache"),) if path.exists()]
    links: list[tuple[str, Path]] = []
    for path in map(Path, ("/bin", "/lib", "/lib32", "/lib64")):
        if path.is_symlink():
            links.append((str(path.readlink()), path))
        elif path.is_dir():
            shown.append(path)
    return shown, links
