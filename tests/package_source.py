"""A source of packages for apt: a folder on this machine, with packages made by dpkg-deb."""

import hashlib
import subprocess
from pathlib import Path


def put_package(folder: Path, name: str, *, depends: str = "") -> Path:
    """Adds a package, whose script writes `/etc/<name>` when root installs it, to the source. Returns its file."""
    control = folder / name / "DEBIAN"
    control.mkdir(parents=True)
    about = f"Package: {name}\nVersion: 1:1.0\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
    if depends:
        about += f"Depends: {depends}\n"
    (control / "control").write_text(about)
    (control / "postinst").write_text(f"#!/bin/sh\n[ $(id -u) = 0 ] && echo by root >/etc/{name}\n")
    (control / "postinst").chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", folder / name], check=True, capture_output=True)
    file = folder / f"{name}.deb"
    content = file.read_bytes()
    where = f"Filename: ./{file.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    with (folder / "Packages").open("a") as packages:
        packages.write(f"{about}{where}\n")
    return file
