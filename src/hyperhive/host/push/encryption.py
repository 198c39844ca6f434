"""The content of a push, readable for one browser only: RFC 8291 over `aes128gcm` of RFC 8188. Pure but for the dice.

Only the order of the pieces is ours; curves, hashes and ciphers are the library's.
"""

import base64
import binascii
import os
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hyperhive.core.errors import InvalidInputError

CURVE = ec.SECP256R1()
POINT_BYTES = 65
AUTH_BYTES = 16
SALT_BYTES = 16
# One record holds all of it. Push services take at most 4096 bytes (RFC 8030), of which 103 are not content.
RECORD_BYTES = 4096
CONTENT_LIMIT_BYTES = 3993
# What follows the content of the last record, which ours is.
_LAST = b"\x02"


@dataclass(frozen=True, slots=True)
class BrowserKeys:
    """What a browser gave for its subscription: its public key as an uncompressed point, and a shared secret."""

    point: bytes
    auth: bytes


def parse_browser_keys(p256dh: str, auth: str) -> BrowserKeys:
    """The keys as a page reads them from its subscription. Raises InvalidInputError for what are none."""
    point, secret = decode_base64url(p256dh), decode_base64url(auth)
    if len(secret) != AUTH_BYTES:
        raise InvalidInputError("that is no auth secret of a subscription", _HINT)
    load_point(point)
    return BrowserKeys(point, secret)


def load_point(point: bytes) -> ec.EllipticCurvePublicKey:
    """The public key that an uncompressed point stands for. Raises InvalidInputError for none on the curve."""
    if len(point) != POINT_BYTES:
        raise InvalidInputError("that is no public key of a subscription", _HINT)
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(CURVE, point)
    except ValueError as error:
        raise InvalidInputError("that is no public key of a subscription", _HINT) from error


def render_point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def encrypt(
    content: bytes, keys: BrowserKeys, own: ec.EllipticCurvePrivateKey | None = None, salt: bytes | None = None
) -> bytes:
    """The body of a push. `own` and `salt` are new ones each time unless a test gives them.

    Raises ValueError for content over CONTENT_LIMIT_BYTES.
    """
    if len(content) > CONTENT_LIMIT_BYTES:
        raise ValueError(f"{len(content)} bytes are too much for one push")
    own = own or ec.generate_private_key(CURVE)
    salt = salt or os.urandom(SALT_BYTES)
    point = render_point(own.public_key())
    shared = own.exchange(ec.ECDH(), load_point(keys.point))
    key, nonce = derive_key(shared, keys, point, salt)
    sealed = AESGCM(key).encrypt(nonce, content + _LAST, None)
    return salt + struct.pack("!IB", RECORD_BYTES, POINT_BYTES) + point + sealed


def derive_key(shared: bytes, browser: BrowserKeys, sender_point: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """The key and the nonce of the one record, the same on both sides."""
    info = b"WebPush: info\0" + browser.point + sender_point
    material = HKDF(SHA256(), 32, browser.auth, info).derive(shared)
    key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\0").derive(material)
    nonce = HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\0").derive(material)
    return key, nonce


def decode_base64url(text: str) -> bytes:
    """With or without its padding. Raises InvalidInputError for anything else."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError("that is not base64url", _HINT) from error


def encode_base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


_HINT = "take the keys from PushSubscription.toJSON()"
