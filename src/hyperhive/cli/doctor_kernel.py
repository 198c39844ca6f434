"""What containers of root need of the kernel, and of the disk that they are on: each feature is tried."""

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from hyperhive.cli.doctor_checks import PROBE_TIMEOUT_S, Check, missing, ok, parse_version, warn
from hyperhive.system import kernel_probe
from hyperhive.system.process import ProcessError, run

# The first kernel whose overlayfs takes id-mapped layers.
KERNEL_NEEDED = (5, 19)
_KERNEL_MEND = "start a kernel of 5.19 or later, or use HIVE_DRIVER=bubblewrap"
_NAMESPACE_MEND = "sysctl -w user.max_user_namespaces=15000"
_MAPPED = "id-mapped mounts"
# By the feature, what mends it: for containers that have images, and for those of NixOS.
IMAGE_FEATURES: Mapping[str, str] = {
    "user namespaces": _NAMESPACE_MEND,
    "overlayfs": "modprobe overlay",
    _MAPPED: "put the data folder on ext4, xfs or btrfs (HIVE_DATA), or use HIVE_DRIVER=bubblewrap",
}
NIXOS_FEATURES: Mapping[str, str] = {
    "user namespaces": _NAMESPACE_MEND,
    _MAPPED: "mount ext4, xfs, btrfs, or ZFS 2.2 or later there",
}


def check_kernel_version() -> Check:
    return judge_kernel_version(platform.release())


def judge_kernel_version(release: str) -> Check:
    """Whether overlayfs takes id-mapped layers, by the kernel's version."""
    if parse_version(release) >= KERNEL_NEEDED:
        return ok("kernel", release)
    return missing("kernel", f"{release}: images need Linux 5.19 or later", _KERNEL_MEND)


async def check_features(place: Path, mends: Mapping[str, str]) -> list[Check]:
    """Whether root may use the features that `mends` names, on the disk of `place`, which need not be there yet."""
    folder = next(path for path in (place, *place.parents) if path.exists())
    argv = [sys.executable, "-I", "-S", kernel_probe.__file__, str(folder)]
    try:
        done = await run(argv, timeout_s=PROBE_TIMEOUT_S)
    except ProcessError as error:
        return [warn("kernel features", f"not known: {error}", "try it again")]
    return judge_features(done.stdout, folder, mends)


def judge_features(answer: bytes, folder: Path, mends: Mapping[str, str]) -> list[Check]:
    """What `kernel_probe` says of the kernel and the disk of `folder`."""
    try:
        reasons = {name: str(json.loads(answer)[name]) for name in mends}
    except (ValueError, KeyError, TypeError):
        return [warn("kernel features", "not known: what looks at them said nothing", "try it again")]
    where = {_MAPPED: f"on the disk of {folder}"}
    return [
        missing(name, f"{where.get(name, 'refused')}: {reason}", mends[name])
        if reason
        else ok(name, where.get(name, "can be used"))
        for name, reason in reasons.items()
    ]
