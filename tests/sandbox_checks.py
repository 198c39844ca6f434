"""What an agent might try to get out of its sandbox, as root's container and as anybody's."""

import json
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driver_checks import SLEEP, Check
from driver_rig import Rig, wait_until

PROBE = Path(__file__).with_name("sandbox_probe.py").read_text()
# keyctl(KEYCTL_GET_KEYRING_ID, the session's) and io_uring_setup: ENOSYS is 38.
_KEYCTL = 250 if os.uname().machine == "x86_64" else 219
_KEYRING = (
    "import ctypes; libc = ctypes.CDLL(None, use_errno=True);"
    f"print(*(ctypes.get_errno() for call in (({_KEYCTL}, 0, -3, 0), (425, 1, None)) if libc.syscall(*call) < 0))"
)
_CANARY = f"canary-{os.getpid()}"
_KERNEL_FILES = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/hostname",
    "/proc/sys/user/max_user_namespaces",
    "/proc/sys/vm/drop_caches",
    "/proc/sysrq-trigger",
    "/proc/kcore",
    "/proc/irq/default_smp_affinity",
    "/dev/kmsg",
    "/sys/power/state",
    "/sys/fs/cgroup/cgroup.procs",
)


async def a_command_gets_nowhere(rig: Rig) -> None:
    with prepared(rig) as wanted:
        code = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {PROBE!r}, sys.argv[1]]))"
        spec = rig.spec(sys.executable, "-c", code, json.dumps(wanted))
        await rig.driver.create(spec)
        await rig.driver.start(spec)
        await rig.driver.observe("alice")
        await _wait_log(rig)
        _check_all(rig, wanted, json.loads(await rig.log()))


async def what_the_driver_runs_inside_gets_nowhere(rig: Rig) -> None:
    await rig.run(SLEEP)
    with prepared(rig) as wanted:
        _check_all(rig, wanted, json.loads(await rig.ask(sys.executable, "-c", PROBE, json.dumps(wanted))))


async def a_program_that_root_left_with_its_bit_set_gives_nothing(rig: Rig) -> None:
    # Unprivileged, the bit is that of the container's own user.
    program = rig.state() / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o6755)
    await rig.run(SLEEP)
    assert await rig.ask("/state/id", "-u") == "1000\n"
    assert (
        await rig.ask("sh", "-c", "cp /state/id /tmp/id; chmod 6777 /tmp/id; /tmp/id -u; /tmp/id -g") == "1000\n1000\n"
    )


async def what_it_mounts_from_outside_shows_no_device(rig: Rig) -> None:
    if os.geteuid() == 0:
        os.mknod(rig.state() / "null", 0o666 | 0o020000, os.makedev(1, 3))
        (rig.state() / "null").chmod(0o666)
    else:
        (rig.state() / "null").symlink_to("/dev/full")
    await rig.run(SLEEP)
    done = await rig.driver.exec("alice", ("sh", "-c", "echo x >/state/null"), 5)
    assert not done.ok


async def links_out_of_its_folder_lead_nowhere(rig: Rig) -> None:
    secret = rig.folder / "secret"
    secret.write_text(_CANARY)
    secret.chmod(0o644)
    (rig.state() / "link").symlink_to(secret)
    (rig.state() / "up").symlink_to("../../../../../../../.." + str(secret))
    await rig.run(SLEEP)
    found = await rig.driver.exec("alice", ("sh", "-c", "cat /state/link /state/up /proc/1/root" + str(secret)), 5)
    assert not found.ok
    assert found.stdout == b""


async def the_operators_keyring_is_closed(rig: Rig) -> None:
    if rig.has_own_kernel:
        # There is only the one of that kernel: it is asked instead of this machine's.
        await rig.run(SLEEP)
        assert await rig.ask("cat", "/proc/version") != Path("/proc/version").read_text()
        assert not (await rig.driver.exec("alice", ("cat", "/proc/keys"), 5)).ok
        return
    # Denied to the command, to its children and to what the driver runs; they would have inherited it.
    await rig.run(f"{sys.executable} -c '{_KEYRING}' >/state/command; echo >/state/ready; {SLEEP}")
    await rig.wait_file("ready")
    assert (rig.state() / "command").read_text() == "38 38\n"
    assert await rig.ask(sys.executable, "-c", _KEYRING) == "38 38\n"
    await rig.driver.stop("alice", 1)


async def another_agents_files_are_nowhere_to_be_found(rig: Rig) -> None:
    (rig.state("bob") / f"{_CANARY}-file").write_text("hers")
    await rig.run(SLEEP, name="bob")
    await rig.run(SLEEP)
    assert f"{_CANARY}-file" in await rig.ask("ls", "/state", name="bob")
    # All there is to see, but for other machinery's huge trees.
    look = f"find / -xdev -name '{_CANARY}*' 2>/dev/null; ls -R /state /home /tmp /run /dev 2>/dev/null; true"
    assert _CANARY not in await rig.ask("sh", "-c", look)


async def _wait_log(rig: Rig) -> None:
    async def told() -> bool:
        return (await rig.log()).endswith("}\n")

    await wait_until(told, "the probe has told what it found")


