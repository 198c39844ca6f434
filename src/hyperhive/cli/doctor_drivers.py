"""What drivers need of the machine: each thing with the command that mends it. Looks only; changes nothing.

Of the driver that the hive starts containers with all is told, thing by thing; of another one a line says what it
would take.
"""

import asyncio
import os
import re
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hyperhive.cli.client import Client, Row
from hyperhive.cli.doctor_checks import (
    PROBE_TIMEOUT_S,
    Check,
    CheckStatus,
    check_program,
    missing,
    ok,
    parse_version,
    render_install,
    warn,
)
from hyperhive.cli.doctor_images import check_images
from hyperhive.cli.doctor_kernel import IMAGE_FEATURES, check_features, check_kernel_version
from hyperhive.cli.doctor_nixos import add_service_environment, check_nixos_machine
from hyperhive.cli.rendering import line_field
from hyperhive.cli.units.place import Place, decide_place
from hyperhive.core.errors import HiveError
from hyperhive.core.paths import Roots
from hyperhive.core.text import render_safe_line
from hyperhive.system.process import ProcessError, run

DEFAULT_DRIVER = "bubblewrap"
ROOT_CHECK = "root"
_WITH_IMAGES = frozenset({"nspawn", "gvisor"})
# The oldest bubblewrap with --disable-userns, and gVisor in which `ls` works, by its date: Debian 13's.
BUBBLEWRAP_NEEDED = (0, 8)
RUNSC_NEEDED = 20240729
# What builds images; gVisor's containers have them, too.
_IMAGE_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "apt-get": "apt",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
# A filter that allows everything: whether there can be one at all is what is asked.
_ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
_WANTED_STATE = {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "CapBnd": "0" * 16}
_STATE_NAMES = {
    "NoNewPrivs": "no bar to new privileges",
    "Seccomp": "no filter of system calls",
    "CapEff": "capabilities",
    "CapBnd": "capabilities that can be had",
}
_DRIVER_LINE = re.compile(r"^\s*HIVE_DRIVER\s*=\s*[\"']?([a-z]{1,40})[\"']?\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the checks are about. `hive` is what a running hive says of itself, None if none runs."""

    roots: Roots
    environment: Mapping[str, str]
    hive: Row | None

    @property
    def client(self) -> Client | None:
        return None if self.hive is None else Client(self.roots, timeout_s=5)


async def check_drivers(asked: Asked) -> list[Check]:
    """The driver in use, what it needs, and a line for each other one."""
    asked = replace(asked, environment=await add_service_environment(asked.environment))
    driver, source = find_driver(asked)
    if driver not in _CHECKS:
        return [missing("driver", f"there is no driver {driver!r}: {source}", f"HIVE_DRIVER={DEFAULT_DRIVER}")]
    found = await asyncio.gather(*(check(asked) for check in _CHECKS.values()))
    by_name = dict(zip(_CHECKS, found, strict=True))
    others = [judge_unused(name, checks) for name, checks in by_name.items() if name != driver]
    own = by_name[driver]
    if driver in _WITH_IMAGES:
        own += [check_images(asked.roots, asked.environment, asked.client)]
    return [ok("driver", f"{driver}, {source}"), *own, *others]


def find_driver(asked: Asked) -> tuple[str, str]:
    """The driver that the hive has or would have, and what says so."""
    if asked.hive is not None and asked.hive.get("driver"):
        return line_field(asked.hive, "driver"), "as the running hive says"
    if asked.environment.get("HIVE_DRIVER"):
        return render_safe_line(asked.environment["HIVE_DRIVER"]), "by HIVE_DRIVER"
    place = _find_place(asked)
    if place is not None and (named := read_driver(place.settings)):
        return named, f"by {place.settings}"
    return DEFAULT_DRIVER, "as nothing else is set"


def _find_place(asked: Asked) -> Place | None:
    """Of the service that runs this hive, if one is to."""
    try:
        place = decide_place(user=os.geteuid() != 0, environment=asked.environment, uid=os.geteuid())
    except HiveError:
        return None
    return place if place.roots == asked.roots else None


def read_driver(settings: Path) -> str:
    """The driver that the service is told; empty if that file says nothing of it or cannot be read."""
    try:
        found = _DRIVER_LINE.findall(settings.read_text("utf-8", "replace"))
    except OSError:
        return ""
    return found[-1] if found else ""


def judge_unused(name: str, checks: Sequence[Check]) -> Check:
    """A driver that is not in use, in a line: nothing about it is wrong."""
    lacking = [check for check in checks if check.status is CheckStatus.MISSING]
    if not lacking:
        return ok(name, f"not in use; could be, with HIVE_DRIVER={name}")
    # That of root is to use this very driver, or another one.
    mends = dict.fromkeys(check.mend for check in lacking if check.mend and check.name != ROOT_CHECK)
    told = f": {'; '.join(mends)}" if mends else ""
    return ok(name, f"not in use; it lacks {', '.join(check.name for check in lacking)}{told}")


# -- bubblewrap ------------------------------------------------------------------------------------------------


async def check_bubblewrap(asked: Asked) -> list[Check]:
    programs = await asyncio.gather(_check_bwrap(), check_program("setsid", "util-linux"))
    return [*programs, *await asyncio.gather(_check_user_namespaces(), _check_sandbox())]


async def _check_bwrap() -> Check:
    check = await check_program("bwrap", "bubblewrap")
    if check.status is not CheckStatus.OK or parse_version(check.detail) >= BUBBLEWRAP_NEEDED:
        return check
    return missing(check.name, f"{check.detail}: containers need bubblewrap 0.8 or later", check.mend or _upgrade())


def _upgrade() -> str:
    return f"{render_install('bubblewrap')}, from Debian 12 or later"


async def _check_user_namespaces() -> Check:
    """Whether a container can be made at all: makes the smallest one."""
    name = "user namespaces"
    argv = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--ro-bind", "/", "/", "true"]
    try:
        done = await run(argv, timeout_s=PROBE_TIMEOUT_S)
    except ProcessError:
        return warn(name, "not known: it takes bwrap to find out", render_install("bubblewrap"))
    if done.ok:
        return ok(name, "a container starts")
    return missing(name, done.error_text, plan_namespace_mend(Path("/proc/sys")))


def plan_namespace_mend(settings: Path) -> str:
    """The command that lets user namespaces be made, from the kernel's settings below `settings`."""
    for key, off, on in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
    ):
        file = settings / key
        if file.is_file() and file.read_text().strip() == off:
            return f"sysctl -w {key.replace('/', '.')}={on}"
    return "sysctl -w user.max_user_namespaces=15000"


