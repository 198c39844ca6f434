"""Who sends a push: the hive's own key pair (RFC 8292). A browser that subscribed to it takes pushes of nobody else."""

import json
import os
import re
import stat
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from hyperhive.core.errors import InvalidInputError, StorageError
from hyperhive.host.push.encryption import CURVE, encode_base64url, render_point
from hyperhive.system.files import write_atomically

# Push services refuse more than a day.
TOKEN_LIFETIME = timedelta(hours=12)
FILE_LIMIT_BYTES = 4096
_NUMBER_BYTES = 32
_HEADER = encode_base64url(b'{"typ":"JWT","alg":"ES256"}')


class Vapid:
    """`contact` is where a push service finds whoever sends, a `mailto:` or `https:` address."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, contact: str) -> None:
        self._key = key
        self._contact = contact
        self.public_key = encode_base64url(render_point(key.public_key()))

    def render_authorization(self, origin: str, at: datetime) -> str:
        """The header that lets one request to a push service of `origin` through."""
        claims = {"aud": origin, "exp": int((at + TOKEN_LIFETIME).timestamp()), "sub": self._contact}
        signed = f"{_HEADER}.{encode_base64url(json.dumps(claims).encode())}"
        # The library's form of a signature is another one than that of a token.
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(SHA256())))
        signature = encode_base64url(r.to_bytes(_NUMBER_BYTES, "big") + s.to_bytes(_NUMBER_BYTES, "big"))
        return f"vapid t={signed}.{signature}, k={self.public_key}"


def parse_contact(text: str) -> str:
    """A `mailto:` or `https:` address. Raises InvalidInputError: push services refuse others, and do not say why."""
    if not re.fullmatch(r"mailto:[!-~]{1,200}@[!-~]{1,200}|https://[!-~]{1,400}", text):
        raise InvalidInputError("push-contact is neither mailto:… nor https:…", "such as mailto:me@example.com")
    return text


def load_vapid(path: Path, contact: str) -> Vapid:
    """The key in `path`; the first time it is made. Raises StorageError for a file that is none of ours.

    It is not made anew by itself: every device would have to subscribe again, and nobody would know.
    """
    try:
        key = _read_key(path)
        if key is None:
            key = ec.generate_private_key(CURVE)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_atomically(path, pem, 0o600)
    except OSError as error:
        raise StorageError(
            f"the key of web push, {path}: {error.strerror}", "see that the daemon can write it"
        ) from error
    return Vapid(key, contact)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
            raise StorageError(f"the key of web push, {path}, can be read by others", f"chmod 600 {path}")
        content = file.read(FILE_LIMIT_BYTES)
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StorageError(f"the key of web push, {path}, cannot be read", _RENEW_HINT) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != CURVE.name:
        raise StorageError(f"the key of web push, {path}, is of another kind", _RENEW_HINT)
    return key


_RENEW_HINT = "restore it, or remove it and enable notifications again on each device"
