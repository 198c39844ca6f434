"""What a container of systemd-nspawn is made of, as the plan that `nspawn_launch.py` is given. Pure, but for
`observe_program`.

What is inside: an image, read-only; the folders of Python and of this program at their own paths; the mounts of the
spec; /tmp, the home and /dev/shm are memory of the container. What an image has of its own machine is hidden.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hyperhive
from hyperhive.core.uids import RANGE_WIDTH, range_start
from hyperhive.host.drivers import nspawn_command
from hyperhive.host.drivers.protocol import ContainerSpec, Mount
from hyperhive.host.drivers.sandbox import ACCOUNT_FILES, SCRATCH, SCRATCH_LIMIT_BYTES, SHM_LIMIT_BYTES

# What systemd-nspawn runs as inside; see ACCOUNT_FILES.
_USER = "agent"
_ETC = Path("/etc")
# nspawn lays memory over it, so what is below has to be bound from outside by nspawn itself.
_LATE = Path("/run")
# Of the machine that the image was made on, and of use to no agent.
_HIDDEN = (*(_ETC / name for name in ("hostname", "machine-id", "shadow", "gshadow", "subuid", "subgid")),)
_ENVIRONMENT = {
    # Only what went wrong: all that it says ends up in the container's log.
    "SYSTEMD_LOG_LEVEL": "err",
    # /tmp is ours already, and so is the root alone.
    "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
    "SYSTEMD_NSPAWN_LOCK": "0",
}
# Debuggers of an agent's own programs, which nspawn denies without the capability for all other programs'.
_ALLOWED_CALLS = "ptrace process_vm_readv process_vm_writev"
# The first process inside: reaps, and tells outside with which status its only child ended. With it ends all inside,
# and it with nspawn. TERM is handed on.
_INIT = """
exec 3<&0 </dev/null
trap 'kill -TERM "$child" 2>/dev/null' TERM
"$@" <&3 3<&- &
child=$!
while :; do
    wait "$child"; status=$?
    kill -0 "$child" 2>/dev/null || break