async def _check_sandbox() -> Check:
    """Whether what runs in a container has neither privileges nor all system calls: looks from inside of one."""
    name = "sandbox"
    # As root every container has a user of its own.
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    filter_fd, write_fd = os.pipe()
    os.write(write_fd, _ALLOW_ALL)
    os.close(write_fd)
    sandbox = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--ro-bind", "/", "/"]
    argv = [*user, *sandbox, "--seccomp", str(filter_fd), "cat", "/proc/self/status"]
    try:
        done = await run(argv, timeout_s=PROBE_TIMEOUT_S, pass_fds=(filter_fd,))
    except ProcessError:
        return warn(name, "not known: it takes bwrap and setpriv to find out", render_install("bubblewrap util-linux"))
    finally:
        os.close(filter_fd)
    if not done.ok:
        return missing(name, done.error_text, plan_namespace_mend(Path("/proc/sys")))
    return judge_sandbox(done.stdout.decode("utf-8", "replace"))


def judge_sandbox(status: str) -> Check:
    """What `/proc/self/status` says of a process inside."""
    seen = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    wrong = [_STATE_NAMES[key] for key, value in _WANTED_STATE.items() if seen.get(key, "").strip() != value]
    if wrong:
        mend = "start a kernel with seccomp filters (CONFIG_SECCOMP_FILTER), and bubblewrap 0.8 or later"
        return missing("sandbox", f"inside there is {', '.join(wrong)}", mend)
    return ok("sandbox", "no new privileges, no capabilities, a filter of system calls")


# -- nspawn, gvisor, nixos ------------------------------------------------------------------------------------


async def check_nspawn(asked: Asked) -> list[Check]:
    programs = await asyncio.gather(*(check_program(*program) for program in _IMAGE_PROGRAMS.items()))
    return [_check_root("nspawn"), *programs, *await _check_kernel(asked.roots)]


async def check_gvisor(asked: Asked) -> list[Check]:
    programs = await asyncio.gather(_check_runsc(), *(check_program(*program) for program in _IMAGE_PROGRAMS.items()))
    return [_check_root("gvisor"), *programs, *await _check_kernel(asked.roots)]


async def check_nixos(asked: Asked) -> list[Check]:
    is_used = asked.hive is not None and asked.hive.get("driver") == "nixos"
    return [_check_root("nixos"), *await check_nixos_machine(asked.environment, is_used=is_used)]


def _check_root(driver: str) -> Check:
    if os.geteuid() == 0:
        return ok(ROOT_CHECK, f"as {driver} needs it")
    return missing(
        ROOT_CHECK, f"the {driver} driver needs it", "start the hive as root, or with HIVE_DRIVER=bubblewrap"
    )


async def _check_runsc() -> Check:
    check = await check_program("runsc", "runsc")
    return judge_runsc(check) if check.status is CheckStatus.OK else check


def judge_runsc(check: Check) -> Check:
    """`check`, whose detail is what `runsc --version` says; missing if that is too old or cannot be told."""
    found = re.search(r"\b(20\d{6})\b", check.detail)
    if found is not None and int(found[1]) >= RUNSC_NEEDED:
        return check
    why = f"{check.detail}: containers need one of July 2024 or later"
    return missing(check.name, why, "install Debian 13's runsc: it runs on Debian 12, too")


async def _check_kernel(roots: Roots) -> list[Check]:
    # Only root may try the rest.
    features = await check_features(roots.data, IMAGE_FEATURES) if os.geteuid() == 0 else []
    return [check_kernel_version(), *features]


_CHECKS: Mapping[str, Callable[[Asked], Awaitable[list[Check]]]] = {
    "bubblewrap": check_bubblewrap,
    "nspawn": check_nspawn,
    "gvisor": check_gvisor,
    "nixos": check_nixos,
}
