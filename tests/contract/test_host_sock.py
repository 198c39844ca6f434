"""host.sock against a real hive: request lines, order of keys, errors, and clients that are slow, silent or gone."""

import contextlib
import grp
import json
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from desktop_client import DesktopClient, RefusedError, Stream, decide_badge, read_response
from hive_process import HiveProcess, end_hive, find_processes, wait_for
from hyperhive.host.desktop.server import CONNECTIONS_LIMIT
from hyperhive.wire.host_sock import LINE_LIMIT_BYTES
from link_lines import Link

ROW_KEYS = ["name", "running", "failed", "needs_update", "needs_login", "deployed_sha", "pending_reminders", "paused"]
LIVE_KEYS = ["active_model", "status_text", "status_set_at", "url"]
DONE = b'{"version":1,"ok":true}\n'
EMPTY_SCOPE = "the scope is empty: it would mean everything; name an agent in agent_names"


@dataclass(frozen=True)
class Rig:
    hive: HiveProcess
    client: DesktopClient

    def request_spawn(self, name: str, description: str) -> int:
        """As the manager, whose own harness is stopped."""
        with Link(self.hive, "manager") as link:
            assert "result" in link.call("hello", protocol=1, generation=1, holding=[])
            assert "result" in link.call("request_spawn", name=name, description=description)
        [approval] = self.client.find_approvals(name)
        return approval["id"]

    def wait_row(self, name: str, **wanted: Any) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            row = self.client.find_row(name)
            return row if all(row[key] == value for key, value in wanted.items()) else None

        return wait_for(look, f"the row of {name} to have {wanted}", 90, self.hive)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """`alice` runs, the manager is stopped: its link is ours."""
    with tempfile.TemporaryDirectory(prefix="hive-") as folder:
        environment = {"HIVE_PUBLIC_URL": "https://hive.example:8443/"}
        hive = HiveProcess(Path(folder) / "data", environment=environment).start()
        try:
            hive.post("/api/agents", {"name": "alice"})
            for name in ("manager", "alice"):
                hive.wait_state(name, "idle")
            hive.post("/api/agents/manager/stop")
            hive.wait_state("manager", "stopped")
            yield Rig(hive, DesktopClient(hive.run / "host.sock"))
        finally:
            end_hive(hive)


def check_well(rig: Rig) -> None:
    """The daemon lives, has failed at nothing, and answers."""
    assert b'"alice"' in rig.client.exchange(b'{"cmd":"list"}')
    for word in ("Traceback", "desktop.failed", "desktop.connection_failed", "desktop.watch_failed"):
        assert word not in rig.hive.log, rig.hive.log[-4000:]


# -- the file ----------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_group_or_for_the_owner_alone(rig: Rig) -> None:
    status = rig.client.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    # In the bits of the group are the rights of others who have some of their own.
    assert stat.S_IMODE(rig.hive.run.stat().st_mode) & 0o707 == 0o701
    try:
        gid = grp.getgrnam("hive-admin").gr_gid
    except KeyError:
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert "there is no group hive-admin" in rig.hive.log
    else:
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, gid)


def test_no_container_has_the_socket_in_its_files(rig: Rig) -> None:
    processes = find_processes(rig.hive, "alice")
    assert processes
    for pid in processes:
        inside = Path(f"/proc/{pid}/root")
        if (inside / "config").is_dir():
            assert not (inside / rig.client.path.relative_to("/")).exists()
            assert list((inside / "run/hive").glob("host.sock")) == []


# -- requests and answers, byte by byte --------------------------------------------------------------------


def test_list_names_all_agents(rig: Rig) -> None:
    assert rig.client.exchange(b'{"cmd":"list"}') == b'{"version":1,"ok":true,"agents":["manager","alice"]}\n'


def test_urls_are_of_the_domain_that_was_set(rig: Rig) -> None:
    assert rig.client.exchange(b'{"cmd":"urls"}') == (
        b'{"version":1,"ok":true,"urls":{"domain":"hive.example","home":"https://hive.example:8443/"}}\n'
    )


