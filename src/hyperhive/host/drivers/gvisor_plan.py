"""What a container of gVisor is made of: the plan for `nspawn_launch.py`, and the bundle that `runsc` reads. Pure.

The files are those of the nspawn driver, put together in the same way. What runs on them has gVisor's kernel instead of
this machine's: its own /proc, /dev, /sys, its own memory for temporary files, no device and no network of ours.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hyperhive.core.uids import INNER_UID, RANGE_WIDTH, range_start
from hyperhive.host.drivers.nspawn_plan import Program, is_in_scratch, plan_launch
from hyperhive.host.drivers.protocol import ContainerSpec, Mount
from hyperhive.host.drivers.sandbox import SCRATCH, SCRATCH_LIMIT_BYTES, SHM_LIMIT_BYTES

# Where the launch puts the files together, in memory that only its own mount namespace has: what serves them to the
# container is of the container's range, and could not walk to a folder below the driver's own.
_STAGE = Path("/run/systemd/hyperhive")
_ROOT = _STAGE / "root"
_NO_CAPABILITIES = {kind: list[str]() for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")}
# The first process inside: reaps, and tells outside by its standard input, a socket, that the command is there, and at
# last with which status it ended. With it ends all inside. TERM is handed on. A shell has what it starts in the
# background ignore two signals, which the command must not.
_INIT = """
exec 3<&0 </dev/null
trap 'kill -TERM "$child" 2>/dev/null' TERM
command -v -- "$1" >/dev/null || { echo "$1: no such program" >&2; exit 127; }
/usr/bin/env --default-signal=INT,QUIT "$@" 3<&- &
child=$!
echo here >&3
while :; do
    wait "$child"; status=$?
    kill -0 "$child" 2>/dev/null || break
done
echo "$status" >&3
exit "$status"
"""


def name_sandbox(name: str, place: Path) -> str:
    """What runsc calls the container: it opens a socket of that name, which must not be another hive's."""
    return f"{name}-{hashlib.sha256(str(place).encode()).hexdigest()[:10]}"


def render_runsc(place: Path) -> list[str]:
    """The argv of runsc for one container, up to what it is to do."""
    return ["runsc", f"--root={place}/runsc", "--ignore-cgroups"]


def plan_sandbox(
    spec: ContainerSpec, layers: Sequence[Path], program: Program, *, place: Path, output: int, path: str, resolver: str
) -> dict[str, Any]:
    """The plan for one container of a spec with a uid that has a range. The arguments are those of `plan_launch`."""
    plan = plan_launch(
        spec,
        layers,
        program,
        place=place,
        output=output,
        denied=b"",
        path=path,
        managed=False,
        resolver=resolver,
    )
    network = "host" if spec.host_network else "none"
    options = [
        f"--network={network}",
        "--host-uds=open",
        "--overlay2=none",
        "--oci-seccomp",
        f"--log={place}/runsc.log",
    ]
    run = [*render_runsc(place), *options, "run", f"--bundle={place}/bundle", name_sandbox(spec.name, place)]
    folders = {*plan["folders"], *(str(parent) for mount in spec.mounts for parent in mount.target.parents[:-1])}
    return {
        **plan,
        "stage": str(_STAGE),
        "gated": False,
        "folders": sorted(folders, key=lambda folder: (folder.count("/"), folder)),
        "mounts": [{**mount, "late": False} for mount in plan["mounts"]],
        "nspawn": run,
        "nspawn_environment": {"PATH": path},
        "inside": {},
    }


def render_bundle(spec: ContainerSpec, program: Sequence[Mount]) -> dict[str, Any]:
    """The `config.json` of the container, of the OCI's kind. `program` are the folders that the harness is in."""
    assert spec.uid is not None
    mapping = [{"containerID": 0, "hostID": range_start(spec.uid), "size": RANGE_WIDTH}]
    kinds = ("pid", "ipc", "uts", "mount", "user", *(() if spec.host_network else ("network",)))
    return {
        "ociVersion": "1.0.2",
        "process": render_process(
            spec.environment, spec.working_folder, ["/bin/sh", "-c", _INIT, "init", *spec.command]
        ),
        # It is read-only already; runsc would make it so anew, without the flags that it may not take away.
        "root": {"path": str(_ROOT), "readonly": False},
        "hostname": spec.name,
        "mounts": [*_render_memory(), *map(_render_mount, _list_bound(spec, program))],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "uidMappings": mapping,
            "gidMappings": mapping,
        },
    }


def render_process(environment: Mapping[str, str], working_folder: Path, command: Sequence[str]) -> dict[str, Any]:
    """A process of the container, as the OCI writes it: the agent's user, without any privilege."""
    return {
        "terminal": False,
        "user": {"uid": INNER_UID, "gid": INNER_UID},
        "args": list(command),
        "env": [f"{key}={value}" for key, value in environment.items()],
        "cwd": str(working_folder),
        "capabilities": _NO_CAPABILITIES,
        "noNewPrivileges": True,
    }


def _list_bound(spec: ContainerSpec, program: Sequence[Mount]) -> list[Mount]:
    """Those of the spec, and what the sandbox's own memory for temporary files would hide of the program."""
    hidden = [mount for mount in program if is_in_scratch(mount.target)]
    return sorted([*hidden, *spec.mounts], key=lambda mount: len(mount.target.parts))


def _render_memory() -> list[dict[str, Any]]:
    scratch = [
        _render_tmpfs(folder, mode, SCRATCH_LIMIT_BYTES, 0 if mode.startswith("1") else INNER_UID)
        for folder, mode in SCRATCH.items()
    ]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        *scratch,
        _render_tmpfs(Path("/dev/shm"), "1777", SHM_LIMIT_BYTES, 0),  # noqa: S108 - inside the container
        _render_tmpfs(Path("/sys"), "0000", 4096, 0),
    ]


def _render_tmpfs(target: Path, mode: str, size_bytes: int, uid: int) -> dict[str, Any]:
    options = ["nosuid", "nodev", f"mode={mode}", f"size={size_bytes}", f"uid={uid}", f"gid={uid}"]
    return {"destination": str(target), "type": "tmpfs", "source": "tmpfs", "options": options}


def _render_mount(mount: Mount) -> dict[str, Any]:
    """From where the launch has bound it already: as a mount of its own, in which the host's changes are seen."""
    options = ["rbind", "nosuid", "nodev", "rw" if mount.writable else "ro"]
    return {"destination": str(mount.target), "type": "bind", "source": f"{_ROOT}{mount.target}", "options": options}
