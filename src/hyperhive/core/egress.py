"""Which hosts an agent may reach through the egress proxy, and how a request for one is read.

A request is `CONNECT host:port` and nothing else; what is not plainly a name or an address in its one usual form is
refused, so that what was judged is what is looked up.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.policy import Decision, Verdict

# Where claude (2.1.329) gets and refreshes its tokens. The page where the operator logs in is opened in the operator's
# browser, not from the container. It also asks api.anthropic.com whose the tokens are, and logs in without an answer:
# an agent that reached that host could talk to the model past the gateway, and so past its budget.
ACCOUNT_HOSTS = ("platform.claude.com",)

HTTPS_PORT = 443
HEAD_LIMIT_BYTES = 8 * 1024

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME_LIMIT_CHARS = 253
# A last label that is a number makes some readers take the whole name for an address: `127.1`, `0x7f.1`, `2130706433`.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORT_LIMIT = 65535
_REQUEST_LINE = re.compile(r"([A-Za-z]{1,20}) ([!-~]{1,2000}) HTTP/1\.[01]")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")

_NOT_PUBLIC_4 = tuple(
    IPv4Network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
# Within it: special purposes with Teredo, documentation, 6to4 (an IPv4 address in disguise).
_NOT_PUBLIC_6 = tuple(IPv6Network(block) for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))


class BadConnectError(Exception):
    """A request that is no CONNECT of ours. `status` is that of the answer, the message its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for: a name in lower case, or an address in its shortest form."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The network part of an agent's config; `account` says whether its claude has a login of its own."""

    mode: str
    allow: tuple[str, ...] = ()
    account: bool = False


def parse_connect(head: bytes) -> Target:
    """The target of a request head, with the empty line that ends it. Raises BadConnectError."""
    lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    request = _REQUEST_LINE.fullmatch(lines[0])
    if request is None or not all(_HEADER.fullmatch(line) for line in lines[1:]):
        raise BadConnectError(400, "that is no HTTP request")
    if request[1] != "CONNECT":
        raise BadConnectError(405, "this proxy takes CONNECT only: use https")
    return parse_target(request[2])


def parse_target(text: str) -> Target:
    """The target that `host:port` names. Raises BadConnectError."""
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > _PORT_LIMIT:
        raise BadConnectError(400, "the target is not host:port")
    found = _parse_address_6(host[1:-1]) if host[:1] + host[-1:] == "[]" else _parse_name(host)
    if found is None:
        raise BadConnectError(400, "the host is not a name or address in its usual form")
    return Target(found, int(port))


def _parse_name(text: str) -> str | None:
    name = text.removesuffix(".").lower() if text.isascii() else ""
    if not _NAME.fullmatch(name) or len(name) > _NAME_LIMIT_CHARS:
        return None
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return name if _is_address_4(name) and name == text else None
    return name


def _is_address_4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _parse_address_6(text: str) -> str | None:
    try:
        return None if "%" in text else str(IPv6Address(text))
    except AddressValueError:
        return None


def is_address(host: str) -> bool:
    """Whether the host of a `Target` is an address and not a name."""
    return ":" in host or _is_address_4(host)


def decide_egress(policy: EgressPolicy, target: Target) -> Decision:
    """Whether an agent with `policy` may have a tunnel to `target`. The addresses of a name are judged later."""
    host = target.host
    if target.port != HTTPS_PORT:
        return Decision(Verdict.DENY, "port", f"only port {HTTPS_PORT} can be reached")
    if policy.account and host in ACCOUNT_HOSTS:
        return Decision(Verdict.ALLOW, f"account: {host}", "claude's login needs it")
    if policy.mode != "proxied":
        return Decision(Verdict.DENY, f"network.mode: {policy.mode}", "its config lets it reach nobody")
    for entry in policy.allow:
        if _matches(entry, host):
            if is_address(host) and not is_public_address(host):
                return Decision(Verdict.DENY, "address", "it is no public address")
            return Decision(Verdict.ALLOW, f"network.allow: {entry}", f"{entry} is listed")
    return Decision(Verdict.DENY, "network.allow", f"{host} is not listed there")


def _matches(entry: str, host: str) -> bool:
    """`*.example.org` means every name below example.org, and not itself; an address only ever matches itself."""
    if entry.startswith("*."):
        return host.endswith(entry[1:]) and not is_address(host)
    return host == entry


def is_public_address(text: str) -> bool:
    """Whether an address is one that anybody on the internet could reach: nobody's own network, no group, no machine
    itself. What is no address is not."""
    try:
        address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _NOT_PUBLIC_4)
    return address.scope_id is None and address in _PUBLIC_6 and not any(address in block for block in _NOT_PUBLIC_6)


def select_public(addresses: Iterable[str]) -> list[str]:
    """Those of `addresses` that are public, each once, in their order."""
    return [address for address in dict.fromkeys(addresses) if is_public_address(address)]


def parse_egress_map(text: str) -> Mapping[str, tuple[str, int]]:
    """The operator's `HOST=IP:PORT,…`: for each host where its connections go instead. Raises InvalidInputError."""
    found: dict[str, tuple[str, int]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, _, place = entry.partition("=")
        try:
            name, target = parse_target(f"{host}:{HTTPS_PORT}").host, parse_target(place)
        except BadConnectError as error:
            raise InvalidInputError(f"egress-map: {entry[:100]!r}: {error.reason}", _MAP_HINT) from error
        if not is_address(target.host) or name in found:
            raise InvalidInputError(f"egress-map: {entry[:100]!r} is not one host at one address", _MAP_HINT)
        found[name] = (target.host, target.port)
    return found


_MAP_HINT = "it is HOST=IP:PORT, such as example.org=10.0.0.5:8443, with commas between several"
