"""What an agent, or root of its container, might try to get out by calls of the kernel and by who comes in.

As the agent on every kind of driver. As root where a container can have one, with every capability there is in it,
once with the container's filter of system calls and once without any. Nothing makes an agent root of its container:
what if it were. Where nobody can be root, that is what is asserted. What it leaves lying for the daemon to fall into
is in `escape_file_checks.py`.
"""

import asyncio
import ctypes
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import sandbox_checks
from driver_checks import SLEEP, Check
from driver_rig import Rig
from escape_root import may_have_root, run_as_root
from hyperhive.host.drivers.seccomp import render_own_filter

PROBE = Path(__file__).with_name("escape_probe.py").read_text()
_CANARY = f"escape-canary-{os.getpid()}"
_REFUSALS = {
    *("EPERM", "EACCES", "ENOSYS", "ESRCH", "ENOENT", "EINVAL", "ENOSPC", "ENOTTY", "EXDEV", "EROFS", "ENODEV"),
    *("EAFNOSUPPORT", "ENETUNREACH", "ECONNREFUSED", "ENXIO", "EADDRNOTAVAIL", "ENOKEY", "ESTALE", "EBUSY"),
}
# What root of a container may do to the container: all of it is in namespaces of its own.
_ROOTS_OWN = {
    *("open_tree", "fsopen ext4", "uncover what is hidden"),
    *(f"mount {kind}" for kind in ("proc", "sysfs", "cgroup", "cgroup2", "binfmt_misc", "mqueue", "overlay", "bpf")),
}
# And what only the filter of system calls refuses: without it, this is seen of the kernel.
_BEHIND_THE_FILTER = {
    *("io_uring_setup", "userfaultfd", "bpf", "perf_event_open", "add a key to the user's", "request a key"),
    *("the session's keyring", "read the user's keyring", "read the kernel's log"),
    *(f"family {number}" for number in (socket.AF_VSOCK, 30, 38, 44)),
}
# Settings that each namespace has for itself; and pressure, which says when there is much of it.
_OF_NAMESPACES = re.compile(
    r"/proc/(sys/(net|user)/|sys/fs/mqueue/|pressure/(io|cpu|memory|irq)$|kmsg$"
    r"|sys/kernel/(auto_msgmni|ms[g]\w+|sem\w*|shm\w+|ns_last_pid|pid_max|hostname|domainname)$)"
)
# Of version 2 only what sorts processes below its own group; no limit, and nothing at all of version 1.
_OF_GROUPS = re.compile(r"cgroup2: /(cgroup\.(events|procs|stat|threads|controllers|subtree_control|type))$")
# What a kernel of its own does for whom it keeps apart from this machine: it is done to that kernel, see 0033.
_REFUSALS_OF_OWN_KERNEL = {"ENOTSUP", "EHOSTUNREACH", "EEXIST"}
_OWN_KERNELS = {
    *("read the kernel's log", "the session's keyring", "a better nice", "never out of memory"),
    *("clone3 with a user namespace", "clone3 with user and mount namespace"),
    *("make a device in memory", "make a device at home"),
}
_OWN_KERNELS_ROOT = {
    *("say it was another", "a file of another's", "state with devices and bits", "sockets writable"),
    *("uncover what is hidden", *(f"mount {kind}" for kind in ("proc", "sysfs", "cgroup", "devtmpfs", "overlay"))),
    "mount mqueue",
}
# It would move the root of all that runs on that kernel, the probe's too.
_SPARED_ON_OWN_KERNEL = ["pivot_root"]
# The same for what `sandbox_probe.py` tries; and what root may of that anyway, which would mislead the probe.
_PLAIN_OF_OWN_KERNELS_ROOT = {
    *("list /sys", "write /proc/sys/kernel/hostname", "write /proc/sysrq-trigger", "make memory", "give away"),
    "raise a limit",
}
_PLAIN_OF_ROOTS = [
    *("mount tmpfs", "mount over", "uncover proc", "uncover tmp", "chroot", "set the host name", "become root"),
    *("unshare mnt", "unshare net", "unshare pid", "unshare uts", "raw socket", "packet socket"),
]
_PLAIN_OF_OWN_ROOTS = ["unshare user", "become another"]


# -- calls of the kernel -----------------------------------------------------------------------------------


async def no_call_of_the_kernel_gets_the_agent_anywhere(rig: Rig) -> None:
    await rig.run(SLEEP)
    async with _nothing_changed(rig) as changed:
        with prepared(rig.folder, rig.uid_outside("bob")) as wanted:
            wanted["spared"] = _SPARED_ON_OWN_KERNEL if rig.has_own_kernel else []
            found = json.loads(await rig.ask(sys.executable, "-c", PROBE, json.dumps(wanted)))
        check_agents_attempts(found, has_own_kernel=rig.has_own_kernel)
        changed |= found["changed"]


