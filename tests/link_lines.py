"""A raw client of an agent's link: what an adversary in a container can be."""

import json
from typing import Any, Self

from hive_process import HiveProcess


class HungUpError(AssertionError):
    """There is no answer: a newer connection has taken the agent's place, or this one was cut off."""


class Link:
    def __init__(self, hive: HiveProcess, agent: str = "manager") -> None:
        self.connection = hive.link(agent)
        self.lines = self.connection.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self.connection.close()

    def send(self, line: bytes) -> None:
        self.connection.sendall(line)

    def answer(self) -> dict[str, Any]:
        line = self.lines.readline()
        if not line:
            raise HungUpError("the daemon hung up")
        return json.loads(line)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode() + b"\n")
        return self.answer()

    def take_request(self) -> dict[str, Any]:
        """What the daemon asks next, answered with an empty result."""
        request = self.answer()
        self.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": {}}).encode() + b"\n")
        return request

    def is_closed(self) -> bool:
        try:
            while self.lines.readline():
                pass
        except ConnectionResetError:
            pass
        return True
