"""Which hosts an agent may reach through the egress proxy, and how the name of one is read.

What is not plainly a name or an address in its one usual form is refused, so that what was judged is what is looked
up.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

from hyperhive.core.egress_entries import HTTPS_PORT, Entry, parse_entry
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.policy import Decision, Verdict

# Where claude (2.1.329) gets and refreshes its tokens. The page where the operator logs in is opened in the operator's
# browser, not from the container. It also asks api.anthropic.com whose the tokens are, and logs in without an answer:
# an agent that reached that host could talk to the model past the gateway, and so past its budget.
ACCOUNT_HOSTS = ("platform.claude.com",)

HEAD_LIMIT_BYTES = 8 * 1024
# How the rule of a decision begins that a grant of the operator's made.
GRANTED = "granted: "

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NAME_LIMIT_CHARS = 253
# A last label that is a number makes some readers take the whole name for an address: `127.1`, `0x7f.1`, `2130706433`.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORT_LIMIT = 65535

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
    """A request that is none of ours. `status` is that of the answer, the message its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for: a name in lower case, or an address in its shortest form."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written by people: without the port of https."""
        if self.port == HTTPS_PORT:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The network part of an agent's config; `account` says whether its claude has a login of its own.

    `granted` is what the operator lets it reach for a while beside that: by a tunnel, or by any plain request.
    """

    mode: str
    allow: tuple[str, ...] = ()
    account: bool = False
    granted: tuple[Target, ...] = ()


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


def decide_egress(policy: EgressPolicy, target: Target, method: str = "", path: str = "") -> Decision:
    """Whether an agent with `policy` may have a tunnel to `target`, or with `method` that plain http request to it.

    The addresses of a name are judged later.
    """
    host = target.host
    if is_address(host) and not is_public_address(host):
        return Decision(Verdict.DENY, "address", "it is no public address")
    if policy.account and host in ACCOUNT_HOSTS and target.port == HTTPS_PORT and not method:
        return Decision(Verdict.ALLOW, f"account: {host}", "claude's login needs it")
    if target in policy.granted:
        return Decision(Verdict.ALLOW, f"{GRANTED}{host}:{target.port}", "the operator allowed it for a while")
    if policy.mode != "proxied":
        return Decision(Verdict.DENY, f"network.mode: {policy.mode}", "its config lets it reach nobody")
    for entry in map(parse_entry, policy.allow):
        if _matches(entry, target) and _takes(entry, method, path):
            return Decision(Verdict.ALLOW, f"network.allow: {entry.text}", f"{entry.text} is listed")
    wanted = f"{method} http://{host}:{target.port}" if method else f"{host}:{target.port}"
    return Decision(Verdict.DENY, "network.allow", f"{wanted} is not listed there")


def _takes(entry: Entry, method: str, path: str) -> bool:
    """A tunnel is more than any plain request: an entry for the one never allows the other."""
    if not method:
        return not entry.method
    return bool(entry.method) and entry.takes_method(method) and entry.takes_path(path)


def _matches(entry: Entry, target: Target) -> bool:
    """`*.example.org` means every name below example.org, and not itself; an address only ever matches itself."""
    if entry.port != target.port:
        return False
    if entry.host.startswith("*."):
        return target.host.endswith(entry.host[1:]) and not is_address(target.host)
    return target.host == entry.host


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


def parse_place(text: str) -> Target:
    """The target that `host` or `host:port` names; without a port that of https. Raises BadConnectError."""
    has_port = re.fullmatch(r"[^:]*:[^:]*|\[[^]]*\]:.*", text)
    return parse_target(text if has_port else f"{text}:{HTTPS_PORT}")


def parse_egress_map(text: str) -> Mapping[Target, tuple[str, int]]:
    """The operator's `HOST[:PORT]=IP:PORT,…`: for each target where its connections go instead.

    Without a port it is that of https. Raises InvalidInputError.
    """
    found: dict[Target, tuple[str, int]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        host, _, place = entry.partition("=")
        try:
            name, target = parse_place(host), parse_target(place)
        except BadConnectError as error:
            raise InvalidInputError(f"egress-map: {entry[:100]!r}: {error.reason}", _MAP_HINT) from error
        if not is_address(target.host) or name in found:
            raise InvalidInputError(f"egress-map: {entry[:100]!r} is not one host at one address", _MAP_HINT)
        found[name] = (target.host, target.port)
    return found


_MAP_HINT = "it is HOST[:PORT]=IP:PORT, such as example.org=10.0.0.5:8443, with commas between several"
