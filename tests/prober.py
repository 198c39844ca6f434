"""Asks a daemon for its health over and over, in a process of its own, so that nobody else's work is measured:
`python prober.py SOCKET` until its standard input ends; then it prints how often, and the longest that took in seconds.
"""

import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

EVERY_S = 0.02
_ANSWER_END = b"\r\n\r\nok\n"
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: hive\r\n\r\n"


class Prober:
    """Probes for as long as the block lasts; then `worst_s` and `count` are known."""

    def __init__(self, path: Path) -> None:
        self.worst_s = 0.0
        self.count = 0
        self._path = path

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        told, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, "the daemon did not answer the prober"
        count, worst_s = told.split()
        self.count, self.worst_s = int(count), float(worst_s)


def main() -> None:
    count, worst_s = 0, 0.0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(sys.argv[1])
        while not select.select([sys.stdin], [], [], EVERY_S)[0]:
            began = time.monotonic()
            connection.sendall(_REQUEST)
            answer = b""
            while not answer.endswith(_ANSWER_END):
                piece = connection.recv(65536)
                assert piece, answer
                answer += piece
            worst_s = max(worst_s, time.monotonic() - began)
            count += 1
    print(count, worst_s)


if __name__ == "__main__":
    main()