def test_an_empty_list_of_approvals_is_a_list(rig: Rig) -> None:
    assert rig.client.exchange(b'{"cmd":"pending"}') == b'{"version":1,"ok":true,"approvals":[]}\n'


def test_the_row_of_a_stopped_agent_has_its_keys_in_order_and_no_status(rig: Rig) -> None:
    sha = rig.hive.agent("manager")["commit"][:12]
    line = rig.client.exchange(b'{"cmd":"agent_status"}')
    row = (
        f'{{"name":"manager","running":false,"failed":false,"needs_update":false,"needs_login":false,'
        f'"deployed_sha":"{sha}","pending_reminders":0,"paused":false,"url":"https://hive.example:8443/agent/manager/"}}'
    )
    assert line.startswith(b'{"version":1,"ok":true,"agent_statuses":[' + row.encode() + b',{"name":"alice",')


def test_the_row_of_a_running_agent_has_a_status_and_since_when(rig: Rig) -> None:
    row = rig.wait_row("alice", running=True, status_text="idle")
    assert [key for key in row if key != "active_model"] == [*ROW_KEYS, *LIVE_KEYS[1:]]
    assert row["status_set_at"].endswith("Z")
    assert decide_badge(row) == "running"


def test_unknown_keys_are_passed_over_and_lines_may_follow_one_another(rig: Rig) -> None:
    with rig.client.connect() as stream:
        stream.send(b'{"cmd":"urls","version":7,"more":{"of":[1]}}\n\n{"cmd":"pending"}\n{"cmd":"li')
        assert json.loads(stream.take())["urls"]
        assert json.loads(stream.take())["approvals"] == []
        stream.send(b'st"}\n')
        assert json.loads(stream.take())["agents"] == ["manager", "alice"]


