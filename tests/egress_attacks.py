"""Requests by which somebody might get out of the egress proxy: made in `tests/integration/test_egress_attacks.py`
with a proxy alone, and from inside a container in `test_escape_attempts.py`. Listed or granted is example.org.
"""

# Metadata of clouds, in each way of writing an address.
METADATA = (
    *("169.254.169.254", "[fd00:ec2::254]", "[fe80::a9fe:a9fe]", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]"),
    *("[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
)
NUMBERS = (
    *("2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518", "169.16689662"),
    *("127.1", "0x7f.1", "2130706433", "017700000001", "0", "0.0.0.0", "127.000.000.001", "127.0.0.1."),
)
MAPPED = ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]")
# Targets that two readers may read otherwise.
SMUGGLED = (
    *("example.org:443@evil.test:443", "evil.test:443@example.org:443", "user@example.org:443"),
    *("a:b@example.org:443", "http://example.org:443", "https://example.org/", "//example.org:443"),
    *("example.org:443/path", "/example.org:443", "example.org:443#", "example.org:443?x"),
    *("example.org:443,evil.test:443", "example.org", "example.org:", "example.org:443:443", "example.org:0443"),
    *("example.org:+443", "[example.org]:443", "example.org%00:443"),
)
# Heads with an end of a line, or none, where there is none.
INJECTED = (
    b"CONNECT example.org:443\r\nX: y HTTP/1.1\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\nHost: evil.test\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nA: b\rHost: evil.test\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nA: b\nHost: evil.test\r\n\r\n",
    b"CONNECT example.org\0.evil.test:443 HTTP/1.1\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nA: b\0\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
    b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\tX-Folded: 1\r\n\r\n",
    b"GET http://example.org/a%0d%0aX:%201 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"GET http://example.org/a HTTP/1.1\r\nHost: example.org\r\nX: a\rY: b\r\n\r\n",
    b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\nX : a\r\n\r\n",
    b"GET http://example.org/ HTTP/1.1 \r\nHost: example.org\r\n\r\n",
    b"GET http://example.org/ HTTP/1.1\r\r\nHost: example.org\r\n\r\n",
)
INNER = ("\r\nCONNECT evil.test:443 HTTP/1.1", "\r\nGET http://evil.test/ HTTP/1.1")


def connect(target: str, *headers: str) -> bytes:
    return "\r\n".join([f"CONNECT {target} HTTP/1.1", *headers, "", ""]).encode("latin-1")


def list_requests() -> list[bytes]:
    """All of them, none of which may be let through."""
    hosts = (*METADATA, *NUMBERS, *MAPPED, "localhost", "127.0.0.1", "[::1]")
    return [
        *(connect(f"{host}:{port}") for host in hosts for port in (80, 443)),
        *(f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for host in hosts),
        *map(connect, SMUGGLED),
        *INJECTED,
        *(f"CONNECT example.org:443 HTTP/1.1{inner}\r\n\r\n".encode() for inner in INNER),
        connect("evil.test:443") + connect("example.org:443"),
    ]
