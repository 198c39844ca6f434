"""A machine for tests with a real systemd as pid 1: booted in a container that has control groups as a machine has.

Its root is a Debian of this machine's suite, built once by mmdebstrap and kept in the cache; each `Booted` works on a
copy. The checkout, its .venv and Python are seen at their own paths, read-only, and the images of tests at /srv/images.
It has no network but its loopback.
Needs root, systemd-nspawn and mmdebstrap (scripts/test installs them); without them it fails, and says so.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import hyperhive
from hyperhive.cli.units.program import observe_program
from hyperhive.host.drivers.image_apt import list_host_sources, select_fetching
from image_cache import find_folder

# To be raised when the same packages would give another root.
RECIPE = 1
PACKAGES = (
    *("systemd", "systemd-sysv", "systemd-container", "dbus", "libpam-systemd"),
    *("python3", "git", "bubblewrap", "ca-certificates", "mmdebstrap", "procps"),
)
BUILD_TIMEOUT_S = 600.0
BOOT_TIMEOUT_S = 90.0
OFF_TIMEOUT_S = 90.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONTROLLERS = "memory pids cpu cpuacct cpuset blkio freezer devices"
# Joins control groups, hides this machine's /run/systemd, and becomes what follows.
_LAUNCH = """
while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift
mount -t tmpfs -o mode=755 tmpfs /run/systemd && exec "$@"
"""
# As pid 1, before systemd: control groups of version 1 are handed to containers read-only.
_INIT = f"""
for c in {_CONTROLLERS}; do
    [ ! -d /sys/fs/cgroup/$c ] || mount -o remount,rw,bind /sys/fs/cgroup/$c
done
exec /lib/systemd/systemd
"""


class RigError(Exception):
    """This machine cannot boot another one; the message says what it takes."""


class Booted:
    """One such machine in `folder`. `boot`, `run`, `power_off`; `remove` at the end, whatever happened."""

    def __init__(self, folder: Path, base: Path | None = None) -> None:
        """`base` is the tree to copy, where another than `find_base()` is wanted."""
        _check_programs()
        self.folder = folder
        self.root = folder / "root"
        self.name = f"hive-booted-{os.getpid()}-{secrets.token_hex(2)}"
        self._groups: list[Path] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0
        _end_orphans()
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base or find_base()}/.", self.root], check=True, timeout=300)
        (self.root / "etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")
        (self.root / "var/log/journal").mkdir(exist_ok=True)
        # The program may be in the home of root here, and every user is to run it there.
        (self.root / "root").chmod(0o755)
        # Nobody sits there.
        (self.root / "etc/systemd/system/console-getty.service").symlink_to("/dev/null")

    @property
    def log(self) -> str:
        """What its console showed."""
        file = self.folder / "console"
        return file.read_text(errors="replace") if file.exists() else ""

    @property
    def seen_root(self) -> Path:
        """Its files with all that is mounted in it, while it runs."""
        return Path(f"/proc/{self._leader}/root")

    def boot(self) -> "Booted":
        """Returns once systemd says that it has started all it is to start."""
        self._groups = _make_groups(self.name)
        with (
            _listening(self.folder / "notify") as (address, channel),
            (self.folder / "console").open("ab") as console,
        ):
            environment = {
                "PATH": _PATH,
                "NOTIFY_SOCKET": address,
                "SYSTEMD_SECCOMP": "0",
                "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes",
            }
            launch = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _LAUNCH, "launch"]
            argv = [*launch, *map(str, self._groups), "--", *self._plan_nspawn()]
            self._process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/"
            )
            self._leader = self._wait_ready(channel)
        return self

    def run(self, *argv: str, check: bool = True, timeout_s: float = 120, **environment: str) -> str:
        """Standard output of `argv`, run as a service of its own by root. With `check` it must succeed."""
        done = self.attempt(*argv, timeout_s=timeout_s, **environment)
        if check and done.returncode != 0:
            raise AssertionError(f"{shlex.join(argv)}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout.strip()

    def attempt(
        self, *argv: str, timeout_s: float = 120, user: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """The same, with its status and standard error."""
        given = [f"--setenv={name}={value}" for name, value in environment.items()]
        # A program may have asked for a service manager's own handle of standard input: there is none to give.
        service = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *given]
        service += [f"--uid={user}"] if user else []
        return subprocess.run(
            [*self._enter(), *service, "--", *argv],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            env={"PATH": _PATH},
        )

    def power_off(self) -> None:
        """As `systemctl poweroff`. Fails if it does not go down by itself."""
        assert self._process is not None
        # nspawn hands it to the systemd inside as the signal that means power off.
        self._process.terminate()
        try:
            self._process.wait(OFF_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it does not power off:\n{self.log[-4000:]}") from error
        finally:
            self.cut_power()

    def remove(self) -> None:
        """Leaves nothing of it: processes, control groups, files."""
        self.cut_power()
        shutil.rmtree(self.root, ignore_errors=True)

    def cut_power(self) -> None:
        """Leaves nothing of it but its files."""
        _end_groups(self._groups)
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None
        _remove_groups(self._groups)
        self._groups = []

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]

    def _plan_nspawn(self) -> list[str]:
        checkout = Path(hyperhive.__file__).parents[2]
        seen = sorted({checkout, *observe_program().folders})
        devices = [path for path in ("/dev/fuse", "/dev/net/tun", "/dev/loop-control") if Path(path).exists()]
        return [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--machine={self.name}"),
            *(f"--directory={self.root}", f"--hostname={self.name}", "--console=pipe", "--private-network"),
            *("--kill-signal=SIGRTMIN+3", "--notify-ready=yes", "--capability=all", "--resolv-conf=off"),
            *(f"--bind={device}" for device in devices),
            *(f"--bind-ro={folder}" for folder in seen if not folder.is_relative_to("/usr")),
            *([f"--bind={find_folder()}:/srv/images"] if find_folder().is_dir() else []),
            *("/bin/sh", "-c", _INIT),
        ]

    def _wait_ready(self, channel: socket.socket) -> int:
        """The pid of its first process, as this machine sees it."""
        deadline, leader = time.monotonic() + BOOT_TIMEOUT_S, 0
        assert self._process is not None
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(TimeoutError):
                told = channel.recv(4096).decode()
                found = re.search(r"^X_NSPAWN_LEADER_PID=(\d+)$", told, re.MULTILINE)
                leader = int(found[1]) if found else leader
                if re.search(r"^READY=1$", told, re.MULTILINE):
                    return leader
        raise RigError(f"no systemd could be booted in a container here (status {self._process.poll()}):\n{self.log}")


@contextlib.contextmanager
def booted(folder: Path) -> Generator[Booted]:
    """A running machine for as long as the context lasts."""
    machine = Booted(folder)
    try:
        yield machine.boot()
    finally:
        machine.remove()


# -- the root ----------------------------------------------------------------------------------------------


def find_base(packages: tuple[str, ...] = PACKAGES) -> Path:
    """The tree that machines are copies of; built if this recipe was not built before. Raises RigError."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "").strip('"')
    if not suite:
        raise RigError("machines for tests are of the suite of this one, which must be a Debian or an Ubuntu")
    made_from = json.dumps([RECIPE, packages, suite, os.uname().machine])
    folder = find_folder().parent / "booted"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    base = folder / hashlib.sha256(made_from.encode()).hexdigest()[:24]
    # Workers of one run that ask at once build one.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base.exists():
            staging = folder / "staging"
            shutil.rmtree(staging, ignore_errors=True)
            _build(suite, staging, folder / "fetching.conf", packages)
            staging.rename(base)
    return base


