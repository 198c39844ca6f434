"""A log that is written at the speed of memory, on a small disk: it may be full before anybody can look.

What holds is that nothing confirmed is lost, that the hive takes messages again within moments, and that the agent is
stopped: without a disk of its own for each log, no more can be promised (docs/decisions/0032-the-escape-suite.md).
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from attacks import LOG_FLOODER
from escape_rig import MIB, RESERVE_BYTES, WORST_S, Yard, open_yard, spawn, tell
from link_lines import Link

# Mounting a small disk takes root.
KINDS = ("bubblewrap", "nspawn") if os.geteuid() == 0 else ()
STOPPED_WITHIN_S = 40.0


@pytest.fixture(scope="module", params=KINDS)
def yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    with open_yard(str(request.param), "--limit-memory", "600M", small=True) as yard:
        yield yard


@dataclass
class Insisting:
    """A connection that asks again what a full disk refused, and counts."""

    link: Link
    refused: int = 0

    def call(self, method: str, **params: Any) -> Any:
        deadline = time.monotonic() + WORST_S
        while time.monotonic() < deadline:
            answer = self.link.call(method, **params)
            if "result" in answer:
                return answer["result"]
            assert answer["error"]["data"]["code"] == "storage_failed", answer
            self.refused += 1
            time.sleep(0.02)
        raise AssertionError(f"{method} was refused for {WORST_S:g} s")


def test_no_confirmed_message_is_lost_when_a_log_at_the_speed_of_memory_fills_the_disk(yard: Yard) -> None:
    sent: list[str] = []
    read: list[str] = []
    took_s: list[float] = []
    lowest_bytes = _find_free_bytes(yard)
    with spawn(yard) as mallory, Link(yard.hive, "anna") as anna, Link(yard.hive, "bert") as bert:
        for agent, link in (("anna", anna), ("bert", bert)):
            assert "result" in link.call("hello", protocol=1, generation=yard.generations[agent], holding=[])
        sending, reading = Insisting(anna), Insisting(bert)
        deadline = time.monotonic() + STOPPED_WITHIN_S
        with yard.attack(mallory, sys.executable, "-c", LOG_FLOODER, "0"):
            while yard.hive.agent(mallory)["state"] != "stopped" and time.monotonic() < deadline:
                began_s = time.monotonic()
                body = uuid.uuid4().hex
                sending.call("send", to="bert", body=body, idempotency_key=body)
                sent.append(body)
                messages = reading.call("recv", max=10, wait_s=20)["messages"]
                read += [message["body"] for message in messages]
                reading.call("ack", ids=[message["id"] for message in messages])
                took_s.append(time.monotonic() - began_s)
                lowest_bytes = min(lowest_bytes, _find_free_bytes(yard))
        refused = sending.refused + reading.refused
        tell(f"log at the speed of memory, {refused} refused, {lowest_bytes // MIB} MiB left", yard.driver, took_s, 0)
        assert "floods its log" in yard.hive.agent(mallory)["reason"]
        # In order, and what was read twice is told by its number.
        assert list(dict.fromkeys(read)) == sent
        assert max(took_s) < WORST_S
        assert _find_free_bytes(yard) > RESERVE_BYTES
    assert yard.hive.process is not None and yard.hive.process.poll() is None


def _find_free_bytes(yard: Yard) -> int:
    room = os.statvfs(yard.hive.data)
    return room.f_bavail * room.f_frsize
