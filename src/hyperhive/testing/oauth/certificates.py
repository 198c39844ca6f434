"""Certificates for a test: an authority of its own and one server certificate, made by the `openssl` command."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 30
# An elliptic key is made in milliseconds.
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


@dataclass(frozen=True, slots=True)
class Certificates:
    """`ca` is what a client is to trust; `certificate` and `key` are the server's."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path, hosts: Sequence[str], days: int = 30) -> Certificates:
    """Writes an authority and a server certificate for `hosts` into `folder`.

    Raises CalledProcessError if openssl refuses, FileNotFoundError if it is not installed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    ca_key = folder / "ca.key"
    names = ",".join(f"DNS:{host}" for host in hosts)
    _run(
        *("openssl", "req", "-x509", *_KEY, "-days", str(days)),
        *("-subj", "/CN=hyperhive test authority", "-keyout", str(ca_key), "-out", str(made.ca)),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    _run(
        *("openssl", "req", "-x509", *_KEY, "-days", str(days)),
        *("-CA", str(made.ca), "-CAkey", str(ca_key)),
        *("-subj", f"/CN={hosts[0]}", "-keyout", str(made.key), "-out", str(made.certificate)),
        *("-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE"),
        *("-addext", "extendedKeyUsage=serverAuth"),
    )
    return made


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S)
