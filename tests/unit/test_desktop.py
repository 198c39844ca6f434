"""The daemon's side of host.sock: what rows say, bounds on lines, what waits for a slow subscriber, the file."""

import asyncio
import grp
import os
import socket
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hyperhive.core.approvals import Approval, ApprovalKind, ApprovalStatus
from hyperhive.core.errors import ConflictError
from hyperhive.core.parking import Park, ParkKind
from hyperhive.core.turns import TurnState, TurnStatus
from hyperhive.host.desktop.lines import FramingError, Lines, Times
from hyperhive.host.desktop.socket_file import open_run_folder, open_socket
from hyperhive.host.desktop.statuses import WAITING_LIMIT, Mailbox
from hyperhive.host.desktop.views import show_approval, show_status, show_urls
from hyperhive.host.drivers.protocol import ContainerState, Observation
from hyperhive.host.roster import Live
from hyperhive.system.sockets import bind_unix, connect_unix, has_hung_up
from hyperhive.wire.host_sock import LINE_LIMIT_BYTES, AgentStatus, Urls
from hyperhive.wire.operator.agents import AgentRow

AT = datetime(2026, 9, 1, tzinfo=UTC)
ROW = AgentRow.model_construct(
    name="alice",
    state="idle",
    reason="",
    since=AT,
    model="",
    chosen_model="",
    commit="0123456789abcdef",
    config_error="",
    needs_update="",
)
RUNNING = Observation(ContainerState.RUNNING)
STOPPED = Observation(ContainerState.STOPPED)


def show(row: AgentRow = ROW, live: Live | None = None, *parks: ParkKind) -> AgentStatus:
    held = {kind: Park("alice", kind, AT, None, "why") for kind in parks}
    return show_status(row, live or Live(RUNNING), held, 3, "")


# -- rows --------------------------------------------------------------------------------------------------


def test_a_running_agent_says_what_it_does_and_since_when() -> None:
    status = show(ROW.model_copy(update={"state": "parked", "reason": "usage\x1b[2J limit", "model": "m"}))
    assert (status.running, status.deployed_sha, status.pending_reminders) == (True, "0123456789ab", 3)
    assert (status.status_text, status.status_set_at) == ("parked: usage\\x1b[2J limit", AT)
    assert (status.active_model, status.url, status.needs_update) == ("m", None, False)


def test_a_stopped_agent_has_no_status() -> None:
    status = show(ROW.model_copy(update={"state": "stopped"}), Live(STOPPED))
    assert (status.running, status.status_text, status.status_set_at) == (False, None, None)


def test_one_that_hibernates_counts_as_running_since_a_message_wakes_it() -> None:
    status = show(ROW.model_copy(update={"state": "hibernated"}), Live(STOPPED))
    assert (status.running, status.status_text) == (True, "hibernated")


def test_the_flags_are_independent() -> None:
    status = show(ROW, None, ParkKind.PAUSED, ParkKind.LOGIN, ParkKind.FAILING)
    assert (status.failed, status.needs_login, status.paused) == (True, True, True)
    status = show(ROW, None, ParkKind.BUDGET, ParkKind.LIMIT)
    assert (status.failed, status.needs_login, status.paused) == (False, False, False)
    for state in ("failed", "crashed"):
        assert show(ROW.model_copy(update={"state": state}), Live(STOPPED)).failed


def test_a_login_that_is_not_there_is_needed() -> None:
    assert show(ROW, Live(RUNNING, login="none")).needs_login
    assert show(ROW, Live(RUNNING, turn=TurnStatus(TurnState.NEEDS_LOGIN, AT))).needs_login
    assert not show(ROW, Live(RUNNING, login="hive")).needs_login
    # Of one that does not run nobody knows.
    assert not show(ROW, Live(STOPPED, login="unknown")).needs_login


def test_an_approval_is_shown_in_the_words_that_clients_know() -> None:
    approval = Approval(4, ApprovalKind.APPLY, "bob", ApprovalStatus.BUILDING, "manager", "", AT, commit="c" * 40)
    shown = show_approval(approval)
    assert (shown.kind, shown.status, shown.commit_ref, shown.description) == (
        "apply_commit",
        "approved",
        "c" * 40,
        None,
    )
    failed = show_approval(replace(approval, status=ApprovalStatus.FAILED, reason="it\u202e broke", commit=None))
    assert (failed.status, failed.note, failed.commit_ref, failed.fetched_sha) == (
        "failed",
        "it\\u202e broke",
        "",
        None,
    )
    assert all(show_approval(replace(approval, status=status)).status for status in ApprovalStatus)
    assert all(show_approval(replace(approval, kind=kind)).kind for kind in ApprovalKind)


