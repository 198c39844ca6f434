"""`python -m benchmarks.viewers PORT VIEWERS EVENTS`: browsers that watch a hive or its peer, all in one process.

The request that each of them makes is read from standard input. Prints a line once all of them are answered, and, once
each has seen EVENTS events, how long those took to the first of them: p50 and p95 in ms. An event is a text that says
when it was told: `told at 1700000000.123;`.
"""

import re
import select
import socket
import sys
import time

from benchmarks.measure import percentile

_READ_BYTES = 256 * 1024
_MARK = b"told at "
_TOLD_AT = re.compile(rb"told at (\d+\.\d+);")
_MS = 1000


class _Viewer:
    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(request)
        self.seen = 0
        self.text = b""

    def answer(self) -> None:
        """Reads until it is let in."""
        while b"\r\n\r\n" not in self.text:
            self.text += self.socket.recv(_READ_BYTES)
        if self.text.split()[1] not in {b"101", b"200"}:
            raise RuntimeError(f"a viewer was refused: {self.text.decode()}")
        # What follows the head tells that events do from now on.
        self.text = b""

    def receive(self) -> list[float]:
        """Takes what has arrived. When those events were told."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise EOFError("the server hung up")
        self.text += data
        told = [float(at) for at in _TOLD_AT.findall(self.text)]
        # A mark may be cut in two: what begins one is looked at again with the rest of it.
        whole = self.text.rfind(b";", self.text.rfind(_MARK)) + 1 if told else 0
        self.text = self.text[max(whole, len(self.text) - 40) :]
        self.seen += len(told)
        return told


def main() -> None:
    port, count, events = (int(argument) for argument in sys.argv[1:])
    request = sys.stdin.read().encode()
    viewers = [_Viewer(port, request) for _ in range(count)]
    for viewer in viewers:
        viewer.answer()
    print("ready", flush=True)
    by_file = {viewer.socket.fileno(): viewer for viewer in viewers}
    poll = select.epoll()
    for file in by_file:
        poll.register(file, select.EPOLLIN)
    took_s: list[float] = []
    while any(viewer.seen < events for viewer in viewers):
        for file, _ in poll.poll():
            told = by_file[file].receive()
            if by_file[file] is viewers[0]:
                now = time.time()
                took_s += [now - at for at in told]
    print(f"{percentile(took_s, 50) * _MS:.3f} {percentile(took_s, 95) * _MS:.3f}", flush=True)


if __name__ == "__main__":
    main()
