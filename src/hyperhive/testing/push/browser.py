"""A browser's side of web push: a subscription with keys of its own, and reading what was sent to it (RFC 8291)."""

import base64
import os
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# salt, record size, length of the key
_HEAD = struct.Struct("!16sIB")
_TAG_BYTES = 16


class UnreadableError(Exception):
    """A body that is not for this subscription, or not as RFC 8188 has it."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """`key` and `auth` never leave a real browser."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def point(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def read(self, body: bytes) -> bytes:
        """The content of a push. Raises UnreadableError."""
        try:
            salt, record_size, length = _HEAD.unpack_from(body)
        except struct.error as error:
            raise UnreadableError("the body has no whole head") from error
        sender, sealed = body[_HEAD.size :][:length], body[_HEAD.size + length :]
        if not _TAG_BYTES < len(sealed) <= record_size:
            raise UnreadableError("the body is not one record")
        key, nonce = self._derive(sender, salt)
        try:
            padded = AESGCM(key).decrypt(nonce, sealed, None)
        except InvalidTag as error:
            raise UnreadableError("the body is not for this subscription") from error
        content, mark = padded.rstrip(b"\0")[:-1], padded.rstrip(b"\0")[-1:]
        if mark != b"\x02":
            raise UnreadableError("the record is not marked as the last")
        return content

    def _derive(self, sender: bytes, salt: bytes) -> tuple[bytes, bytes]:
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
        except ValueError as error:
            raise UnreadableError("the sender's key is no point of the curve") from error
        secret = self.key.exchange(ec.ECDH(), public)
        material = HKDF(SHA256(), 32, self.auth, b"WebPush: info\x00" + self.point + sender).derive(secret)
        key = HKDF(SHA256(), 16, salt, b"Content-Encoding: aes128gcm\x00").derive(material)
        return key, HKDF(SHA256(), 12, salt, b"Content-Encoding: nonce\x00").derive(material)


def to_text(value: bytes) -> str:
    """base64url without padding, as browsers write keys."""
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def to_bytes(text: str) -> bytes:
    """The inverse. Raises ValueError."""
    if not text.isascii() or set(text) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"):
        raise ValueError("that is not base64url without padding")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
