"""The hive's feed of events, read as bytes: what happens is seen without asking, and at once."""

import socket

from hive_process import HiveProcess

_TIMEOUT_S = 60.0


def open_feed(hive: HiveProcess) -> socket.socket:
    """A connection that gets every event from now on."""
    feed = socket.socket(socket.AF_UNIX)
    feed.settimeout(_TIMEOUT_S)
    feed.connect(str(hive.run / "hive.sock"))
    feed.sendall(b"GET /api/stream HTTP/1.1\r\nhost: hive\r\n\r\n")
    read_until(feed, b"welcome")
    return feed


def read_until(feed: socket.socket, needle: bytes, times: int = 1) -> None:
    """Returns once the feed has said `needle` so many times. Raises EOFError, or TimeoutError after a long silence."""
    seen = b""
    while seen.count(needle) < times:
        data = feed.recv(65536)
        if not data:
            raise EOFError(f"the feed ended: {seen[-200:]!r}")
        seen += data
