"""Terminals of a real hive, over the WebSocket and by `hive shell` under a real pty: a shell in a real container."""

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Self

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hive_process import HiveProcess, wait_for
from hyperhive.cli.own_hand import CLAUDE_VARIABLE

AGENT = "manager"
TIMEOUT_S = 30
TERMINALS = f"/api/agents/{AGENT}/terminals"


@pytest.fixture(autouse=True)
def no_terminals(shared_hive: HiveProcess) -> Iterator[None]:
    """Each test begins and ends without an open one."""
    wait_for(lambda: shared_hive.agent(AGENT)["state"] in {"idle", "thinking"}, "a harness", TIMEOUT_S, shared_hive)
    yield
    for terminal in list_open(shared_hive):
        with shared_hive.client() as client:
            client.delete(f"{TERMINALS}/{terminal['id']}").raise_for_status()


def list_open(hive: HiveProcess) -> list[dict[str, Any]]:
    return [terminal for terminal in hive.get(TERMINALS) if terminal["ended_at"] is None]


def open_terminal(hive: HiveProcess, columns: int = 80, rows: int = 24) -> str:
    return hive.post(TERMINALS, {"columns": columns, "rows": rows})["id"]


@contextlib.asynccontextmanager
async def attach(hive: HiveProcess, terminal_id: str, mode: str = "write") -> AsyncGenerator["Screen"]:
    """As the hive command does, over the daemon's own socket."""
    uri = f"ws://hive{TERMINALS}/{terminal_id}/socket?mode={mode}"
    async with unix_connect(str(hive.run / "hive.sock"), uri, compression=None) as connection:
        yield Screen(connection)


