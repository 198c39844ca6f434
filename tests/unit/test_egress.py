"""Which requests for a way out are understood, and which of them are allowed: attempts in tables, and properties."""

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.config_values import parse_reach
from hyperhive.core.egress import (
    ACCOUNT_HOSTS,
    BadConnectError,
    EgressPolicy,
    Target,
    decide_egress,
    is_public_address,
    parse_egress_map,
    parse_target,
    select_public,
)
from hyperhive.core.egress_requests import PlainRequest, parse_request
from hyperhive.core.errors import InvalidInputError
from hyperhive.core.policy import Verdict

POLICY = EgressPolicy("proxied", ("example.org", "*.example.com", "93.184.216.34"))


def may_reach(policy: EgressPolicy, target: str) -> bool:
    """Whether a request for `target` gets as far as a connection."""
    try:
        found = parse_request(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode("utf-8", "surrogateescape"))
    except BadConnectError:
        return False
    assert isinstance(found, Target)
    return decide_egress(policy, found).verdict is Verdict.ALLOW


# -- what is allowed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        *("example.org:443", "EXAMPLE.org:443", "example.org.:443", "a.example.com:443", "a.b.c.example.com:443"),
        *("xn--bcher-kva.example.com:443", "A-1.Example.Com.:443", "93.184.216.34:443"),
    ],
)
def test_a_listed_host_can_be_reached_however_it_is_written(target: str) -> None:
    assert may_reach(POLICY, target)