def test_a_client_that_says_no_more_gets_its_answer(rig: Rig) -> None:
    with rig.client.connect() as stream:
        stream.send(b'{"cmd":"pending"}\n{"cmd":"list"}')
        stream.socket.shutdown(socket.SHUT_WR)
        assert [*map(len, (read_response(stream.take()), read_response(stream.take())))] == [3, 3]
        assert stream.take() == b""


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"nonsense", "the line is not JSON in UTF-8"),
        (b'{"cmd":"list","x":"\xff"}', "the line is not JSON in UTF-8"),
        (b"[" * 60_000, "the line is not JSON in UTF-8"),
        (b'{"cmd":"\\ud800"}', "the line is not JSON in UTF-8"),
        (b"[]", "the line is not a JSON object"),
        (b"null", "the line is not a JSON object"),
        (b"{}", "cmd is missing, or is not a string"),
        (b'{"cmd":7}', "cmd is missing, or is not a string"),
        (b'{"cmd":"destroy"}', 'unknown cmd "destroy"'),
        (b'{"cmd":"\\u001b]0;x\\u0007"}', 'unknown cmd "\\x1b]0;x\\x07"'),
        (b'{"cmd":"approve"}', "id is missing, or is not a whole number of 64 bits"),
        (b'{"cmd":"deny","id":"1"}', "id is missing, or is not a whole number of 64 bits"),
        (b'{"cmd":"deny","id":true}', "id is missing, or is not a whole number of 64 bits"),
        (b'{"cmd":"deny","id":1.0}', "id is missing, or is not a whole number of 64 bits"),
        (b'{"cmd":"deny","id":9223372036854775808}', "id is missing, or is not a whole number of 64 bits"),
        (b'{"cmd":"deny","id":1e400}', "the line is not JSON in UTF-8"),
        (b'{"cmd":"approve","id":9223372036854775807}', "there is no approval 9223372036854775807"),
        (b'{"cmd":"deny","id":-9223372036854775808}', "there is no approval -9223372036854775808"),
        (b'{"cmd":"set_paused","name":"alice"}', "paused is not true or false"),
        (b'{"cmd":"set_paused","name":"alice","paused":1}', "paused is not true or false"),
        (b'{"cmd":"set_paused","paused":true}', "name is missing, or is not a string"),
        (b'{"cmd":"set_paused","name":"ghost","paused":true}', 'agent "ghost" is not managed by this hive'),
        (b'{"cmd":"set_paused","name":"ghost","paused":false}', 'agent "ghost" is not managed by this hive'),
        (b'{"cmd":"set_paused","name":"*","paused":true}', 'agent "*" is not managed by this hive'),
        (b'{"cmd":"restart","name":"ghost"}', 'agent "ghost" is not managed by this hive'),
        (b'{"cmd":"restart","name":"../x"}', 'agent "../x" is not managed by this hive'),
        (b'{"cmd":"start"}', EMPTY_SCOPE),
        (b'{"cmd":"stop","graceful":true,"scope":{}}', EMPTY_SCOPE),
        (b'{"cmd":"stop","scope":{"agents":false,"agent_names":[]}}', EMPTY_SCOPE),
        (b'{"cmd":"stop","scope":{"names":["alice"]}}', EMPTY_SCOPE),
        (b'{"cmd":"stop","scope":["alice"]}', "scope is not an object"),
        (b'{"cmd":"stop","scope":{"agent_names":"alice"}}', "scope.agent_names is not a list of strings"),
        (b'{"cmd":"stop","scope":{"agents":"yes"}}', "agents is not true or false"),
        (b'{"cmd":"stop","scope":{"agent_names":["alice"]},"graceful":"x"}', "graceful is not true or false"),
        (b'{"cmd":"stop","scope":{"agent_names":["alice","ghost"]}}', 'agent "ghost" is not managed by this hive'),
        (b'{"cmd":"stop","scope":{"agent_names":["alice"],"forge":true}}', "this hive does not run forge"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line_and_the_connection_goes_on(rig: Rig, line: bytes, error: str) -> None:
    with rig.client.connect() as stream:
        for _ in range(2):
            stream.send(line + b"\n")
            assert (
                stream.take()
                == json.dumps({"version": 1, "ok": False, "error": error}, separators=(",", ":")).encode() + b"\n"
            )
        stream.send(b'{"cmd":"list"}\n')
        assert read_response(stream.take())["agents"]
    assert rig.hive.agent("alice")["state"] == "idle"


@pytest.mark.parametrize("size", [LINE_LIMIT_BYTES + 1, 20 * LINE_LIMIT_BYTES])
def test_a_line_that_is_too_long_is_refused_and_the_connection_ends(rig: Rig, size: int) -> None:
    with rig.client.connect() as stream:
        with contextlib.suppress(BrokenPipeError):
            stream.send(b" " * size)
        with pytest.raises(RefusedError, match="over 65536 bytes"):
            read_response(stream.take())
        assert stream.take() == b""
    check_well(rig)


def test_a_line_as_long_as_a_line_may_be_is_read(rig: Rig) -> None:
    line = b'{"cmd":"list"}'
    assert b'"alice"' in rig.client.exchange(line + b" " * (LINE_LIMIT_BYTES - len(line)))


def test_a_line_that_never_ends_is_given_up(rig: Rig) -> None:
    with rig.client.connect(timeout_s=60) as stream:
        stream.send(b'{"cmd":')
        with pytest.raises(RefusedError, match="did not end within"):
            read_response(stream.take())
        assert stream.take() == b""


# -- acts --------------------------------------------------------------------------------------------------


def test_an_agent_is_paused_and_goes_on_and_doing_it_twice_is_no_error(rig: Rig) -> None:
    for paused in (True, True, False, False):
        line = json.dumps({"cmd": "set_paused", "name": "alice", "paused": paused}).encode()
        assert rig.client.exchange(line) == DONE
        assert rig.client.find_row("alice")["paused"] is paused
        assert (rig.hive.agent("alice")["park"] is not None) is paused


def test_a_stopped_agent_can_be_paused(rig: Rig) -> None:
    rig.client.ask("set_paused", name="manager", paused=True)
    row = rig.client.find_row("manager")
    assert (row["running"], row["paused"], decide_badge(row)) == (False, True, "paused")
    rig.client.ask("set_paused", name="manager", paused=False)


def test_going_on_in_a_hive_that_is_paused_says_that_it_stays_so(rig: Rig) -> None:
    rig.hive.post("/api/pause")
    try:
        assert rig.client.find_row("alice")["paused"] is True
        with pytest.raises(RefusedError, match='agent "alice" stays paused: the whole hive is'):
            rig.client.ask("set_paused", name="alice", paused=False)
    finally:
        rig.hive.post("/api/resume")


def test_an_agent_is_stopped_started_and_restarted(rig: Rig) -> None:
    assert rig.client.exchange(b'{"cmd":"stop","scope":{"agent_names":["alice"]},"graceful":true}') == DONE
    row = rig.wait_row("alice", running=False)
    assert "status_text" not in row and "status_set_at" not in row
    assert decide_badge(row) == "stopped"
    assert rig.client.exchange(b'{"cmd":"start","scope":{"agent_names":["alice"],"forge":null}}') == DONE
    rig.wait_row("alice", running=True, status_text="idle")
    first = find_processes(rig.hive, "alice")[0]
    assert rig.client.exchange(b'{"cmd":"restart","name":"alice"}') == DONE
    wait_for(lambda: (found := find_processes(rig.hive, "alice")) and first not in found, "another container", 90)
    rig.wait_row("alice", running=True, status_text="idle")


def test_an_approval_is_shown_and_denied_once(rig: Rig) -> None:
    number = rig.request_spawn("bob", "to bake\u202e bread")
    [shown] = rig.client.find_approvals("bob")
    assert list(shown) == ["id", "agent", "kind", "commit_ref", "requested_at", "status", "description"]
    assert (shown["id"], shown["kind"], shown["status"]) == (number, "spawn", "pending")
    assert shown["description"] == "to bake\\u202e bread"
    assert rig.client.exchange(f'{{"cmd":"deny","id":{number}}}'.encode()) == DONE
    [shown] = rig.client.find_approvals("bob")
    assert list(shown)[5:] == ["status", "resolved_at", "note", "description"]
    assert (shown["status"], shown["note"]) == ("denied", "denied from the desktop")
    for cmd in ("deny", "approve"):
        with pytest.raises(RefusedError, match=f"approval {number} is already denied"):
            rig.client.ask(cmd, id=number)
    assert "desktop.acted" in rig.hive.log


def test_an_approval_acts_at_once(rig: Rig) -> None:
    number = rig.request_spawn("carol", "")
    with rig.client.subscribe() as stream:
        assert rig.client.exchange(f'{{"cmd":"approve","id":{number}}}'.encode()) == DONE
        assert rig.client.find_row("carol")["name"] == "carol"
        rows = iter(stream.take_row, None)
        # It may be idle a moment before what it runs counts as deployed; until then there is no such key.
        ready = (row for row in rows if row["name"] == "carol" and row["running"] and "deployed_sha" in row)
        row = next(row for row in ready if row["status_text"] == "idle")
    assert len(row["deployed_sha"]) == 12
    [shown] = rig.client.find_approvals("carol")
    assert (shown["status"], shown["commit_ref"][:12]) == ("approved", row["deployed_sha"])
    assert shown["fetched_sha"] == shown["commit_ref"]
    with rig.hive.client() as client:
        client.delete("/api/agents/carol").raise_for_status()
    assert rig.client.ask("list")["agents"] == ["manager", "alice"]
    with pytest.raises(RefusedError, match='agent "carol" is not managed by this hive'):
        rig.client.ask("restart", name="carol")


# -- subscribing -------------------------------------------------------------------------------------------


def test_a_subscriber_is_acknowledged_and_then_told_each_change_in_a_row_of_its_own(rig: Rig) -> None:
    with rig.client.subscribe() as stream:
        stream.send(b'{"cmd":"list"}\n')
        rig.client.ask("set_paused", name="alice", paused=True)
        line = stream.take()
        response = read_response(line)
        assert list(response) == ["version", "ok", "agent_statuses"]
        [row] = response["agent_statuses"]
        assert (row["name"], row["paused"]) == ("alice", True)
        rig.client.ask("set_paused", name="alice", paused=False)
        # Being parked and its harness's word for that come one after the other.
        assert any(not stream.take_row()["paused"] for _ in range(4))


def test_a_subscriber_that_says_no_more_is_told_all_the_same(rig: Rig) -> None:
    with rig.client.subscribe() as stream:
        stream.socket.shutdown(socket.SHUT_WR)
        rig.client.ask("set_paused", name="alice", paused=True)
        assert stream.take_row()["paused"] is True
        rig.client.ask("set_paused", name="alice", paused=False)
        assert any(not stream.take_row()["paused"] for _ in range(4))


def test_subscribers_that_left_or_never_read_cost_nothing(rig: Rig) -> None:
    assert rig.hive.process is not None
    files = Path(f"/proc/{rig.hive.process.pid}/fd")
    before = len(list(files.iterdir()))
    with contextlib.ExitStack() as silent:
        for number in range(20):
            with contextlib.ExitStack() as leaving:
                stream = (leaving if number % 2 else silent).enter_context(rig.client.subscribe())
                if number % 4 == 1:
                    stream.socket.shutdown(socket.SHUT_WR)
        for _ in range(30):
            rig.client.ask("set_paused", name="alice", paused=True)
            rig.client.ask("set_paused", name="alice", paused=False)
        check_well(rig)
    wait_for(lambda: len(list(files.iterdir())) <= before, "the connections to be gone", 30)
    check_well(rig)


# -- many --------------------------------------------------------------------------------------------------


def test_two_hundred_connections_that_do_nothing_keep_nobody_out(rig: Rig) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(rig.client.connect()) for _ in range(200)]
        began = time.monotonic()
        for _ in range(20):
            assert rig.client.ask("list")["agents"]
        assert time.monotonic() - began < 5
        ended = 200 - sum(not is_ended(stream) for stream in idle)
        assert ended >= 200 - CONNECTIONS_LIMIT
        # Those that came last are still served.
        idle[-1].send(b'{"cmd":"list"}\n')
        assert read_response(idle[-1].take())["agents"]
    check_well(rig)