async def no_call_of_the_kernel_gets_its_root_anywhere(rig: Rig) -> None:
    await rig.run(SLEEP)
    if not await may_have_root(rig):
        return
    # A kernel of its own is asked without a filter of ours: there is none for it.
    for program in (b"",) if rig.has_own_kernel else (render_own_filter(), b""):
        async with _nothing_changed(rig) as changed:
            with prepared(rig.folder, rig.uid_outside("bob")) as wanted:
                wanted |= {"place": f"/tmp/root-{len(program)}", "filter": program.hex()}
                wanted["spared"] = _SPARED_ON_OWN_KERNEL if rig.has_own_kernel else []
                done = await run_as_root(rig, sys.executable, "-c", PROBE, json.dumps(wanted))
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)
            check_roots_attempts(found, is_filtered=bool(program), has_own_kernel=rig.has_own_kernel)
            changed |= found["changed"]
        # Its root has changed what binds it there, such as how many namespaces there may be.
        await rig.driver.destroy("alice")
        await rig.run(SLEEP)


def check_agents_attempts(found: dict[str, Any], *, has_own_kernel: bool = False) -> None:
    """Raises AssertionError if what the agent found in `escape_probe.py` is more than it may."""
    if has_own_kernel:
        _check(found["attempts"], _OWN_KERNELS, _REFUSALS | _REFUSALS_OF_OWN_KERNEL)
    else:
        _check(found["attempts"], set(), _REFUSALS)
    assert found["opened"] == []
    _assert_none(path for path in found["writable"] if not _OF_NAMESPACES.match(path))


def check_roots_attempts(found: dict[str, Any], *, is_filtered: bool, has_own_kernel: bool) -> None:
    """The same for root of a container."""
    if has_own_kernel:
        # What opens for writing there is that kernel's.
        _check(found["attempts"], _OWN_KERNELS | _OWN_KERNELS_ROOT, _REFUSALS | _REFUSALS_OF_OWN_KERNEL)
        return
    _check(found["attempts"], _ROOTS_OWN | (set() if is_filtered else _BEHIND_THE_FILTER), _REFUSALS)
    opened = [path for path in found["opened"] if not _OF_GROUPS.match(path)]
    opened = [path.replace("proc: ", "/proc") for path in opened if not path.startswith("binfmt_misc: ")]
    _assert_none(path for path in opened if not _OF_NAMESPACES.match(path))
    _assert_none(path for path in found["writable"] if not _OF_NAMESPACES.match(path))
    assert len(found["changed"]) > 100


async def what_its_root_tries_plainly_gets_nowhere_either(rig: Rig) -> None:
    """With every capability and no filter: files, folders, sockets, ports, processes and other agents."""
    await _leave_a_mark(rig)
    await rig.run(SLEEP)
    if not await may_have_root(rig):
        return
    with sandbox_checks.prepared(rig) as wanted:
        wanted["spared"] = list_spared(has_own_kernel=rig.has_own_kernel)
        done = await run_as_root(rig, sys.executable, "-c", sandbox_checks.PROBE, json.dumps(wanted))
    assert done.returncode == 0, done.stderr
    check_roots_plain_attempts(json.loads(done.stdout), has_own_kernel=rig.has_own_kernel)
    # Whatever it was told inside.
    assert rig.state().stat().st_uid == rig.uid_outside()
    # All that there is for it to see, also what only root may look into.
    look = f"find / -xdev -name '{_CANARY}*'; ls -R /state /home /root /tmp /run /dev /var; true"
    assert _CANARY not in (await run_as_root(rig, "sh", "-c", f"({look}) 2>/dev/null")).stdout


def list_spared(*, has_own_kernel: bool) -> list[str]:
    """What root is not asked to try in `sandbox_probe.py`: it may."""
    return [*_PLAIN_OF_ROOTS, *(_PLAIN_OF_OWN_ROOTS if has_own_kernel else ())]


def check_roots_plain_attempts(found: dict[str, Any], *, has_own_kernel: bool) -> None:
    """Raises AssertionError if root found more there than it may."""
    attempts = {name: outcome for name, outcome in found.items() if isinstance(outcome, str) and " " in name}
    own = _PLAIN_OF_OWN_KERNELS_ROOT if has_own_kernel else set[str]()
    assert len(attempts) > 30
    for name, outcome in attempts.items():
        assert outcome in {*sandbox_checks.REFUSALS, "ENXIO", "EIO"} or name in own, (name, outcome)
    assert (found["interfaces"], found["devices"]) == (["lo"], [])
    assert "setsid" not in found["cmdlines"]


