"""The sandbox of a container, as arguments of bubblewrap. Pure, but for `observe_machine`.

What is inside: the host's /usr read-only, a few files of /etc, the folders of Python and of this program, the mounts
of the spec; /tmp and the home are memory of the container. All else is not there. Namespaces of every kind are its
own, but for the network's where the spec says so; no capability is left, and no further user namespace can be made
(they are how kernel bugs are reached).
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import hyperhive
from hyperhive.host.drivers.protocol import ContainerSpec, DriverError, Mount

# The agent's user inside, whatever its uid on the host.
INNER_UID = 1000
HOME = Path("/home/agent")
_TMP = Path("/tmp")  # noqa: S108 - inside the container
# Memory of the container: bounded, as what is in it is nobody's limit but the machine's.
SCRATCH_LIMIT_BYTES = 1024 * 1024 * 1024
SHM_LIMIT_BYTES = 256 * 1024 * 1024
SCRATCH = {_TMP: "1777", HOME: "0700"}

# What programs need of /etc. Never all of it: it holds what the host's people trust to be theirs.
_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "protocols",
    "services",
    # Not all of ssl: beside the certificates it has private keys.
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
_TOP_FOLDERS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
# Where a spec may not mount: the sandbox itself is made of them.
_RESERVED = (*_TOP_FOLDERS, "dev", "etc", "proc", "sys", "usr")

ACCOUNT_FILES = {
    "passwd": f"agent:x:{INNER_UID}:{INNER_UID}:agent:{HOME}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": f"agent:x:{INNER_UID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine has that every sandbox shows: folders to bind, and links to make (text, where).

    `resolver` is for those that are in the host's network: what says where names are looked up.
    """

    mounts: tuple[Mount, ...]
    links: tuple[tuple[str, Path], ...] = ()
    resolver: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The arguments of the bubblewrap that is the sandbox, and of the one around it that prepares its files.

    `prepare` is None where one does it all. As root there are two: the outer one, as root, makes a file system
    of folders that the container's uid could not walk to; the inner one, as that uid and without any
    privilege, is the sandbox.
    """

    arguments: tuple[str, ...]
    prepare: tuple[str, ...] | None = None


def observe_machine() -> Machine:
    """What is on this machine now."""
    mounts = [Mount(Path("/usr"), Path("/usr"))]
    links: list[tuple[str, Path]] = []
    for name in _TOP_FOLDERS:
        path = Path("/") / name
        if path.is_symlink():
            links.append((str(path.readlink()), path))
        elif path.is_dir():
            mounts.append(Mount(path, path))
    mounts += [Mount(path, path) for name in _ETC if (path := Path("/etc") / name).exists()]
    python = Path(sys.base_prefix)
    places = (python, python.resolve(), Path(sys.prefix), Path(sys.executable).resolve())
    mounts += plan_program_mounts([*places, Path(hyperhive.__file__).parent])
    resolver = tuple(Mount(path, path) for path in (Path("/etc/resolv.conf"),) if path.exists())
    return Machine(tuple(mounts), tuple(links), resolver)


def plan_program_mounts(places: Iterable[Path]) -> list[Mount]:
    """`places` at their own paths, without those that /usr or another of them has already."""
    mounts: list[Mount] = []
    for place in sorted(set(places), key=lambda path: (len(path.parts), path)):
        covered = [Path("/usr"), *(mount.target for mount in mounts)]
        if not any(place.is_relative_to(other) for other in covered):
            mounts.append(Mount(place, place))
    return mounts


def check_mounts(mounts: Sequence[Mount]) -> None:
    """Raises DriverError for a mount that is not there, that would replace a part of the sandbox, or is in another.

    A mount inside a writable one would be made along links that the agent has put there.
    """
    targets = [mount.target for mount in mounts]
    for mount in mounts:
        target = mount.target
        if not target.is_absolute() or ".." in target.parts or len(target.parts) < 2 or target in SCRATCH:
            raise DriverError(f"nothing can be mounted at {target}", "choose an absolute path of its own")
        if target.parts[1] in _RESERVED:
            raise DriverError(f"nothing can be mounted at {target}", f"/{target.parts[1]} is the system's")
        if any(other != target and target.is_relative_to(other) for other in targets) or targets.count(target) > 1:
            raise DriverError(f"the mount at {target} is inside another one", "choose a path of its own")
        if not mount.source.exists():
            raise DriverError(f"{mount.source} is to be mounted and is not there", "make it first")


def plan_sandbox(
    spec: ContainerSpec, machine: Machine, accounts: Path, *, status_fd: int, alive_fd: int, as_root: bool
) -> Sandbox:
    """The sandbox of one container.

    `accounts` is the folder of ACCOUNT_FILES. bubblewrap reports to `status_fd`; `alive_fd` stays open in its
    processes as long as the container lives. The command has neither.
    """
    mounts = [*machine.mounts, *spec.mounts, *(machine.resolver if spec.host_network else ())]
    mounts += [Mount(accounts / name, Path("/etc") / name) for name in ACCOUNT_FILES]
    scratch = [mount for mount in mounts if _in_scratch(mount.target)]
    view = ["--proc", "/proc", *_render_devices(), *_render_scratch()]
    if not as_root:
        system = render_mounts([mount for mount in mounts if mount not in scratch], machine.links)
        arguments = [*system, *view, *render_mounts(scratch)]
        return Sandbox((*_render_isolation(spec, status_fd, alive_fd), *arguments, *_render_end(spec)))
    # What the outer one has mounted below a scratch folder is bound anew on top of it.
    again = [replace(mount, source=mount.target) for mount in scratch]
    arguments = ["--bind", "/", "/", *view, *render_mounts(again)]
    return Sandbox(
        arguments=(*_render_isolation(spec, status_fd, alive_fd), *arguments, *_render_end(spec)),
        prepare=tuple(_render_preparation(mounts, machine.links)),
    )


def _render_preparation(mounts: Sequence[Mount], links: Sequence[tuple[str, Path]]) -> list[str]:
    folders = [*_list_parents(SCRATCH), *SCRATCH]
    scratch = [part for folder in folders for part in _render_folder(folder)]
    # The host's own proc: the kernel lets the inner bubblewrap mount another only where it sees a whole one.
    # It is hidden below that one, and cannot be uncovered without a capability.
    system = ["--dev-bind", "/proc", "/proc", "--dev", "/dev"]
    return [*scratch, *render_mounts(mounts, links), *system, "--remount-ro", "/"]


def _render_isolation(spec: ContainerSpec, status_fd: int, alive_fd: int) -> list[str]:
    return [
        *("--unshare-all", *(("--share-net",) if spec.host_network else ()), "--unshare-user", "--disable-userns"),
        *("--die-with-parent", "--new-session"),
        *("--uid", str(INNER_UID), "--gid", str(INNER_UID)),
        *("--hostname", spec.name),
        *("--json-status-fd", str(status_fd), "--sync-fd", str(alive_fd)),
    ]


def _render_devices() -> list[str]:
    shared_memory = ("--perms", "1777", "--size", str(SHM_LIMIT_BYTES), "--tmpfs", "/dev/shm")  # noqa: S108
    return ["--dev", "/dev", *shared_memory, "--remount-ro", "/dev"]


def _render_scratch() -> list[str]:
    arguments: list[str] = []
    for folder, mode in SCRATCH.items():
        parents = [part for parent in _list_parents([folder]) for part in _render_folder(parent)]
        size = str(SCRATCH_LIMIT_BYTES)
        arguments += [*parents, "--perms", mode, "--size", size, "--tmpfs", str(folder)]
    return arguments


def _render_end(spec: ContainerSpec) -> list[str]:
    environment = [part for key, value in sorted(spec.environment.items()) for part in ("--setenv", key, value)]
    return ["--remount-ro", "/", "--clearenv", *environment, "--chdir", str(spec.working_folder)]


def render_mounts(mounts: Sequence[Mount], links: Sequence[tuple[str, Path]] = ()) -> list[str]:
    """bubblewrap's arguments for mounts, the higher first, in folders that everybody may enter, and for links."""
    arguments: list[str] = []
    for parent in _list_parents(mount.target for mount in mounts):
        arguments += _render_folder(parent)
    for mount in sorted(mounts, key=lambda mount: len(mount.target.parts)):
        arguments += ["--bind" if mount.writable else "--ro-bind", str(mount.source), str(mount.target)]
    for text, where in links:
        arguments += ["--symlink", text, str(where)]
    return arguments


def _render_folder(folder: Path) -> list[str]:
    # Left to itself, bubblewrap makes folders for their maker only.
    return ["--perms", "0755", "--dir", str(folder)]


def _list_parents(targets: Iterable[Path]) -> list[Path]:
    """All folders above `targets`, each once, the higher first, without what is there anyway."""
    found = {parent for target in targets for parent in target.parents}
    return sorted(found - {Path("/"), *SCRATCH}, key=lambda path: (len(path.parts), path))


def _in_scratch(path: Path) -> bool:
    return any(path != folder and path.is_relative_to(folder) for folder in SCRATCH)
