"""Systemd is told what the daemon does, over a real socket; without systemd nothing is said."""

import asyncio
import os
import resource
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hyperhive.system.sd_notify import Systemd, take_systemd

PID = os.getpid()


def listen(address: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.bind(address)
    channel.settimeout(10)
    return channel


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with listen(str(tmp_path / "notify")) as channel:
        yield channel


def hear(channel: socket.socket) -> list[str]:
    return channel.recv(4096).decode().splitlines()


def systemd_at(channel: socket.socket, **more: str) -> Systemd:
    return take_systemd({"NOTIFY_SOCKET": channel.getsockname(), **more}, PID)


def test_what_happens_is_told_with_a_status(heard: socket.socket) -> None:
    systemd = systemd_at(heard)
    systemd.status("preparing")
    systemd.ready("serves")
    systemd.stopping("ends")
    assert [hear(heard) for _ in range(3)] == [
        ["STATUS=preparing"],
        ["READY=1", "STATUS=serves"],
        ["STOPPING=1", "STATUS=ends"],
    ]
    systemd.close()


def test_an_abstract_socket_is_reached() -> None:
    name = f"hive-test-{secrets.token_hex(8)}"
    with listen(f"\0{name}") as channel:
        systemd = take_systemd({"NOTIFY_SOCKET": f"@{name}"}, PID)
        systemd.ready("serves")
        systemd.close()
        assert hear(channel)[0] == "READY=1"


def test_a_status_is_one_short_line_whatever_it_says(heard: socket.socket) -> None:
    systemd = systemd_at(heard)
    systemd.status("one\nREADY=1\n" + "x" * 5000)
    [line] = hear(heard)
    assert line.startswith("STATUS=one READY=1 ")
    assert len(line) < 300
    systemd.close()


def test_no_child_can_speak_for_the_daemon(heard: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": heard.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(PID), "HOME": "/"}
    take_systemd(environment, PID).close()
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize("address", ["", "/", "@", "relative", "vsock-stream:2:1"])
def test_where_systemd_is_not_there_nothing_is_said(address: str) -> None:
    systemd = take_systemd({"NOTIFY_SOCKET": address} if address else {}, PID)
    assert not systemd.is_there
    systemd.ready("serves")
    systemd.close()


def test_a_socket_that_is_gone_is_no_error(tmp_path: Path) -> None:
    systemd = take_systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID)
    systemd.ready("serves")
    systemd.close()
    systemd.close()


async def test_it_beats_twice_in_the_time_that_systemd_allows(heard: socket.socket) -> None:
    systemd = systemd_at(heard, WATCHDOG_USEC="400000", WATCHDOG_PID=str(PID))
    began = time.monotonic()
    beating = asyncio.create_task(systemd.beat())
    beats = [await asyncio.to_thread(hear, heard) for _ in range(4)]
    took_s = time.monotonic() - began
    beating.cancel()
    assert beats == [["WATCHDOG=1"]] * 4
    # Three pauses of 0.2 s; a machine under load makes them longer.
    assert took_s >= 0.55
    systemd.close()


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "400000", "WATCHDOG_PID": "1"}],
    ids=["none", "zero", "no number", "another process"],
)
async def test_without_a_watchdog_nothing_beats(heard: socket.socket, watchdog: dict[str, str]) -> None:
    systemd = systemd_at(heard, **watchdog)
    assert systemd.is_there
    async with asyncio.timeout(10):
        await systemd.beat()
    systemd.close()


def test_nothing_that_is_told_needs_a_new_handle(heard: socket.socket) -> None:
    systemd = systemd_at(heard)
    free = os.dup(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        systemd.status("still there")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(free)
    assert hear(heard) == ["STATUS=still there"]
    systemd.close()