done
echo "$status" >&3
exit "$status"
"""


@dataclass(frozen=True, slots=True)
class Program:
    """Where Python and this program are on this machine, and in containers."""

    interpreter: str
    mounts: tuple[Mount, ...]


def observe_program() -> Program:
    """Those that run now."""
    package = Path(hyperhive.__file__).parent
    # Installed for the whole machine, what the package needs is beside it.
    home = package.parent if package.parent.name in {"site-packages", "dist-packages"} else package
    places = (Path(sys.base_prefix), Path(sys.base_prefix).resolve(), Path(sys.prefix), Path(sys.executable).resolve())
    return Program(sys.executable, tuple(plan_program_mounts([*places, home])))


def plan_program_mounts(places: Iterable[Path]) -> list[Mount]:
    """`places` at their own paths, without those that another of them has already.

    The system's own Python is the image's: the two are of one suite.
    """
    mounts: list[Mount] = []
    for place in sorted(set(places), key=lambda path: (len(path.parts), path)):
        is_system = place == Path("/usr") or place.parent in {Path("/usr/bin"), Path("/bin")}
        if not is_system and not any(place.is_relative_to(mount.target) for mount in mounts):
            mounts.append(Mount(place, place))
    return mounts


def plan_launch(
    spec: ContainerSpec,
    layers: Sequence[Path],
    program: Program,
    *,
    place: Path,
    output: int,
    denied: bytes,
    path: str,
    managed: bool,
    resolver: str,
) -> dict[str, Any]:
    """The plan for one container of a spec with a uid that has a range.

    `place` is the container's folder, `output` the handle of its log, `denied` its filter of system calls, `path` where
    programs are outside. `managed` says whether a systemd is there to know of it; `resolver` how the host looks up
    names, for those that are in its network.
    """
    assert spec.uid is not None
    base = range_start(spec.uid)
    mounts = sorted([*program.mounts, *spec.mounts], key=lambda mount: len(mount.target.parts))
    late = [number for number, mount in enumerate(mounts) if _is_below(mount.target, _LATE)]
    binds = [f"--bind={_escape(place)}/stage/mount{number}:{_escape(mounts[number].target)}" for number in late]
    command = [program.interpreter, "-I", "-S", nspawn_command.__file__]
    return {
        "stage": str(place / "stage"),
        "gated": True,
        "report": str(place / "report"),
        "output": output,
        "base": base,
        "managed": managed,
        "layers": [str(layer) for layer in layers],
        "folders": _list_folders(mounts),
        "files": {
            **{str(_ETC / name): content for name, content in ACCOUNT_FILES.items()},
            str(_ETC / "resolv.conf"): resolver if spec.host_network else "",
        },
        "hidden": [str(hidden) for hidden in _HIDDEN],
        "scratch": [
            {
                "target": str(folder),
                "size": SCRATCH_LIMIT_BYTES,
                "mode": mode,
                "uid": _decide_owner(mode, base, spec.uid),
            }
            for folder, mode in SCRATCH.items()
        ],
        "scratch_folders": [str(parent) for parent in _list_parents(mounts) if is_in_scratch(parent)],
        "mounts": [_plan_mount(mount) for mount in mounts],
        "shared_memory_bytes": SHM_LIMIT_BYTES,
        "nspawn": [*_render_nspawn(spec, place, base, managed=managed), *binds, "--", *_render_init(command)],
        "nspawn_environment": {**_ENVIRONMENT, "PATH": path},
        "inside": {
            "command": list(spec.command),
            "environment": dict(spec.environment),
            "working_folder": str(spec.working_folder),
            "denied": denied.hex(),
        },
    }


def _render_nspawn(spec: ContainerSpec, place: Path, base: int, *, managed: bool) -> list[str]:
    """The argv of systemd-nspawn without what it is to run. Anybody on the machine can read it."""
    return [
        *("systemd-nspawn", "--quiet", "--settings=no", f"--machine={spec.name}", f"--hostname={spec.name}"),
        *(f"--directory={place}/stage/root", "--console=pipe", f"--register={'yes' if managed else 'no'}"),
        *("--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
        *([] if spec.host_network else ["--private-network"]),
        *(f"--private-users={base}:{RANGE_WIDTH}", "--private-users-ownership=off"),
        *("--drop-capability=all", "--no-new-privileges=yes", f"--user={_USER}", "--chdir=/"),
        *(f"--system-call-filter={_ALLOWED_CALLS}", "--kill-signal=SIGTERM"),
    ]


def _render_init(command: Sequence[str]) -> list[str]:
    # That it ends with nspawn can only be asked for after nspawn has made it its child.
    return ["/usr/bin/setpriv", "--pdeathsig=KILL", "--", "/bin/sh", "-c", _INIT, "init", *command]


def _plan_mount(mount: Mount) -> dict[str, Any]:
    return {
        "source": str(mount.source),
        "target": str(mount.target),
        "writable": mount.writable,
        "late": _is_below(mount.target, _LATE),
        "in_scratch": is_in_scratch(mount.target),
    }


def _list_folders(mounts: Sequence[Mount]) -> list[str]:
    """The folders that the container's own layer needs, the higher first."""
    parents = [parent for parent in _list_parents(mounts) if not is_in_scratch(parent) and not _is_below(parent, _LATE)]
    wanted = {*parents, *SCRATCH, *(parent for folder in SCRATCH for parent in folder.parents), _ETC} - {Path("/")}
    return [str(folder) for folder in sorted(wanted, key=lambda path: (len(path.parts), path))]


def _list_parents(mounts: Iterable[Mount]) -> list[Path]:
    found = {parent for mount in mounts for parent in mount.target.parents} - {Path("/")}
    return sorted(found, key=lambda path: (len(path.parts), path))


def _decide_owner(mode: str, base: int, uid: int) -> int:
    """What everybody may write to is root's, all else the agent's."""
    return base if mode.startswith("1") else uid


def is_in_scratch(path: Path) -> bool:
    """Whether the container's memory for temporary files would hide it."""
    return any(path != folder and path.is_relative_to(folder) for folder in SCRATCH)


def _is_below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)


def _escape(path: Path) -> str:
    """A path as nspawn reads it in `--bind`."""
    return str(path).replace("\\", "\\\\").replace(":", "\\:")
