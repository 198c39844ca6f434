"""Bad input on every socket gets a clear error and loses nothing: who sends it harms only itself."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hive_process import HiveProcess, end_hive, wait_for
from hyperhive.wire.jsonrpc import HIVE_ERROR, INVALID_REQUEST, LINE_LIMIT_BYTES, METHOD_NOT_FOUND, PARSE_ERROR
from link_lines import Link


def is_well(hive: HiveProcess) -> bool:
    return hive.agent("manager")["state"] == "idle" and httpx.get(f"{hive.origin}/healthz").text == "ok\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense\n", PARSE_ERROR),
        (b"\xff\xfe\x00\n", PARSE_ERROR),
        (b"[]\n", INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":7}\n', INVALID_REQUEST),
        (b"[" * 100_000 + b"\n", INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"send","params":{}}\n', HIVE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1}}\n', HIVE_ERROR),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":99,"generation":1,"holding":[]}}\n',
            HIVE_ERROR,
        ),
    ],
)
def test_a_malformed_line_is_answered_and_the_connection_goes_on(
    shared_hive: HiveProcess, line: bytes, code: int
) -> None:
    shared_hive.wait_state("manager", "idle")
    with Link(shared_hive) as link:
        for _ in range(2):
            link.send(line)
            assert link.answer()["error"]["code"] == code
    assert is_well(shared_hive)


@pytest.mark.parametrize("ending", [b"", b"\n"])
def test_an_oversized_line_is_refused_and_cut_off(shared_hive: HiveProcess, ending: bytes) -> None:
    shared_hive.wait_state("manager", "idle")
    with Link(shared_hive) as link:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            link.send(b"x" * (LINE_LIMIT_BYTES * 3) + ending)
        assert link.is_closed()
    assert is_well(shared_hive)


def test_nothing_is_answered_before_hello_nor_to_an_older_harness(shared_hive: HiveProcess) -> None:
    shared_hive.wait_state("manager", "idle")
    with Link(shared_hive) as link:
        refused = link.call("send", to="operator", body="hi", idempotency_key="12345678")
        assert refused["error"]["data"]["code"] == "refused"
        stale = link.call("hello", protocol=1, generation=0, holding=[])
        assert stale["error"]["data"]["code"] == "conflict"
    assert shared_hive.get("/api/inbox") == []
    assert is_well(shared_hive)


def test_a_harness_cannot_do_what_is_the_managers_or_name_a_sender(hive: HiveProcess) -> None:
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    # Or its own harness would take the connection back.
    hive.post("/api/agents/alice/stop")
    hive.wait_state("alice", "stopped")
    generation = 1
    with Link(hive, "alice") as link:
        assert link.call("hello", protocol=1, generation=generation, holding=[])["result"]["agent"] == "alice"
        for method in ("request_spawn", "kill", "start", "restart", "list_agents"):
            assert link.call(method, name="manager")["error"]["data"]["code"] == "refused"
        assert link.call("approve", id=1)["error"]["code"] == METHOD_NOT_FOUND
        key = {"idempotency_key": "12345678"}
        forged = link.call("send", to="operator", body="hi", sender="operator", **key)
        assert forged["error"]["data"]["code"] == "invalid_input"
        for to in ("..", "-x", "a/b", "system", "hm1nd", "nobody", ""):
            assert "error" in link.call("send", to=to, body="hi", **key)
        assert "error" in link.call("recv", max=10**9, wait_s=0)
        assert "error" in link.call("recv", max=1, wait_s=10**9)
        assert "error" in link.call("ack", ids=[2**80])
        assert "error" in link.call("send", to="operator", body="x" * 70_000, **key)
        assert link.call("send", to="operator", body="fine", **key)["result"]["id"] > 0
    assert [m["body"] for m in hive.get("/api/inbox")] == ["fine"]


def test_a_flood_of_requests_on_one_connection_starves_nobody(shared_hive: HiveProcess) -> None:
    shared_hive.wait_state("manager", "idle")
    with Link(shared_hive) as link:
        link.connection.settimeout(0.2)
        line = b'{"jsonrpc":"2.0","id":1,"method":"recv","params":{"max":1,"wait_s":1}}\n'
        try:
            # Unread answers and unread requests are bounded: at some point the daemon takes no more.
            for _ in range(200):
                link.send(line * 1000)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            pass
        assert is_well(shared_hive)
    assert is_well(shared_hive)


HTTP_GARBAGE = [
    b"\x16\x03\x01 this is tls",
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    b"GET http://evil.example/api/agents HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZZ\r\n",
]


@pytest.mark.parametrize("garbage", HTTP_GARBAGE)
def test_http_garbage_is_refused_on_every_http_socket(shared_hive: HiveProcess, garbage: bytes) -> None:
    shared_hive.wait_state("manager", "idle")
    unix = [shared_hive.run / "hive.sock", shared_hive.run / "agents" / "manager" / "model.sock"]
    for path in [None, *unix]:
        connection = socket.socket(socket.AF_INET if path is None else socket.AF_UNIX)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", shared_hive.port) if path is None else str(path))
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        connection.close()
        assert not answer.startswith(b"HTTP/1.1 2") or (path == unix[0] and b" / " in garbage), answer[:200]
    assert is_well(shared_hive)


def start_again(hive: HiveProcess, *, timeout_s: float = 20) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hyperhive.host.main", "--data", str(hive.data), "--port", "0", "--rehearsal"]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


def test_a_second_daemon_on_the_same_data_ends_at_once_and_harms_nothing(shared_hive: HiveProcess) -> None:
    shared_hive.wait_state("manager", "idle")
    second = start_again(shared_hive)
    assert second.returncode == 1
    assert "runs on this data folder already" in second.stderr
    assert "hint: " in second.stderr
    assert second.stdout == ""
    assert is_well(shared_hive)
    sent = shared_hive.post("/api/messages", {"to": "manager", "body": "%% say still here"})
    wait_for(
        lambda: any(m["id"] == sent["id"] and m["state"] == "acked" for m in shared_hive.get("/api/messages")),
        "the first daemon to deliver",
        hive=shared_hive,
    )


def test_data_of_a_newer_version_is_refused_with_a_hint(tmp_path: Path) -> None:
    hive = HiveProcess(tmp_path / "data").start()
    hive.down()
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('pragma user_version = 99')"
    subprocess.run([sys.executable, "-c", script, str(hive.data / "hive.sqlite")], check=True)
    refused = start_again(hive)
    assert refused.returncode == 1
    assert "newer version" in refused.stderr
    assert "hint: " in refused.stderr


@pytest.fixture
def small_disk_hive(tmp_path: Path) -> Iterator[HiveProcess]:
    """A hive on a file system of 24 MiB of its own. Mounting wants root."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "hive-test", str(folder)], check=True)
    hive = HiveProcess(folder / "data").start()
    try:
        yield hive
    finally:
        end_hive(hive)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_a_send_and_keeps_what_was_sent(small_disk_hive: HiveProcess) -> None:
    hive = small_disk_hive
    hive.wait_state("manager", "idle")
    before = hive.post("/api/messages", {"to": "manager", "body": "%% say before"})["id"]
    hive.wait_state("manager", "idle")
    filler = hive.data.parent / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    with hive.client() as client:
        # What the WAL has room for already may still fit: the disk is full for what is large.
        refused, number = None, 0
        for number in range(200):
            response = client.post("/api/messages", json={"to": "manager", "body": f"lost? {number} " + "x" * 60_000})
            if response.status_code != 201:
                refused = response
                break
    assert refused is not None
    assert refused.status_code == 507, refused.text
    assert refused.json()["code"] == "storage_failed"
    assert refused.json()["hint"]
    # Reading goes on, and the refused message is not there, whole or half.
    listed = {m["id"]: m["body"] for m in hive.get("/api/messages?limit=500")}
    assert f"lost? {number} " not in " ".join(body[:20] for body in listed.values())
    assert listed[before] == "%% say before"
    filler.unlink()
    after = wait_for(
        lambda: (r := _try_send(hive)) and r.status_code == 201 and r.json()["id"], "room to be used again", hive=hive
    )
    assert after > before
    assert hive.process is not None
    assert hive.process.poll() is None


def _try_send(hive: HiveProcess) -> httpx.Response:
    with hive.client() as client:
        return client.post("/api/messages", json={"to": "manager", "body": "%% say after"})
