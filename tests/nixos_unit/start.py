"""What the unit of a NixOS container executes, by the facts: becomes systemd-nspawn with what the conf says.

The variables are those of the conf, and NAME. What the hive's driver always clears (addresses, a bridge) is refused.
"""

import os
import sys
from pathlib import Path

_ADDRESSES = ("HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "HOST_BRIDGE", "HOST_PORT")
_NIX = Path("/nix/var/nix")


def main() -> None:
    name = os.environ["NAME"]
    for key in _ADDRESSES:
        if os.environ.get(key):
            sys.exit(f"{key} is set: this unit gives no addresses")
    root = Path("/var/lib/nixos-containers", name)
    _make_root(root)
    kept = [_NIX / kind / "per-container" / name for kind in ("profiles", "gcroots")]
    for folder in kept:
        folder.mkdir(parents=True, exist_ok=True)
    users = os.environ.get("PRIVATE_USERS", "")
    mapped = ":idmap" if users == "pick" or (users.isdigit() and int(users) > 0) else ""
    argv = ["systemd-nspawn", "--keep-unit", f"--machine={name}", f"--directory={root}"]
    argv += ["--notify-ready=yes", "--kill-signal=SIGRTMIN+3", "--link-journal=try-guest"]
    argv += ["--private-network"] if os.environ.get("PRIVATE_NETWORK") == "1" else []
    argv += [f"--private-users={users}"] if users else []
    argv += [f"--bind-ro={path}:{path}{mapped}" for path in ("/nix/store", _NIX / "db", _NIX / "daemon-socket")]
    argv += [f"--bind={folder}:{folder.parents[1]}{mapped}" for folder in kept]
    # As a shell would without quotes.
    argv += os.environ.get("EXTRA_NSPAWN_FLAGS", "").split()
    argv += [str(_NIX / "profiles/system/init")]
    # What it boots is a systemd with control groups of version 2.
    os.environ["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    os.execvp(argv[0], argv)


def _make_root(root: Path) -> None:
    for folder in ("usr/bin", "etc", "var/lib", "root"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for file in ("os-release", "machine-id"):
        path = root / "etc" / file
        if not path.is_symlink():
            path.touch()
    if os.environ.get("COPY_RESOLV_CONF") == "1":
        resolv = root / "etc/resolv.conf"
        resolv.unlink(missing_ok=True)
        resolv.write_bytes(Path("/etc/resolv.conf").read_bytes())


if __name__ == "__main__":
    main()