def test_a_flood_of_lines_on_one_connection_delays_nobody_else(rig: Rig) -> None:
    with rig.client.connect() as stream:
        stream.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                stream.socket.send(b'{"cmd":"list"}\n' * 1000)
        for _ in range(10):
            assert rig.client.ask("agent_status")["agent_statuses"]
    check_well(rig)


def test_a_client_that_leaves_at_once_is_obeyed_all_the_same(rig: Rig) -> None:
    with rig.client.connect() as stream:
        stream.send(b'{"cmd":"set_paused","name":"alice","paused":true}\n')
    rig.wait_row("alice", paused=True)
    rig.client.ask("set_paused", name="alice", paused=False)
    check_well(rig)


def is_ended(stream: Stream) -> bool:
    stream.socket.settimeout(0.01)
    try:
        return stream.socket.recv(1, socket.MSG_PEEK) == b""
    except TimeoutError:
        return False
    finally:
        stream.socket.settimeout(5)


def test_the_next_daemon_listens_there_again(rig: Rig) -> None:
    rig.hive.kill()
    assert rig.client.path.is_socket()
    rig.hive.start()
    assert rig.client.ask("list")["agents"] == ["manager", "alice"]
    rig.hive.stop()
    assert not rig.client.path.exists()
    rig.hive.start()
    rig.wait_row("alice", running=True, status_text="idle")
