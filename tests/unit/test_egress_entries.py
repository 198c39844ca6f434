"""What an entry of network.allow means: which tunnels and which plain http requests it lets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.egress import EgressPolicy, Target, decide_egress, parse_place
from hyperhive.core.egress_entries import METHODS, Entry, parse_entry, render_entry
from hyperhive.core.policy import Verdict


def may(entry: str, host: str, port: int, method: str = "", path: str = "") -> bool:
    policy = EgressPolicy("proxied", (entry,))
    return decide_egress(policy, Target(host, port), method, path).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("example.org", Entry("example.org", "example.org", 443)),
        ("example.org:8443", Entry("example.org:8443", "example.org", 8443)),
        ("*.example.org:22", Entry("*.example.org:22", "*.example.org", 22)),
        ("8.8.8.8:53", Entry("8.8.8.8:53", "8.8.8.8", 53)),
        ("GET http://a.org/b/*", Entry("GET http://a.org/b/*", "a.org", 80, "GET", "/b/*")),
        ("* http://*.a.org:8080/", Entry("* http://*.a.org:8080/", "*.a.org", 8080, "*", "/")),
        ("POST http://a.org/x;y=1,2@:!", Entry("POST http://a.org/x;y=1,2@:!", "a.org", 80, "POST", "/x;y=1,2@:!")),
    ],
)
def test_an_entry_is_a_host_with_a_port_or_a_plain_request(text: str, entry: Entry) -> None:
    assert parse_entry(text) == entry


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "*.", "Example.org", "example.org:", "example.org:0", "example.org:080", "example.org:65536"),
        *("example.org:443:443", ":443", "example.org/", "http://example.org/", "https://example.org", "a b"),
        *("example.org\n", "\nexample.org", "example.org:80\n", "user@example.org", "[::1]:443", "::1"),
        *("GET example.org", "GET http://example.org", "GET  http://example.org/", "get http://example.org/"),
        *("GET https://example.org/", "CONNECT http://example.org/", "TRACE http://example.org/", "** http://a.org/"),
        *(
            "GET http://example.org/*/b",
            "GET http://example.org/a*b",
            "GET http://example.org/**",
            "GET http://a.org/%41",
        ),
        *(
            "GET http://example.org/..",
            "GET http://example.org/a/./b",
            "GET http://example.org/../*",
            "GET http://a.org//",
        ),
        *(
            "GET http://example.org/a?b",
            "GET http://example.org/a#b",
            "GET http://example.org/a\\b",
            "GET http://a.org/ ",
        ),
        *("GET http://user@example.org/", "GET http://example.org:99999/", "GET http://a.org/" + "a" * 502),
    ],
)
def test_what_is_written_otherwise_is_no_entry(text: str) -> None:
    with pytest.raises(ValueError, match="no entry"):
        parse_entry(text)


def test_a_port_that_is_listed_is_that_port_alone() -> None:
    assert may("example.org:8443", "example.org", 8443)
    assert not may("example.org:8443", "example.org", 443)
    assert not may("example.org", "example.org", 8443)
    assert may("*.example.org:22", "git.example.org", 22)
    assert not may("*.example.org:22", "example.org", 22)
    assert not may("*.example.org:22", "git.example.org", 443)


def test_a_tunnel_is_never_allowed_by_a_plain_request_nor_the_other_way_round() -> None:
    assert not may("* http://example.org/*", "example.org", 80)
    assert not may("* http://example.org:443/*", "example.org", 443)
    assert not may("example.org:80", "example.org", 80, "GET", "/")


@pytest.mark.parametrize(
    ("entry", "method", "path", "allowed"),
    [
        ("GET http://a.org/b/*", "GET", "/b/c", True),
        ("GET http://a.org/b/*", "GET", "/b/", True),
        ("GET http://a.org/b/*", "HEAD", "/b/c", True),
        ("GET http://a.org/b/*", "POST", "/b/c", False),
        ("GET http://a.org/b/*", "GET", "/b", False),
        ("GET http://a.org/b/*", "GET", "/", False),
        ("GET http://a.org/b/*", "GET", "/B/c", False),
        ("HEAD http://a.org/b", "GET", "/b", False),
        ("GET http://a.org/b", "GET", "/b/c", False),
        ("GET http://a.org/b", "GET", "/b", True),
        ("* http://a.org/*", "DELETE", "/", True),
    ],
)
def test_a_plain_request_is_judged_by_method_and_path(entry: str, method: str, path: str, allowed: bool) -> None:
    assert may(entry, "a.org", 80, method, path) is allowed
    assert not may(entry, "b.org", 80, method, path)
    assert not may(entry, "a.org", 8080, method, path)


def test_no_entry_leads_to_an_address_that_is_not_public() -> None:
    for host in ("127.0.0.1", "169.254.169.254", "10.0.0.1"):
        policy = EgressPolicy("proxied", (host, f"{host}:80", f"* http://{host}/*"), granted=(Target(host, 22),))
        for target, method in ((Target(host, 443), ""), (Target(host, 80), "GET"), (Target(host, 22), "")):
            assert decide_egress(policy, target, method, "/").rule == "address"


def test_what_is_granted_is_that_host_and_port_by_a_tunnel_or_any_plain_request() -> None:
    policy = EgressPolicy("none", granted=(Target("a.org", 8443),))
    assert decide_egress(policy, Target("a.org", 8443)).rule == "granted: a.org:8443"
    assert decide_egress(policy, Target("a.org", 8443), "POST", "/x").verdict is Verdict.ALLOW
    assert decide_egress(policy, Target("a.org", 443)).rule == "network.mode: none"
    assert decide_egress(policy, Target("b.a.org", 8443)).verdict is Verdict.DENY


HOSTS = st.from_regex(r"(\*\.)?[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z0-9]{1,5}){0,3}", fullmatch=True)
PATHS = st.from_regex(r"(/[a-z0-9;@-]{1,6}){0,3}/\*?", fullmatch=True)


@given(HOSTS, st.integers(1, 65535), st.sampled_from(("", *METHODS, "*")), PATHS)
def test_an_entry_reads_as_it_was_rendered(host: str, port: int, method: str, path: str) -> None:
    entry = parse_entry(render_entry(host, port, method, path if method else ""))
    assert (entry.host, entry.port, entry.method) == (host, port, method)
    assert entry.path == (path if method else "")


def test_a_place_is_a_host_with_or_without_a_port() -> None:
    assert parse_place("a.org") == Target("a.org", 443)
    assert parse_place("a.org:80") == Target("a.org", 80)
    assert parse_place("[::1]:80") == Target("::1", 80)
    assert [str(Target(*place)) for place in (("a.org", 443), ("a.org", 80), ("::1", 80))] == [
        "a.org",
        "a.org:80",
        "[::1]:80",
    ]
