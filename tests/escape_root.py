"""Root of a container, where it can have one: with every capability that there is inside. See `escape_checks.py`.

Nothing makes an agent that; the suite asks what if it were.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from driver_rig import DEADLINE_S, ENVIRONMENT, Rig
from hyperhive.core.uids import INNER_UID
from hyperhive.host.drivers.gvisor_plan import name_sandbox, render_process, render_runsc
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.system.cgroups import Group

_TIMEOUT_S = 60
# include/uapi/linux/capability.h, as gVisor names them.
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT"
    " SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL"
    " SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
)


async def may_have_root(rig: Rig) -> bool:
    """Whether alice's container knows a uid 0; if not, nobody becomes it, neither from inside nor from outside."""
    init = (await rig.driver.observe("alice")).pid
    inside, _, count = Path(f"/proc/{init}/uid_map").read_text().split()
    if inside == "0":
        return True
    assert (inside, count) == (str(INNER_UID), "1")
    become = "import os; os.setuid(0)"
    refused = await rig.driver.exec("alice", (sys.executable, "-c", become), DEADLINE_S)
    assert b"Invalid argument" in refused.stderr or b"not permitted" in refused.stderr, refused
    assert (await run_as_root(rig, "true")).returncode != 0
    return False


async def run_as_root(rig: Rig, *command: str) -> "subprocess.CompletedProcess[str]":
    """Runs `command` in alice's container as its root."""
    if rig.has_own_kernel:
        return await asyncio.to_thread(run_in_gvisor, rig.folder / "containers", "alice", *command)
    init = (await rig.driver.observe("alice")).pid
    assert init is not None
    return await asyncio.to_thread(enter_as_root, init, *command)


def enter_as_root(
    init: int, *command: str, group: Group | None = None, timeout_s: float = _TIMEOUT_S
) -> "subprocess.CompletedProcess[str]":
    """The same in the container with this first process; as a member of `group`, the container's, if it is given.

    Raises subprocess.TimeoutExpired; what was begun goes on then.
    """
    argv = ["nsenter", f"--target={init}", "--all", "--setuid=0", "--setgid=0", "--", *command]
    return _run(argv if group is None else group.wrap(argv, NspawnDriver.inner_group), timeout_s)


def run_in_gvisor(
    containers: Path, name: str, *command: str, timeout_s: float = _TIMEOUT_S
) -> "subprocess.CompletedProcess[str]":
    """The same in a container of gVisor, whose processes are none of this machine's."""
    place = containers / name
    process = render_process(ENVIRONMENT, Path("/"), command)
    process["user"] = {"uid": 0, "gid": 0}
    capabilities = [f"CAP_{name}" for name in _CAPABILITIES.split()]
    process["capabilities"] = dict.fromkeys(process["capabilities"], capabilities)
    process["noNewPrivileges"] = False
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(process))
        file.flush()
        return _run([*render_runsc(place), "exec", f"--process={file.name}", name_sandbox(name, place)], timeout_s)


def _run(argv: list[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