@contextmanager
def prepared(rig: Rig) -> Generator[dict[str, Any]]:
    """What the probe needs to know, with things on the host to find: a secret, sockets, a process."""
    secret = rig.folder / "operator-secret"
    secret.write_text(_CANARY)
    secret.chmod(0o644)
    with socket.socket(socket.AF_INET) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        abstract.bind(f"\0{_CANARY}")
        abstract.listen()
        operator = _bind_operator_socket(rig)
        bob = rig.state("bob")
        (bob / "notes.md").write_text("hers")
        disk = Path("/").stat().st_dev
        yield {
            "files": [
                *("/etc/shadow", "/etc/gshadow", "/etc/ssh/sshd_config", "/etc/machine-id", "/etc/hostname"),
                *(str(secret), str(bob / "notes.md"), f"/proc/1/root{secret}"),
                *(str(rig.folder / "containers/alice/container.json"), f"/proc/{os.getpid()}/environ"),
                *("/proc/kcore", "/dev/mem", "/dev/vda", "/dev/sda", "/var/run/docker.sock", "/proc/1/mem"),
            ],
            "folders": [
                str(rig.folder),
                str(bob),
                *("/root/.ssh", "/var/lib/hyperhive", "/home/agent/../../lost+found", "/sys", "/agents"),
                # A system of its own has its own.
                *(() if rig.has_image else ("/var", "/home/agent/../..//srv")),
            ],
            "kernel_files": list(_KERNEL_FILES),
            "sockets": [str(operator), f"/proc/1/root{operator}", "/run/dbus/system_bus_socket"],
            "abstract": _CANARY,
            "port": tcp.getsockname()[1],
            "disk": [os.major(disk), os.minor(disk)],
            "uid": rig.uid_outside("bob"),
            "host_pid": os.getpid(),
            # Allowed by a kernel of its own, see `gvisor_checks.py`.
            "spared": ["unshare user"] if rig.has_own_kernel else [],
        }


def _bind_operator_socket(rig: Rig) -> Path:
    path = rig.folder / "hive.sock"
    operator = socket.socket(socket.AF_UNIX)
    rig.sockets.append(operator)
    folder = os.open(rig.folder, os.O_PATH)
    operator.bind(f"/proc/self/fd/{folder}/hive.sock")
    os.close(folder)
    operator.listen()
    path.chmod(0o666)
    return path


def _check_all(rig: Rig, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Nothing was done but what is said here, and nothing of the host was seen."""
    allowed = {
        # It may read the memory of its own first process, and there is none at the beginning.
        "read /proc/1/mem": {"EACCES"} if rig.has_own_kernel else {"EIO"},
        # There is the device, and no terminal behind it.
        "a terminal": {"EIO"} if rig.has_own_kernel else {"ENXIO"},
        # Devices are that kernel's: there is none behind it.
        **({"make memory": {"done"}} if rig.has_own_kernel else {}),
    }
    attempts = {name: outcome for name, outcome in found.items() if isinstance(outcome, str) and " " in name}
    assert len(attempts) > 40
    for name, outcome in attempts.items():
        assert outcome in allowed.get(name, REFUSALS), (name, outcome)
    assert found["interfaces"] == ["lo"]
    assert _CANARY not in found["environs"].replace(json.dumps(wanted), "")
    assert "setsid" not in found["cmdlines"]
    assert found["processes"] <= 5
    assert found["handles"] == []
    assert found["devices"] == []
    assert set(found["top"]) <= _TOP | (_TOP_OF_IMAGES if rig.has_image else set()) | {
        Path(path).parts[1] for path in (sys.prefix, sys.base_prefix, __file__, *_program())
    }
    status = {line[0].rstrip(":"): line[1:] for line in found["status"] if line}
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", *(() if rig.has_own_kernel else ("CapAmb",))):
        assert int(status[kind][0], 16) == 0, kind
    # gVisor says nothing of it, as it cannot be otherwise there.
    assert status.get("NoNewPrivs", ["1"] if rig.has_own_kernel else []) == ["1"]
    assert status["Uid"] == ["1000"] * 4
    assert status["Gid"] == ["1000"] * 4


_TOP = {"bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "state", "tmp", "usr"}
_TOP_OF_IMAGES = {"boot", "media", "mnt", "opt", "root", "srv", "sys", "var"}
REFUSALS = {
    "ENOENT",
    "EPERM",
    "EACCES",
    "EROFS",
    "ECONNREFUSED",
    "ESRCH",
    "EINVAL",
    "ENOSPC",
    "ENOTDIR",
    "EAFNOSUPPORT",
}


def _program() -> list[str]:
    return [str(Path(sys.modules["hyperhive"].__file__ or "/usr"))]


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        a_command_gets_nowhere,
        what_the_driver_runs_inside_gets_nowhere,
        a_program_that_root_left_with_its_bit_set_gives_nothing,
        what_it_mounts_from_outside_shows_no_device,
        links_out_of_its_folder_lead_nowhere,
        the_operators_keyring_is_closed,
        another_agents_files_are_nowhere_to_be_found,
    )
}