async def _leave_a_mark(rig: Rig) -> None:
    (rig.state("bob") / f"{_CANARY}-file").write_text("hers")
    await rig.run(SLEEP, name="bob")
    assert f"{_CANARY}-file" in await rig.ask("ls", "/state", name="bob")


async def nobody_is_root_of_a_container(rig: Rig) -> None:
    await rig.run(SLEEP)
    code = "import os, pathlib; print(*{p.stat().st_uid for p in pathlib.Path('/proc').glob('[0-9]*')})"
    assert await rig.ask(sys.executable, "-c", code) == "1000\n"
    for program in ("su -c id", "sudo -n id", "pkexec id", "mount -t tmpfs none /state", "newuidmap $$ 0 0 1"):
        assert not (await rig.driver.exec("alice", ("sh", "-c", program), 10)).ok, program


def _assert_none(paths: Iterable[str]) -> None:
    found = list(paths)
    assert not found, found


def _check(attempts: dict[str, str], own: set[str], refusals: set[str]) -> None:
    assert len(attempts) > 75
    # What the machine cannot do at all, nobody can: then there is another error.
    wrong = {name: outcome for name, outcome in attempts.items() if outcome not in refusals and name not in own}
    assert wrong == {}, wrong
    ends = {name: attempts[name] for name in own & attempts.keys()}
    assert set(ends.values()) <= {*refusals, "done"}, ends


@asynccontextmanager
async def _nothing_changed(rig: Rig) -> AsyncGenerator[dict[str, str]]:
    """As `settings_kept`; and how the machine treats the container, and what is in its folders, is as it was."""
    init = (await rig.driver.observe("alice")).pid
    assert init is not None
    before = (_observe_process(init), sorted(rig.hive().iterdir()))
    with settings_kept() as changed:
        yield changed
    assert (_observe_process(init), sorted(rig.hive().iterdir())) == before


def _observe_process(pid: int) -> tuple[int, str]:
    """How nice it is, and how likely to be killed for memory."""
    return os.getpriority(os.PRIO_PROCESS, pid), Path(f"/proc/{pid}/oom_score_adj").read_text()


@contextmanager
def settings_kept() -> Generator[dict[str, str]]:
    """The caller adds which settings of the kernel were changed inside to what; none of the host's is that now."""
    before = {
        path: _read(path) for folder, _, names in os.walk("/proc/sys") for path in map(Path(folder).joinpath, names)
    }
    changed: dict[str, str] = {}
    yield changed
    wrong: list[Path] = []
    for setting, value in changed.items():
        path = Path("/proc/sys", setting)
        # Others of this machine may change one meanwhile, but not to that.
        if path in before and before[path] != value.encode() == _read(path) and setting != "kernel/ns_last_pid":
            wrong.append(path)
            path.write_bytes(before[path])
    assert not wrong, wrong
    _check_formats()


def _check_formats() -> None:
    """The container did not choose what runs programs of the machine."""
    unknown = Path("/tmp") / f"{_CANARY}-format"
    unknown.write_bytes(b"HIVETEST")
    unknown.chmod(0o755)
    try:
        subprocess.run([str(unknown)], check=False)
    except OSError:
        return
    finally:
        unknown.unlink()
    raise AssertionError("a program of the machine was run by what the container chose")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@contextmanager