def test_urls_name_a_domain_only_if_there_is_one() -> None:
    assert show_urls(None, "http://127.0.0.1:7000") == Urls(home="http://127.0.0.1:7000/")
    assert show_urls("https://h.example/x/", "…") == Urls(domain="h.example", home="https://h.example/x/")


def test_an_agent_whose_approved_config_failed_needs_an_update() -> None:
    assert show(ROW.model_copy(update={"needs_update": "its harness is of an older hyperhive"})).needs_update


# -- lines -------------------------------------------------------------------------------------------------


async def test_lines_are_taken_whole_however_they_come() -> None:
    reader = asyncio.StreamReader()
    lines = Lines(reader, Times())
    reader.feed_data(b"\n\n\r\na\n\nbc")
    assert [await lines.take(), await lines.take()] == [b"a", b""]
    reader.feed_data(b"d\ne")
    reader.feed_eof()
    assert [await lines.take(), await lines.take(), await lines.take()] == [b"bcd", b"e", None]


@pytest.mark.parametrize("ending", [b"", b"\n"])
async def test_a_line_that_is_too_long_ends_the_reading(ending: bytes) -> None:
    reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    reader.feed_data(b"x" * (LINE_LIMIT_BYTES + 1) + ending)
    with pytest.raises(FramingError, match="over 65536 bytes"):
        await Lines(reader, Times()).take()


async def test_silence_ends_a_connection_and_half_a_line_does_so_with_a_word() -> None:
    reader = asyncio.StreamReader()
    lines = Lines(reader, Times(idle_s=0.01, line_s=0.01))
    assert await lines.take() is None
    reader.feed_data(b"half")
    with pytest.raises(FramingError, match="did not end within"):
        await lines.take()


# -- subscribers -------------------------------------------------------------------------------------------


async def test_of_each_agent_only_the_newest_row_waits() -> None:
    mailbox = Mailbox()
    for number in range(1000):
        mailbox.put("alice", b"a%d" % number)
        mailbox.put("bob", b"b%d" % number)
    assert [await mailbox.take(), await mailbox.take()] == [b"a999", b"b999"]
    mailbox.close()
    assert await mailbox.take() is None


async def test_what_waits_for_one_that_never_reads_is_bounded() -> None:
    mailbox = Mailbox()
    for number in range(WAITING_LIMIT + 10):
        mailbox.put(f"agent-{number}", b"%d" % number)
    assert await mailbox.take() == b"10"


# -- the file ----------------------------------------------------------------------------------------------


def test_the_socket_belongs_to_the_group_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with open_socket(path, grp.getgrgid(os.getgid()).gr_name):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert path.stat().st_gid == os.getgid()


def test_its_folder_lets_pass_all_and_the_group_look_and_stays_its_owners(tmp_path: Path) -> None:
    before = tmp_path.stat()
    open_run_folder(tmp_path, [4711])
    assert (tmp_path.stat().st_uid, tmp_path.stat().st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o751
    open_run_folder(tmp_path, [])
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o751


def test_without_the_group_it_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with open_socket(path, "no-such-group"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_somebody_listens_at_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with bind_unix(path) as first:
        with pytest.raises(ConflictError, match="another program listens"):
            open_socket(path)
        # Also when its queue is full, as it is with what was tried above.
        first.listen(0)
        with pytest.raises(ConflictError, match="another program listens"):
            open_socket(path)
    with open_socket(path), connect_unix(path, timeout_s=5):
        pass


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        open_socket(path)
    assert path.read_text() == "mine"


def test_a_peer_that_only_listens_has_not_hung_up() -> None:
    near, far = socket.socketpair()
    with near:
        with far:
            assert not has_hung_up(near.fileno())
            far.shutdown(socket.SHUT_WR)
            assert not has_hung_up(near.fileno())
        assert has_hung_up(near.fileno())
