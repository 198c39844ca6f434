"""Which packages a container has whose system is the host's own /usr.

Nothing is installed: what is missing is named, with the command that installs it.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hyperhive.core.config_values import parse_package
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.process import ProcessError, run

DEADLINE_S = 20.0
# The version of a program that no package manager knows of.
UNKNOWN_VERSION = "unknown"
# As in a container.
PROGRAMS_PATH = "/usr/local/bin:/usr/bin:/bin"
# Of the host, where containers have the same: a program that a link takes elsewhere is not there.
_VISIBLE = (Path("/usr"), Path("/bin"))
_DPKG_FORMAT = "${Package}\\t${db:Status-Status}\\t${Version}\\n"
# dpkg-query says so when it does not know one of the packages; that is an answer.
_DPKG_UNKNOWN = 1
_DPKG_LINE = re.compile(r"(?P<package>[^\t]+)\tinstalled\t(?P<version>.+)")


async def observe_packages(
    packages: Sequence[str],
    environment: Mapping[str, str],
    *,
    programs_path: str = PROGRAMS_PATH,
    visible: Sequence[Path] = _VISIBLE,
    timeout_s: float = DEADLINE_S,
) -> dict[str, str]:
    """The version of each of `packages`.

    On a Debian or one like it, that is what dpkg says is installed; anything else may be there as a program of that
    name. `environment` is that of the programs asked. Raises DriverError: it names all that are missing.
    """
    for name in packages:
        _check_name(name)
    dpkg = shutil.which("dpkg-query", path=environment["PATH"])
    versions = await _ask_dpkg(dpkg, packages, environment, timeout_s) if dpkg and packages else {}
    for name in packages:
        if name not in versions and _is_program(name, programs_path, visible):
            versions[name] = UNKNOWN_VERSION
    missing = [name for name in dict.fromkeys(packages) if name not in versions]
    if missing:
        named = " ".join(missing)
        hint = f"apt-get install {named}" if dpkg else f"install with this machine's package manager: {named}"
        raise DriverError(f"not installed on this machine: {', '.join(missing)}", hint)
    return {name: versions[name] for name in packages}


def _check_name(name: str) -> None:
    # Again here: dpkg-query takes patterns, and apt-get what the operator copies.
    try:
        parse_package(name)
    except ValueError as error:
        raise DriverError(str(error)) from error


async def _ask_dpkg(
    dpkg: str, packages: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> dict[str, str]:
    argv = [dpkg, "--show", f"--showformat={_DPKG_FORMAT}", "--", *packages]
    try:
        done = await run(argv, timeout_s=timeout_s, env={**environment, "LC_ALL": "C"}, cwd=Path("/"))
    except ProcessError as error:
        raise DriverError(f"the installed packages are not known: {error}") from error
    if done.status not in {0, _DPKG_UNKNOWN}:
        raise DriverError(f"the installed packages are not known: {done.error_text}", "try `dpkg --audit`")
    found = (_DPKG_LINE.fullmatch(line) for line in done.stdout.decode("utf-8", "replace").splitlines())
    return {line["package"]: line["version"] for line in found if line}


def _is_program(name: str, path: str, visible: Sequence[Path]) -> bool:
    found = shutil.which(name, path=path)
    return found is not None and any(Path(found).resolve().is_relative_to(folder) for folder in visible)