def prepared(folder: Path, other_uid: int) -> Generator[dict[str, Any]]:
    """Things of the host to be found: shared memory, messages, a queue, a port, a process, files and their numbers."""
    library = ctypes.CDLL(None, use_errno=True)
    key = 0x48_00_00_00 | os.getpid()
    segment = library.shmget(key, 4096, 0o1666)
    messages = library.msgget(key, 0o1666)
    queue = f"/{_CANARY}"
    opened = library.mq_open(queue.encode(), os.O_CREAT | os.O_RDWR, 0o666, None)
    shared = Path("/dev/shm") / _CANARY
    shared.write_text(_CANARY)
    secret = folder / _CANARY
    secret.write_text(_CANARY)
    disk = folder.stat().st_dev
    assert min(segment, messages, opened) >= 0
    try:
        with socket.create_server(("0.0.0.0", 0)) as server:
            port = server.getsockname()[1]
            yield {
                "place": "/tmp/agent",
                "host_pid": os.getpid(),
                "links": ["/etc/passwd", "/run/hive", "/usr/bin/true", "/proc/self/exe", "/proc/1/root"],
                "inodes": [2, secret.stat().st_ino, Path("/etc").stat().st_ino],
                "disk": [os.major(disk), os.minor(disk)],
                "uid": other_uid,
                "ipc_key": key,
                "shm_id": segment,
                "queue": queue,
                "shm_name": _CANARY,
                # Metadata of clouds, this machine by all its names, and its neighbours.
                "addresses": [
                    *(("169.254.169.254", 80), ("169.254.170.2", 80), ("100.100.100.200", 80), ("fd00:ec2::254", 80)),
                    *((host, port) for host in ("127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1")),
                    *((host, port) for host in _list_addresses()),
                    *(("10.0.0.1", 22), ("192.168.0.1", 80), ("224.0.0.1", 53), ("fe80::1", 80)),
                ],
            }
    finally:
        shared.unlink()
        secret.unlink()
        library.mq_unlink(queue.encode())
        os.close(opened)
        # IPC_RMID
        library.shmctl(segment, 0, None)
        library.msgctl(messages, 0, None)


def _list_addresses() -> list[str]:
    return subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()


# -- who comes in ------------------------------------------------------------------------------------------

# All handles, programs, folders and roots of all processes there, again and again for a while: which of them lie on no
# mount of the container, and whether they open for writing.
_LOOK_AT_WHO_COMES_IN = """
import json, os, stat, sys, time
mine = {line.split()[0] for line in open("/proc/self/mountinfo")}
found, seen = {}, set()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            names = [f"fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            names = []
        for name in (*names, "exe", "cwd", "root"):
            path = f"/proc/{pid}/{name}"
            try:
                handle = os.open(path, os.O_PATH)
            except OSError:
                continue
            try:
                seen.add(pid)
                kind = stat.S_IFMT(os.fstat(handle).st_mode)
                lines = open(f"/proc/self/fdinfo/{handle}").read().split()
                mount = lines[lines.index("mnt_id:") + 1] if "mnt_id:" in lines else "?"
                text = os.readlink(path)
                is_told = kind not in (stat.S_IFIFO, stat.S_IFSOCK) and not text.startswith("anon_inode:")
                if is_told and mount not in mine:
                    try:
                        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                        opens = True
                    except OSError:
                        opens = False
                    found[text] = [stat.filemode(kind)[0], opens]
            except OSError:
                pass
            finally:
                os.close(handle)
print(json.dumps({"found": found, "seen": len(seen)}))
"""
_COMING_IN_S = 1.5


async def nothing_that_is_inside_or_comes_in_leads_out(rig: Rig) -> None:
    """By a handle, program or folder of another process there, such as one that the daemon just lets in."""
    await rig.run(SLEEP)
    look = rig.driver.exec("alice", (sys.executable, "-c", _LOOK_AT_WHO_COMES_IN, str(_COMING_IN_S)), 30)
    done, _ = await asyncio.gather(look, _come_in(rig))
    assert done.ok, done
    _check_what_leads_out(rig, json.loads(done.stdout))
    if await may_have_root(rig):
        roots = run_as_root(rig, sys.executable, "-c", _LOOK_AT_WHO_COMES_IN, str(_COMING_IN_S))
        told, _ = await asyncio.gather(roots, _come_in(rig))
        assert told.returncode == 0, told.stderr
        _check_what_leads_out(rig, json.loads(told.stdout))


async def _come_in(rig: Rig) -> None:
    for _ in range(4):
        assert await rig.ask("echo", "well") == "well\n"


def _check_what_leads_out(rig: Rig, told: dict[str, Any]) -> None:
    assert told["seen"] > 2
    if rig.has_own_kernel:
        # All paths are that kernel's: of this machine there are only handles, and those are no folders.
        folders = {path for path, (kind, _) in told["found"].items() if kind == "d"}
        assert folders <= {"/", "/state"} and "host:" not in str(folders), told
        return
    log = str(rig.folder / "containers/alice/log")
    # Its log, which is its own; nothing; and the program of its first process, which nobody can write.
    allowed = {log: ["-", True], "/dev/null": ["c", True], "/usr/bin/bwrap": ["-", False]}
    assert {path: kind for path, kind in told["found"].items() if allowed.get(path) != kind} == {}, told


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        no_call_of_the_kernel_gets_the_agent_anywhere,
        no_call_of_the_kernel_gets_its_root_anywhere,
        what_its_root_tries_plainly_gets_nowhere_either,
        nobody_is_root_of_a_container,
        nothing_that_is_inside_or_comes_in_leads_out,
    )
}