class Screen:
    """What has come of a terminal; each byte is acknowledged."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.shown = b""
        self.told: list[dict[str, Any]] = []

    async def type(self, text: str) -> None:
        await self.connection.send(text.encode())

    async def control(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def take(self) -> None:
        message = await self.connection.recv()
        if isinstance(message, str):
            self.told.append(json.loads(message))
        else:
            self.shown += message
            await self.control(kind="ack", count=len(message))

    async def wait(self, pattern: str) -> re.Match[bytes]:
        async with asyncio.timeout(TIMEOUT_S):
            while (found := re.search(pattern.encode(), self.shown)) is None:
                await self.take()
        return found

    async def wait_end(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.take()
        return self.told[-1]


async def test_a_shell_runs_what_is_typed_and_its_end_is_told(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    async with attach(shared_hive, terminal_id) as screen:
        await screen.type("echo $((6 * 7))-$PWD\r")
        assert (await screen.wait(r"42-(\S+)"))[1] == b"/state"
        await screen.type("exit 3\r")
        assert await screen.wait_end() == {"kind": "ended", "status": 3}
    [last] = [terminal for terminal in shared_hive.get(TERMINALS) if terminal["id"] == terminal_id]
    assert (last["status"], last["ending"], last["opened_by"]) == (3, "exited", "operator")


async def test_a_program_sees_the_size_that_the_viewer_has(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive, columns=100, rows=30)
    async with attach(shared_hive, terminal_id) as screen:
        await screen.type("stty size; echo first\r")
        await screen.wait(r"[\r\n]30 100\r\nfirst")
        await screen.control(kind="resize", columns=123, rows=45)

        async def is_seen() -> bool:
            await screen.type("stty size\r")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await screen.wait(r"[\r\n]45 123\r")
                    return True
            return False

        async with asyncio.timeout(TIMEOUT_S):
            while not await is_seen():
                pass
    assert {"kind": "resized", "columns": 123, "rows": 45} in screen.told


async def test_what_was_on_a_terminal_is_there_for_who_comes_back(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    async with attach(shared_hive, terminal_id) as screen:
        await screen.type("left=over; echo mark-$((40 + 2))\r")
        await screen.wait("mark-42")
    async with attach(shared_hive, terminal_id) as screen:
        await screen.wait("mark-42")
        await screen.type("echo still-$left\r")
        await screen.wait("still-over")


async def test_two_look_at_the_same_and_one_of_them_may_not_type(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    async with attach(shared_hive, terminal_id) as writer, attach(shared_hive, terminal_id, "read") as reader:
        await writer.type("echo both-$((1 + 1))\r")
        await writer.wait("both-2")
        await reader.wait("both-2")
        await reader.type("touch /state/stolen\r")
        with pytest.raises(ConnectionClosed) as caught:
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    await reader.take()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008
        await writer.type("ls /state/stolen || echo none-$((1 + 1))\r")
        await writer.wait("none-2")


async def test_much_output_arrives_whole_and_in_order(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    async with attach(shared_hive, terminal_id) as screen:
        await screen.type("stty -opost; seq 300000; echo done-$((1 + 1))\r")
        await screen.wait("done-2")
    numbers = re.search(rb"[\r\n]1\n(.*)\n300000\n", screen.shown, re.DOTALL)
    assert numbers is not None
    assert numbers[1].split(b"\n") == [b"%d" % number for number in range(2, 300_000)]


async def test_a_browser_needs_a_session_and_the_hives_own_page(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    cookies = shared_hive.session_cookies()
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    uri = f"ws://127.0.0.1:{shared_hive.port}{TERMINALS}/{terminal_id}/socket"

    async def try_with(**headers: str) -> int:
        try:
            async with connect(uri, additional_headers=headers, proxy=None, compression=None) as connection:
                assert await connection.recv()
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    assert await try_with(origin=shared_hive.origin, cookie=cookie) == 101
    assert await try_with(origin=shared_hive.origin) == 401
    assert await try_with(cookie=cookie) == 403
    assert await try_with(origin="http://evil.example", cookie=cookie) == 403
    assert await try_with(origin=shared_hive.origin, cookie=cookie, authorization="Bearer hive_x") in (400, 403)


async def test_a_terminal_is_not_found_under_another_agents_name(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    for agent in ("nobody", "operator"):
        uri = f"ws://hive/api/agents/{agent}/terminals/{terminal_id}/socket"
        with pytest.raises(InvalidStatus) as caught:
            await unix_connect(str(shared_hive.run / "hive.sock"), uri, compression=None)
        assert caught.value.response.status_code == 404


def test_an_agents_own_sockets_speak_no_websocket(shared_hive: HiveProcess) -> None:
    handshake = (
        f"GET {TERMINALS}/x/socket HTTP/1.1\r\nhost: hive\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(20)
        connection.connect(str(shared_hive.run / "agents" / AGENT / "model.sock"))
        connection.sendall(handshake.encode())
        assert b" 101 " not in connection.recv(4096).split(b"\r\n")[0]


class Keyboard:
    """`hive shell` on a pty of the test's own."""

    def __init__(self, hive: HiveProcess, *options: str, columns: int = 90, rows: int = 25) -> None:
        self.fd, terminal = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(terminal)
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hyperhive.cli.main", "shell", AGENT, *options],
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=own_environment(hive),
            start_new_session=True,
        )
        self.terminal = terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        os.close(self.fd)
        os.close(self.terminal)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self, pattern: str) -> re.Match[bytes]:
        deadline = time.monotonic() + TIMEOUT_S
        while (found := re.search(pattern.encode(), self.shown)) is None:
            assert time.monotonic() < deadline, self.shown[-2000:]
            self.read()
        return found

    def read(self) -> None:
        if select.select([self.fd], [], [], 0.2)[0]:
            try:
                self.shown += os.read(self.fd, 65536)
            except OSError as error:
                assert error.errno == errno.EIO

    def end(self) -> int:
        """The exit status; what is still shown is read, or the process would wait for that."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown[-2000:]
            self.read()
        self.read()
        return self.process.returncode

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.terminal) == self.before


def own_environment(hive: HiveProcess) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != CLAUDE_VARIABLE}
    return kept | {"HIVE_DATA": str(hive.data), "TERM": "xterm-256color"}


def call_shell(hive: HiveProcess, typed: str) -> "subprocess.CompletedProcess[bytes]":
    argv = [sys.executable, "-m", "hyperhive.cli.main", "shell", AGENT]
    environment = own_environment(hive)
    return subprocess.run(
        argv, input=typed.encode(), capture_output=True, env=environment, timeout=TIMEOUT_S, check=False
    )


def test_hive_shell_is_a_shell_and_ends_with_its_status(shared_hive: HiveProcess) -> None:
    with Keyboard(shared_hive) as keyboard:
        keyboard.type("stty size; echo $((6 * 7))-here\r")
        keyboard.wait(r"[\r\n]25 90\r\n42-here")
        assert not keyboard.is_as_before()
        keyboard.type("exit 5\r")
        assert keyboard.end() == 5
        assert keyboard.is_as_before()
    assert list_open(shared_hive) == []


def test_a_window_that_changes_its_size_is_followed(shared_hive: HiveProcess) -> None:
    with Keyboard(shared_hive) as keyboard:
        # Without a trap: bash 5.2 loses the end of a `$(…)` when one is run for WINCH while it reads that.
        keyboard.type("echo ready-$((1 + 1))\r")
        keyboard.wait("ready-2")
        keyboard.resize(101, 31)
        keyboard.process.send_signal(signal.SIGWINCH)
        keyboard.type("until [ \"$(stty size)\" = '31 101' ]; do sleep 0.1; done; echo seen-$((1 + 1))\r")
        keyboard.wait("seen-2")
        keyboard.type("exit\r")
        keyboard.end()


def test_whoever_leaves_finds_the_shell_as_it_was(shared_hive: HiveProcess) -> None:
    with Keyboard(shared_hive) as keyboard:
        keyboard.type("left=over; echo ready-$((1 + 1))\r")
        keyboard.wait("ready-2")
        keyboard.type("~.")
        assert keyboard.end() == 0
        assert keyboard.is_as_before()
        assert keyboard.process.stderr is not None
        told = keyboard.process.stderr.read().decode()
    [terminal] = list_open(shared_hive)
    assert f"--attach {terminal['id'][:12]}" in told
    with Keyboard(shared_hive, "--attach", terminal["id"][:6]) as keyboard:
        keyboard.wait("ready-2")
        keyboard.type("echo still-$left\r")
        keyboard.wait("still-over")
        keyboard.type("exit\r")
        assert keyboard.end() == 0


def test_whoever_comes_back_is_not_asked_what_was_asked_before(shared_hive: HiveProcess) -> None:
    with Keyboard(shared_hive) as keyboard:
        keyboard.type("printf '\\033[6n\\033]11;?\\007asked-%s\\n' $((1 + 1))\r")
        keyboard.wait("asked-2")
        assert b"\x1b[6n\x1b]11;?\x07" in keyboard.shown
        keyboard.type("\r~.")
        assert keyboard.end() == 0
    [terminal] = list_open(shared_hive)
    with Keyboard(shared_hive, "--attach", terminal["id"]) as keyboard:
        keyboard.wait("asked-2")
        assert b"\x1b[6n" not in keyboard.shown and b"\x1b]11;?" not in keyboard.shown
        # What is asked now is.
        keyboard.type("printf '\\033[%sn' 5; echo then-$((1 + 1))\r")
        keyboard.wait("then-2")
        assert b"\x1b[5n" in keyboard.shown


async def test_the_terminal_of_who_typed_last_answers_and_no_other(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    async with attach(shared_hive, terminal_id) as screen, attach(shared_hive, terminal_id) as other:
        await screen.type("stty -echo; echo quiet-$((1 + 1)); cat -v\r")
        await screen.wait("quiet-2")
        await other.control(kind="answer", text="\x1b[1n")
        await screen.control(kind="answer", text="\x1b[2n")
        await screen.type("\r")
        await screen.wait(r"\^\[\[2n\r\n")
        # As a terminal sends it: what was typed, and what it answers then.
        with Keyboard(shared_hive, "--attach", terminal_id) as keyboard:
            keyboard.wait("2n")
            keyboard.type("\x1b[3n")
            keyboard.type("typed\r")
            keyboard.wait("typed\r\n")
            keyboard.type("\x1b[4n")
            await other.control(kind="answer", text="\x1b[5n")
            keyboard.type("last\r")
            keyboard.wait(r"\^\[\[4nlast\r\n")
            assert not re.search(rb"\^\[\[[135]n", keyboard.shown)


def test_who_only_looks_sees_all_and_types_nothing(shared_hive: HiveProcess) -> None:
    terminal_id = open_terminal(shared_hive)
    with (
        Keyboard(shared_hive, "--attach", terminal_id) as writer,
        Keyboard(shared_hive, "--attach", terminal_id, "--read-only") as reader,
    ):
        writer.type("echo seen-$((1 + 1))\r")
        reader.wait("seen-2")
        reader.type("echo typed-$((1 + 1))\r")
        writer.type("echo again-$((1 + 1))\r")
        reader.wait("again-2")
        assert b"typed-2" not in reader.shown
        reader.type("\x03")
        assert reader.end() == 0
        assert reader.is_as_before()


def test_the_terminal_is_as_before_when_it_is_told_to_end(shared_hive: HiveProcess) -> None:
    with Keyboard(shared_hive) as keyboard:
        keyboard.type("printf '\\033[?1049hfull-%s' $((1 + 1))\r")
        keyboard.wait("full-2")
        keyboard.process.terminate()
        assert keyboard.end() == 128 + signal.SIGTERM
        assert keyboard.is_as_before()
        assert keyboard.shown.rstrip().endswith(b"\x1b[?1049l")


@pytest.mark.parametrize(("last", "status"), [("(exit 6)", 6), ("sleep 1\ncat", 0)])
def test_what_is_piped_in_is_typed_and_the_shell_ends_with_it(shared_hive: HiveProcess, last: str, status: int) -> None:
    done = call_shell(shared_hive, f"cd /\necho pipe-$((1 + 1))-$PWD\n{last}")
    assert b"pipe-2-/\r\n" in done.stdout, done
    assert done.returncode == status, done
    assert list_open(shared_hive) == []


def test_a_daemon_that_is_started_anew_is_waited_for(shared_hive: HiveProcess) -> None:
    with Keyboard(shared_hive) as keyboard:
        keyboard.type("left=over; echo ready-$((1 + 1))\r")
        keyboard.wait("ready-2")
        shared_hive.stop()
        keyboard.wait("trying again")
        shared_hive.start()
        keyboard.shown = b""
        keyboard.wait("ready-2")
        keyboard.type("echo still-$left\r")
        keyboard.wait("still-over")
        keyboard.type("exit 4\r")
        assert keyboard.end() == 4


def test_one_terminal_too_many_is_refused_with_a_hint(shared_hive: HiveProcess) -> None:
    for _ in range(8):
        open_terminal(shared_hive)
    done = call_shell(shared_hive, "")
    assert done.returncode == 1
    assert b"8 terminals open" in done.stderr
    assert b"hint: " in done.stderr