def _build(suite: str, target: Path, fetching: Path, packages: tuple[str, ...]) -> None:
    config = subprocess.run(
        ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"], check=True, capture_output=True, text=True
    )
    fetching.write_text(select_fetching(config.stdout))
    argv = [
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
        *(f"--include={','.join(packages)}", f"--aptopt={fetching}"),
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "info", "locale")),
        *(suite, str(target), *map(str, list_host_sources())),
    ]
    done = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=BUILD_TIMEOUT_S,
        env={"PATH": _PATH},
    )
    if done.returncode != 0:
        raise RigError(f"mmdebstrap cannot build a root (is the network there?): {done.stderr[-2000:]}")


def _check_programs() -> None:
    if os.geteuid() != 0:
        raise RigError("booting a systemd takes root: run these tests as root")
    for program, package in (("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(program) is None:
            raise RigError(f"{program} is not installed: apt-get install {package}")


# -- control groups ----------------------------------------------------------------------------------------


def _list_trees() -> list[Path]:
    """This process's own control group in every tree that is mounted."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mount, kind, options = Path(before.split()[4]), after.split()[0], set(after.split()[2].split(","))
        if kind == "cgroup2":
            found.append(mount / own.get("", "/").lstrip("/"))
        elif kind == "cgroup":
            path = next((path for names, path in own.items() if names and set(names.split(",")) <= options), "/")
            found.append(mount / path.lstrip("/"))
    return found


def _make_groups(name: str) -> list[Path]:
    """A group in each tree, so that the systemd in it rules over its own alone. Raises RigError."""
    groups: list[Path] = []
    for tree in _list_trees():
        group = tree / name
        try:
            group.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (tree / file).exists() and (group / file).exists():
                    (group / file).write_text((tree / file).read_text())
        except OSError as error:
            _remove_groups([*groups, group])
            raise RigError(f"no control group can be made in {tree}: {error.strerror}") from error
        groups.append(group)
    return groups


def _list_members(group: Path) -> list[int]:
    members: list[int] = []
    for file in group.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            members += map(int, file.read_text().split())
    # 0 is one that cannot be seen from here.
    return [pid for pid in members if pid > 0]


def _end_groups(groups: list[Path]) -> None:
    """KILL to all that is in them."""
    deadline = time.monotonic() + 30
    while any(members := [_list_members(group) for group in groups]):
        assert time.monotonic() < deadline, f"these cannot be killed: {members}"
        for pid in {pid for listed in members for pid in listed}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _remove_groups(groups: list[Path]) -> None:
    for group in groups:
        folders = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
        for folder in (*folders, group):
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()


def _end_orphans() -> None:
    """What tests that were killed have left."""
    for tree in _list_trees():
        for group in tree.glob("hive-booted-*"):
            pid = group.name.split("-")[2]
            if not Path(f"/proc/{pid}").exists():
                _end_groups([group])
                _remove_groups([group])


@contextlib.contextmanager
def _listening(path: Path) -> Generator[tuple[str, socket.socket]]:
    """A socket for what nspawn tells of its container, with its address."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(path))
        channel.settimeout(0.5)
        yield str(path), channel