NAMES = (
    *("example.com", "evil.org", "example.org.evil.org", "a.example.com.evil.org", "evilexample.org", "aexample.com"),
    *("example.or", "www.example.org", "example.org-", "-example.org", ".example.org", "example..org", "example.org.."),
    *(".", "", "*", "*.example.com", "a..example.com", ".example.com", "*.com", "_a.example.com", "a_b.example.com"),
    *("example.org\0", "example.org\0.evil.org", "evil.org\0.example.com", "example.org%00", "example%2eorg"),
    *(
        "user@example.org",
        "example.org@evil.org",
        "user:pw@example.org",
        "a.example.com@evil.org",
        "evil.org#.example.com",
    ),
    *("evil.org/.example.com", "evil.org?.example.com", "evil.org\\.example.com", "evil.org;.example.com"),
    *("https://example.org", "//example.org", "example.org/", "example.org:443", "example.org:80", "example.org\t"),
    *(
        "b\u00fccher.example.com",
        "example\u3002org",
        "example\uff0eorg",
        "\uff45xample.org",
        "ex\u0430mple.org",
        "a.example.com\u200b",
        "\u0435xample.org",
    ),
    *("example\u00ad.org", "example.org\u3002", "\udcff.example.com", "\u2488.example.com", "\ufb01.example.com"),
    *("localhost", "localhost.localdomain", "model.hive", "manager", "hive", "127.0.0.1", "127.1", "127.0.1", "0"),
    *("0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "127.0.0.01"),
    *(
        "127.0.0.1.",
        "93.184.216.34.",
        "093.184.216.34",
        "93.184.216.034",
        "0x5d.184.216.34",
        "93.184.55330",
        "1572395042",
    ),
    *("93.184.216.34.1", "93.184.216", "93.184.216.3\uff14", "a.93.184.216.34", "93.184.216.34.example.com.evil.org"),
    *("169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "::1"),
    *(
        "[::ffff:93.184.216.34]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[2001:db8::1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::1]",
    ),
    *("[93.184.216.34]", "[example.org]", "[example.org", "example.org]", "[]", "[::1", "::1]", "[[::1]]", "[v1.a]"),
    *(
        "a" * 64 + ".example.com",
        "a." * 130 + "example.com",
        "a" * 3000 + ".example.com",
        "-.example.com",
        "a-.example.com",
    ),
    *(
        "example.org evil.org",
        " example.org",
        "example.org ",
        "example.org\r\nHost: evil.org",
        "example.org\n",
        "\rexample.org",
    ),
    *("example.org\x0b", "example.org\x7f", "example.org\x1b[0m", "example.org,evil.org", "example.org|evil.org"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_host_that_is_not_listed_or_is_written_oddly_cannot(name: str) -> None:
    assert not may_reach(POLICY, f"{name}:443")


PORTS = (
    *("80", "8443", "22", "0", "00443", "0443", "443 ", "+443", "-443", "4_43", "443.0", "65536", "99999999999", ""),
    *(
        "\uff14\uff14\uff13",
        "0x1bb",
        "443:443",
        "443/",
        "443#",
        "443@evil.org:443",
        "443\0",
        "443\r\n",
        "https",
        "443,443",
        "\u0664\u0664\u0663",
    ),
)


@pytest.mark.parametrize("port", PORTS)
def test_no_other_port_can_be_reached_and_none_that_is_written_oddly(port: str) -> None:
    assert not may_reach(POLICY, f"example.org:{port}")


def test_without_a_port_there_is_no_request() -> None:
    for target in ("example.org", "[::1]", "*", "/", "http://example.org/"):
        assert not may_reach(POLICY, target)


def test_only_the_mode_proxied_takes_the_list() -> None:
    for mode in ("none", "host", "", "PROXIED"):
        decision = decide_egress(EgressPolicy(mode, ("example.org",)), Target("example.org", 443))
        assert (decision.verdict, decision.rule) == (Verdict.DENY, f"network.mode: {mode}")


def test_the_hosts_of_the_account_are_for_agents_that_log_in_themselves() -> None:
    for mode in ("none", "proxied"):
        for host in ACCOUNT_HOSTS:
            assert decide_egress(EgressPolicy(mode, account=True), Target(host, 443)).rule == f"account: {host}"
            assert not may_reach(EgressPolicy(mode), f"{host}:443")
            assert not may_reach(EgressPolicy(mode, account=True), f"{host}:80")
            assert not may_reach(EgressPolicy(mode, account=True), f"a.{host}:443")


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        ("example.org:443", "network.allow: example.org"),
        ("a.example.com:443", "network.allow: *.example.com"),
        ("example.org:80", "network.allow"),
        ("evil.org:443", "network.allow"),
    ],
)
def test_a_decision_names_its_rule(target: str, rule: str) -> None:
    assert decide_egress(POLICY, parse_target(target)).rule == rule


def test_a_wildcard_takes_no_address() -> None:
    policy = EgressPolicy("proxied", ("*.0.0.1", "*.216.34", "*.34"))
    for target in ("127.0.0.1:443", "93.184.216.34:443", "10.0.0.1:443"):
        assert not may_reach(policy, target)


LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join)


@given(HOSTS, HOSTS)
def test_a_wildcard_means_what_is_below_and_nothing_else(below: str, host: str) -> None:
    policy = EgressPolicy("proxied", (parse_reach(f"*.{host}"),))
    assert not may_reach(policy, f"{host}:443")
    assert not may_reach(policy, f"{below}{host}:443") or below.endswith(".")
    assert not may_reach(policy, f"{below}.{host}.{below}x:443") or f"{below}.{host}.{below}x".endswith(f".{host}")
    last = host.rpartition(".")[2]
    if not last.isdigit() and not (last.startswith("0x") and set(last[2:]) <= set(string.hexdigits)):
        assert may_reach(policy, f"{below}.{host}:443")


@given(
    st.text(max_size=40),
    st.sampled_from(["example.org", ".example.com", "example.org.", "a.example.com"]),
    st.booleans(),
)
def test_what_is_added_to_a_listed_host_never_reaches_another(text: str, host: str, before: bool) -> None:
    written = f"{text}{host}" if before else f"{host}{text}"
    try:
        found = parse_request(f"CONNECT {written}:443 HTTP/1.1\r\n\r\n".encode("utf-8", "surrogatepass"))
    except BadConnectError:
        return
    assert isinstance(found, Target)
    assert set(found.host) <= set(string.ascii_lowercase + string.digits + "-.:")
    if decide_egress(POLICY, found).verdict is Verdict.ALLOW:
        assert found.host in {"example.org", "93.184.216.34"} or found.host.endswith(".example.com")


# -- how it is read ----------------------------------------------------------------------------------------

BAD_HEADS = {
    b"": 400,
    b"\r\n\r\n": 400,
    b"CONNECT\r\n\r\n": 400,
    b"CONNECT example.org:443\r\n\r\n": 400,
    b"CONNECT  example.org:443 HTTP/1.1\r\n\r\n": 400,
    b" CONNECT example.org:443 HTTP/1.1\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1 \r\n\r\n": 400,
    b"CONNECT\texample.org:443\tHTTP/1.1\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/2\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.2\r\n\r\n": 400,
    b"CONNECT example.org:443 http/1.1\r\n\r\n": 400,
    b"connect example.org:443 HTTP/1.1\r\n\r\n": 405,
    b"GET https://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET example.org:80 HTTP/1.1\r\n\r\n": 400,
    b"OPTIONS * HTTP/1.1\r\n\r\n": 400,
    b"TRACE http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n": 405,
    b"get http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n": 405,
    b"PRI * HTTP/2.0\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\nHost: example.org\n\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\r\nno header\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\r\n folded: x\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\nX: b\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\rX: b\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: a\0\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\r\nHost : a\r\n\r\n": 400,
    b"CONNECT example.org:443 HTTP/1.1\r\n: a\r\n\r\n": 400,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n": 400,
    b"\x05\x01\x00\r\n\r\n": 400,
    b"CONNECT example.org HTTP/1.1\r\n\r\n": 400,
    b"CONNECT :443 HTTP/1.1\r\n\r\n": 400,
}


@pytest.mark.parametrize("head", BAD_HEADS)
def test_a_head_that_is_no_request_of_ours_is_refused(head: bytes) -> None:
    with pytest.raises(BadConnectError) as refused:
        parse_request(head)
    assert (refused.value.status, bool(refused.value.reason)) == (BAD_HEADS[head], True)


def test_what_programs_send_is_understood() -> None:
    for head in (
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nUser-Agent: x\r\nProxy-Connection: Keep-Alive",
        # As Python 3.11 sends it.
        b"CONNECT example.org:443 HTTP/1.0",
        b"CONNECT example.org:443 HTTP/1.1\r\nProxy-Authorization: Basic Og==\r\nX: \xc3\xa9",
    ):
        assert parse_request(head + b"\r\n\r\n") == Target("example.org", 443)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_target_or_a_refusal(head: bytes) -> None:
    try:
        found = parse_request(head)
    except BadConnectError as error:
        assert error.status in {400, 405, 411}
    else:
        assert 0 < (found.target if isinstance(found, PlainRequest) else found).port < 65536


@given(HOSTS, st.integers(1, 65535))
def test_a_target_reads_the_same_again(host: str, port: int) -> None:
    try:
        found = parse_target(f"{host.upper()}:{port}")
    except BadConnectError:
        return
    assert found == parse_target(f"{found.host}:{found.port}") == Target(host, port)


def test_every_host_that_a_config_can_list_is_read_as_itself_or_never() -> None:
    for host in ("example.org", "localhost", "1.example.org", "8.8.8.8", "a1"):
        assert parse_target(f"{parse_reach(host)}:443").host == host
    for odd in ("127.1", "0x7f.1", "256.1.1.1", "1"):  # such entries match nothing
        parse_reach(odd)
        with pytest.raises(BadConnectError):
            parse_target(f"{odd}:443")


# -- addresses ---------------------------------------------------------------------------------------------

NOT_PUBLIC = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1", "169.254.169.254"),
    *(
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.1.1",
    ),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "224.0.1.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1"),
    *("2001::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1"),
    *("fc00::1", "fd00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::1%eth0", "4000::1"),
    *("", "localhost", "example.org", "127.1", "0x7f.0.0.1", "8.8.8.8 ", "8.8.8.8\n", "8.8.8.8/32", "[2606:4700::1]"),
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_the_internets_is_not_public(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public_address(address)


@given(st.ip_addresses())
def test_what_python_knows_to_be_somebodys_own_is_never_public(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    own = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    assert not (is_public_address(str(address)) and (own or address.is_reserved or address.is_unspecified))


def test_of_many_addresses_the_public_ones_are_left() -> None:
    assert select_public(["127.0.0.1", "8.8.8.8", "::1", "10.0.0.1", "8.8.8.8", "1.1.1.1"]) == ["8.8.8.8", "1.1.1.1"]


# -- the operator's map ------------------------------------------------------------------------------------


def test_the_map_says_where_hosts_are() -> None:
    found = parse_egress_map("Example.org=127.0.0.1:8443, b.test=[::1]:1, b.test:80=10.0.0.1:2,")
    assert found == {
        Target("example.org", 443): ("127.0.0.1", 8443),
        Target("b.test", 443): ("::1", 1),
        Target("b.test", 80): ("10.0.0.1", 2),
    }
    assert parse_egress_map("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "example.org",
        "=127.0.0.1:1",
        "a.b=c.d:1",
        "a.b=127.0.0.1",
        "a.b=127.0.0.1:0",
        "*.a=1.1.1.1:1",
        "a=1.1.1.1:1,a=1.1.1.1:2",
        "a:443=1.1.1.1:1,a=1.1.1.1:2",
        "a:x=1.1.1.1:1",
    ],
)
def test_a_map_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_egress_map(text)
