"""What `hive doctor` finds: one check for each thing looked at, with the command that mends it."""

import os
import re
from dataclasses import asdict, dataclass
from enum import StrEnum

from hyperhive.system.process import ProcessError, run

# The claude CLI is a large binary: its first start on a cold disk takes seconds.
PROBE_TIMEOUT_S = 30.0


class CheckStatus(StrEnum):
    OK = "ok"
    # Works without it, or only part of the hive needs it.
    WARN = "warn"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `mend` is the command that mends it, empty when there is nothing to mend."""

    name: str
    status: CheckStatus
    detail: str
    mend: str = ""

    def to_dict(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def ok(name: str, detail: str) -> Check:
    return Check(name, CheckStatus.OK, detail)


def warn(name: str, detail: str, mend: str) -> Check:
    return Check(name, CheckStatus.WARN, detail, mend)


def missing(name: str, detail: str, mend: str) -> Check:
    return Check(name, CheckStatus.MISSING, detail, mend)


def render_install(package: str) -> str:
    """The command that installs a package of Debian's."""
    sudo = "" if os.getuid() == 0 else "sudo "
    return f"{sudo}apt-get install -y {package}"


async def check_program(program: str, package: str) -> Check:
    """Whether a program is there and runs: the first line of what it says is its version."""
    try:
        done = await run([program, "--version"], timeout_s=PROBE_TIMEOUT_S)
    except ProcessError as error:
        return missing(program, str(error), render_install(package))
    if not done.ok:
        return missing(program, done.error_text or f"exit status {done.status}", render_install(package))
    return ok(program, done.stdout.decode("utf-8", "replace").strip().partition("\n")[0])


def parse_version(text: str) -> tuple[int, int]:
    """The first two numbers in it, (0, 0) if there are none."""
    found = re.search(r"\b([0-9]{1,4})\.([0-9]{1,4})", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
