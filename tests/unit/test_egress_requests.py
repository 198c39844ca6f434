"""How a plain http request to the egress proxy is read, and what of it a server is sent: attempts in tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.egress import BadConnectError, Target
from hyperhive.core.egress_requests import PlainRequest, parse_request


def parse(address: str, *headers: str, method: str = "GET", version: str = "1.1") -> PlainRequest:
    lines = [f"{method} {address} HTTP/{version}", *headers]
    found = parse_request(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "surrogateescape"))
    assert isinstance(found, PlainRequest)
    return found


def refuse(address: str, *headers: str, method: str = "GET", version: str = "1.1") -> int:
    with pytest.raises(BadConnectError) as refused:
        parse(address, *headers, method=method, version=version)
    return refused.value.status


HOST = "Host: example.org"


def test_a_plain_request_is_sent_on_as_its_server_expects_it() -> None:
    found = parse(
        "http://Example.org.:80/debian/pool?x=1&y=%20",
        "Host: example.org",
        "User-Agent: apt",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic Og==",
        "Connection: keep-alive, X-Gone",
        "X-Gone: 1",
        "Keep-Alive: 300",
        "TE: trailers",
        "Upgrade: h2c",
        "HTTP2-Settings: AAAA",
        "Range: bytes=0-1",
    )
    assert (found.target, found.method, found.path, found.body_bytes) == (
        Target("example.org", 80),
        "GET",
        "/debian/pool",
        0,
    )
    assert found.head.decode().split("\r\n") == [
        "GET /debian/pool?x=1&y=%20 HTTP/1.1",
        "Host: example.org",
        "User-Agent: apt",
        "Range: bytes=0-1",
        "Connection: close",
        "",
        "",
    ]


def test_a_body_is_as_long_as_it_says() -> None:
    found = parse("http://example.org:8080/a", "host:example.org:8080", "Content-Length: 12", method="POST")
    assert (found.target.port, found.body_bytes) == (8080, 12)
    assert b"\r\nHost: example.org:8080\r\nContent-Length: 12\r\nConnection: close\r\n\r\n" in found.head


def test_an_address_without_a_path_means_the_root_and_http_1_0_needs_no_host() -> None:
    found = parse("http://example.org", version="1.0")
    assert found.path == "/" and found.head.startswith(b"GET / HTTP/1.1\r\nHost: example.org\r\n")
    assert parse("HTTP://example.org?q", HOST).head.startswith(b"GET /?q HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "address",
    [
        *("/", "*", "example.org", "example.org:80", "//example.org/", "http:/example.org/", "http:example.org"),
        *("https://example.org/", "ftp://example.org/", "file:///etc/passwd", "http:///", "http://", "http://:80/"),
        *("http://user@example.org/", "http://user:pw@example.org/", "http://evil.org@example.org/"),
        *("http://example.org@evil.org/", "http://example.org#@evil.org/", "http://example.org\\@evil.org/"),
        *("http://example.org:/", "http://example.org:080/", "http://example.org:80:80/", "http://example.org:99999/"),
        *("http://example.org%2f/", "http://example%2eorg/", "http://127.1/", "http://0x7f.1/", "http://2130706433/"),
        *("http://[::1%25lo]/", "http://[::1/", "http://017700000001/", "http://example.org/#x"),
    ],
)
def test_an_address_that_is_not_plainly_one_is_refused(address: str) -> None:
    assert refuse(address, HOST) == 400


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/a/../b",
            "/..",
            "/.",
            "/a/.",
            "/./a",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a/.%2e",
            "/%2e",
            "/a/..;/b",
            "/a/..;x=1/b",
        ),
        *("/a%2fb", "/a%2F..%2Fb", "/a%5cb", "/a%5C..%5Cb", "/a\\b", "/a/..\\b", "/%252e%252e/", "/a%2541", "/a%25"),
        *(
            "//b",
            "//evil.org/a",
            "/a%00",
            "/a%0d%0aX:1",
            "/a%0a",
            "/a%7f",
            "/a%",
            "/a%4",
            "/a%zz",
            "/a<b",
            '/a"b',
            "/a|b",
        ),
        *("/a%c0%ae%c0%ae/b", "/a%ff", "/a^b", "/a`b", "/a{b}"),
    ],
)
def test_a_path_that_another_reader_may_read_otherwise_is_refused(path: str) -> None:
    assert refuse(f"http://example.org{path}", HOST) == 400


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/a/b.c/...", "/a/b.c/..."),
        ("/a//b", "/a//b"),
        ("/%41%7e", "/A~"),
        ("/a%20b%3Fc%23", "/a b?c#"),
        ("/b%C3%BCcher", "/bücher"),
        ("/a/..b/.c", "/a/..b/.c"),
    ],
)
def test_a_path_is_judged_as_its_server_decodes_it_and_sent_as_it_was_written(path: str, read: str) -> None:
    found = parse(f"http://example.org{path}", HOST)
    assert found.path == read and found.head.startswith(f"GET {path} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Host: evil.org",),
        ("Host: example.org", "Host: example.org"),
        ("Host: example.org", "host: evil.org"),
        ("Host: example.org:8080",),
        ("Host: ",),
        ("Host: user@example.org",),
        ("Host: example.org, evil.org",),
        ("Host: example.org/a",),
        ("Host: example.org", "Host_: x", "HOST: example.org"),
    ],
)
def test_the_header_host_is_there_once_and_names_the_same(headers: tuple[str, ...]) -> None:
    assert refuse("http://example.org/", *headers) == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Content-Length: 1", "Content-Length: 1"), 400),
        (("Content-Length: 1", "Content-Length: 2"), 400),
        (("Content-Length: 1, 1",), 400),
        (("Content-Length: +1",), 400),
        (("Content-Length: -1",), 400),
        (("Content-Length: 0x1",), 400),
        (("Content-Length: 1 1",), 400),
        (("Content-Length: ",), 400),
        (("Content-Length: 1" + "0" * 20,), 400),
        (("Content-Length: \xb2",), 400),
        (("Transfer-Encoding: chunked",), 411),
        (("transfer-encoding: identity",), 411),
        (("Transfer-Encoding: xchunked", "Content-Length: 3"), 411),
        (("Content-Length: 3", "Transfer-Encoding: chunked"), 411),
        (("Transfer_Encoding: chunked",), 400),
        (("Content_Length: 3",), 400),
        (("Transfer-Encoding : chunked",), 400),
        ((" Transfer-Encoding: chunked",), 400),
        (("X: a", "\tTransfer-Encoding: chunked"), 400),
        (("X: a\nTransfer-Encoding: chunked",), 400),
        (("X: a\rTransfer-Encoding: chunked",), 400),
        (("X: a\0b",), 400),
        (("X: a\x0bb",), 400),
        (("X\0: a",), 400),
        (("no header",), 400),
        ((": a",), 400),
    ],
)
def test_where_a_body_ends_is_said_once_and_plainly(headers: tuple[str, ...], status: int) -> None:
    assert refuse("http://example.org/", HOST, *headers, method="POST") == status


@pytest.mark.parametrize("named", ["Content-Length", "Host", "content-length, host", "close, Host"])
def test_connection_takes_away_nothing_that_frames_the_request(named: str) -> None:
    found = parse("http://example.org/", HOST, "Content-Length: 5", f"Connection: {named}", method="PUT")
    assert found.body_bytes == 5
    assert found.head.count(b"Content-Length: 5\r\n") == found.head.count(b"Host: example.org\r\n") == 1


PIECES = st.sampled_from(
    [
        *("GET", "POST", "CONNECT", " ", "http://", "example.org", ":80", "/a", "?b", "#", "@", "..", "%2e", "%0d%0a"),
        *(
            " HTTP/1.1",
            "\r\n",
            "\n",
            "\r",
            "\0",
            "Host: example.org",
            "Content-Length: 3",
            "Transfer-Encoding: chunked",
        ),
        *(":", "\t", "Connection: Host", "\r\n\r\n", "GET http://evil.org/ HTTP/1.1\r\nHost: evil.org"),
    ]
)


@given(st.lists(PIECES, max_size=12))
def test_whatever_is_taken_is_sent_on_as_one_request_to_the_host_that_was_judged(pieces: list[str]) -> None:
    head = "GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\n" + "".join(pieces) + "\r\n\r\n"
    try:
        found = parse_request(head.encode("latin-1"))
    except BadConnectError as error:
        assert error.status in {400, 405, 411}
        return
    assert isinstance(found, PlainRequest) and found.target == Target("example.org", 80)
    assert found.head.endswith(b"\r\n\r\n") and found.head.count(b"\r\n\r\n") == 1
    lines = found.head.decode("latin-1").split("\r\n")[:-2]
    assert lines[0] == "GET /a HTTP/1.1" and not any("\r" in line or "\n" in line for line in lines)
    names = [line.split(":")[0].lower() for line in lines[1:]]
    assert names.count("host") == 1 and names.count("connection") == 1 and "transfer-encoding" not in names
