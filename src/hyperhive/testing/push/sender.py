"""Who sent a push: the check of its token, as push services do it (RFC 8292)."""

import json
import re
from dataclasses import dataclass
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from hyperhive.testing.push.browser import to_bytes

LIFETIME_LIMIT_S = 24 * 3600
_HEADER = re.compile(r"vapid t=([A-Za-z0-9_.-]+), ?k=([A-Za-z0-9_-]+)")


class NotAuthorizedError(Exception):
    """The request is nobody's, or not of whom the subscription is for. `status` is that of the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Claims:
    audience: str
    expires_at: float
    contact: str
    key: str


def check_authorization(header: str, *, origin: str, at: float, key: str) -> Claims:
    """What the token of a request says. `key` is the one that the subscription is for. Raises NotAuthorizedError."""
    found = _HEADER.fullmatch(header)
    if found is None:
        raise NotAuthorizedError(401, "there is no vapid token")
    token, sender = found.groups()
    claims = check_token(token, sender)
    if sender != key:
        raise NotAuthorizedError(403, "the subscription is for another sender")
    if claims.audience != origin:
        raise NotAuthorizedError(403, f"the token is for {claims.audience}, not for {origin}")
    if not at < claims.expires_at <= at + LIFETIME_LIMIT_S:
        raise NotAuthorizedError(403, "the token is over, or lives too long")
    if not re.fullmatch(r"(mailto:|https://).+", claims.contact):
        raise NotAuthorizedError(403, "the token names no contact")
    return claims


def check_token(token: str, sender: str) -> Claims:
    """The claims of a token that `sender`, a public key, has signed. Raises NotAuthorizedError."""
    try:
        head, body, signature = token.split(".")
        header, claims = _parse(head), _parse(body)
        raw = to_bytes(signature)
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), to_bytes(sender))
    except ValueError as error:
        raise NotAuthorizedError(401, f"the token cannot be read: {error}") from error
    if header.get("alg") != "ES256" or len(raw) != 64:
        raise NotAuthorizedError(401, "the token is not signed by ES256")
    encoded = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        public.verify(encoded, f"{head}.{body}".encode(), ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise NotAuthorizedError(401, "the token is signed by somebody else") from error
    expires_at = claims.get("exp")
    if not isinstance(expires_at, int):
        raise NotAuthorizedError(401, "the token does not say when it ends")
    return Claims(str(claims.get("aud")), expires_at, str(claims.get("sub", "")), sender)


def _parse(part: str) -> dict[str, Any]:
    value: object = json.loads(to_bytes(part))
    if not isinstance(value, dict):
        raise ValueError("a part is no object")  # noqa: TRY004 - what cannot be read is told by one kind of error
    return cast("dict[str, Any]", value)
