"""How a request to the egress proxy is read: `CONNECT host:port`, or a plain http request with an absolute address.

What is not plainly the one usual form is refused, so that what was judged is what the server at the other end reads.
A plain request is written anew from what was understood: nothing of it gets through that has not been looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hyperhive.core.egress import BadConnectError, Target, parse_target
from hyperhive.core.egress_entries import HTTP_PORT, METHODS

_REQUEST_LINE = re.compile(r"([A-Za-z]{1,20}) ([!-~]{1,6000}) HTTP/1\.([01])")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_ADDRESS = re.compile(r"http://([^/?#@\\]+)(/[^?#]*)?(\?[^#]*)?", re.IGNORECASE)
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_ODD_PATH = "the path is not in its usual form"
# What another reader may take for a slash, for an end, or decode a second time.
_ODD = re.compile(rb"[\0-\x1f\x7f\\%]")
_LENGTH = re.compile(r"[0-9]{1,15}")

# They concern the connection to the proxy alone, or what is ours to say of the next one.
_OURS = frozenset({"connection", "content-length", "host", "http2-settings", "keep-alive", "te", "trailer", "upgrade"})
# A server that puts names into variables takes `_` and `-` for the same.
_FRAMING = frozenset({"host", "content-length", "transfer-encoding"})

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A plain http request. `path` is decoded and without the query; `head` is what the server is to be sent."""

    target: Target
    method: str
    path: str
    head: bytes
    body_bytes: int


def parse_request(head: bytes) -> Target | PlainRequest:
    """What a request head, with the empty line that ends it, asks for. Raises BadConnectError."""
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    request = _REQUEST_LINE.fullmatch(lines[0])
    headers = [_HEADER.fullmatch(line) for line in lines[1:]]
    if request is None or not all(headers):
        raise BadConnectError(400, "that is no HTTP request")
    method, address, minor = request.groups()
    if method == "CONNECT":
        return parse_target(address)
    if method not in METHODS:
        raise BadConnectError(405, f"this proxy takes CONNECT, {', '.join(METHODS)}")
    return _parse_plain(method, address, minor, [(found[1], found[2].strip(" \t")) for found in headers if found])


def _parse_plain(method: str, address: str, minor: str, headers: Sequence[Header]) -> PlainRequest:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise BadConnectError(400, "the address is not http://host/path: https needs CONNECT")
    authority, path, query = found[1], found[2] or "/", found[3] or ""
    target = _parse_authority(authority)
    decoded = _decode_path(path)
    _check_host(target, minor, headers)
    length = _parse_length(headers)
    sent = _render_head(method, path + query, target, headers, length)
    return PlainRequest(target, method, decoded, sent, length or 0)


def _parse_authority(authority: str) -> Target:
    """`host` or `host:port`, as in an address and as in the header Host."""
    with_port = re.fullmatch(r".*:[0-9]*", authority) and not authority.endswith("]")
    return parse_target(authority if with_port else f"{authority}:{HTTP_PORT}")


def _decode_path(path: str) -> str:
    """The path as the server is to understand it. Raises BadConnectError for one that two readers may read as two."""
    content = unquote_to_bytes(path)
    # A letter that was coded may stand for a limit of another kind: only a slash that is seen as one is one.
    plain = _PATH.fullmatch(path) and not _ODD.search(content) and content.count(b"/") == path.count("/")
    segments = [segment.partition(b";")[0] for segment in content.split(b"/")]
    if not plain or path.startswith("//") or b"." in segments or b".." in segments:
        raise BadConnectError(400, _ODD_PATH)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadConnectError(400, _ODD_PATH) from error


def _check_host(target: Target, minor: str, headers: Sequence[Header]) -> None:
    given = [value for name, value in headers if name.lower() == "host"]
    if len(given) > 1 or (not given and minor == "1"):
        raise BadConnectError(400, "the header Host is not there once")
    if given and (not given[0] or _parse_authority(given[0]) != target):
        raise BadConnectError(400, "the header Host names another host than the address")


def _parse_length(headers: Sequence[Header]) -> int | None:
    names = [name.lower() for name, _ in headers]
    if any("_" in name and name.replace("_", "-") in _FRAMING for name in names):
        raise BadConnectError(400, "a header has '_' where '-' belongs")
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(length) for length in lengths):
        raise BadConnectError(400, "the header Content-Length is not one number")
    if "transfer-encoding" in names:
        raise BadConnectError(411, "a body needs its Content-Length: no Transfer-Encoding is taken")
    return int(lengths[0]) if lengths else None


def _render_head(method: str, address: str, target: Target, headers: Sequence[Header], length: int | None) -> bytes:
    said = ",".join(value for name, value in headers if name.lower() == "connection")
    named = {part.strip().lower() for part in said.split(",")}
    kept = [(name, value) for name, value in headers if not _is_ours(name.lower(), named)]
    sized = [] if length is None else [("Content-Length", str(length))]
    host = f"[{target.host}]" if ":" in target.host else target.host
    authority = host if target.port == HTTP_PORT else f"{host}:{target.port}"
    all_headers = [("Host", authority), *kept, *sized, ("Connection", "close")]
    lines = [f"{method} {address} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _is_ours(name: str, named: set[str]) -> bool:
    return name in _OURS or name in named or name.startswith("proxy-")
