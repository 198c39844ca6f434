"""The wire of host.sock: shapes and order of what is sent, and what a request may be."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from hyperhive.core.errors import HiveError, InvalidInputError, TooLargeError
from hyperhive.wire import host_sock as wire
from hyperhive.wire.host_sock import Command, Request, Scope, parse_request

AT = datetime(2026, 9, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def test_an_answer_says_version_and_ok_and_nothing_that_is_unset() -> None:
    assert wire.render_done() == b'{"version":1,"ok":true}\n'
    assert wire.render_refusal("no") == b'{"version":1,"ok":false,"error":"no"}\n'
    assert wire.render_names([]) == b'{"version":1,"ok":true,"agents":[]}\n'
    assert wire.render_statuses([]) == b'{"version":1,"ok":true,"agent_statuses":[]}\n'
    assert wire.render_approvals([]) == b'{"version":1,"ok":true,"approvals":[]}\n'
    assert wire.render_urls(wire.Urls()) == b'{"version":1,"ok":true,"urls":{}}\n'


def test_a_whole_row_has_its_keys_in_order() -> None:
    row = wire.AgentStatus(
        name="alice",
        running=True,
        failed=False,
        needs_update=False,
        needs_login=True,
        deployed_sha="0123456789ab",
        pending_reminders=2,
        paused=True,
        parent="manager",
        active_model="m",
        status_text="idle",
        status_set_at=AT.astimezone(timezone(timedelta(hours=2))),
        url="https://hive.example/agent/alice/",
    )
    assert wire.render_statuses([row]) == (
        b'{"version":1,"ok":true,"agent_statuses":[{"name":"alice","running":true,"failed":false,"needs_update":false,'
        b'"needs_login":true,"deployed_sha":"0123456789ab","pending_reminders":2,"paused":true,"parent":"manager",'
        b'"active_model":"m","status_text":"idle","status_set_at":"2026-09-01T12:00:00.250Z",'
        b'"url":"https://hive.example/agent/alice/"}]}\n'
    )


def test_a_row_of_which_little_is_known_has_what_is_always_there() -> None:
    row = wire.AgentStatus("alice", False, False, False, False, None, 0, False)
    assert wire.render_statuses([row]) == (
        b'{"version":1,"ok":true,"agent_statuses":[{"name":"alice","running":false,"failed":false,'
        b'"needs_update":false,"needs_login":false,"pending_reminders":0,"paused":false}]}\n'
    )


def test_an_approval_has_its_keys_in_order() -> None:
    approval = wire.Approval(-(2**63), "bob", "apply_commit", "c0", "c0", AT, "denied", AT, "no", "bread")
    assert wire.render_approvals([approval]) == (
        b'{"version":1,"ok":true,"approvals":[{"id":-9223372036854775808,"agent":"bob","kind":"apply_commit",'
        b'"commit_ref":"c0","fetched_sha":"c0","requested_at":"2026-09-01T12:00:00.250Z","status":"denied",'
        b'"resolved_at":"2026-09-01T12:00:00.250Z","note":"no","description":"bread"}]}\n'
    )


def test_an_error_is_one_short_line_that_moves_no_cursor() -> None:
    line = wire.render_refusal("a\nb\x1b]0;x\x07\ud800" + "c" * 1000)
    assert line.startswith(b'{"version":1,"ok":false,"error":"a b\\\\x1b]0;x\\\\x07\\\\ud800ccc')
    assert len(line) < wire.ERROR_LIMIT_CHARS + 100


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"cmd":"list","id":"any"}', Request(Command.LIST)),
        (b' {"more":[],"cmd":"subscribe_agent_status"}\r', Request(Command.SUBSCRIBE)),
        (b'{"cmd":"approve","id":9223372036854775807}', Request(Command.APPROVE, id=2**63 - 1)),
        (b'{"cmd":"deny","id":-9223372036854775808}', Request(Command.DENY, id=-(2**63))),
        (b'{"cmd":"set_paused","name":"a","paused":true}', Request(Command.SET_PAUSED, name="a", paused=True)),
        (b'{"cmd":"restart","name":"a"}', Request(Command.RESTART, name="a")),
        (
            b'{"cmd":"start","scope":{"agent_names":["a","b","a"],"ci":null,"future":true}}',
            Request(Command.START, scope=Scope(agent_names=("a", "b"))),
        ),
        (
            b'{"cmd":"stop","graceful":true,"scope":{"agents":true,"matrix":true,"ci":true}}',
            Request(Command.STOP, graceful=True, scope=Scope(agents=True, services=("ci", "matrix"))),
        ),
    ],
)
def test_a_request_is_read(line: bytes, request_: Request) -> None:
    assert parse_request(line) == request_


@pytest.mark.parametrize("depth", [1_100, 30_000])
def test_what_is_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(InvalidInputError):
        parse_request(b'{"cmd":"list","x":' + b"[" * depth + b"]" * depth + b"}")


def test_a_line_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLargeError):
        parse_request(b'{"cmd":"list"}' + b" " * wire.LINE_LIMIT_BYTES)


@pytest.mark.parametrize("command", [Command.START, Command.STOP])
def test_a_scope_that_names_nothing_is_refused(command: Command) -> None:
    for scope in (b"null", b"{}", b'{"agents":false,"ci":false,"agent_names":null}'):
        with pytest.raises(HiveError, match="it would mean everything"):
            parse_request(b'{"cmd":"%s","scope":%s}' % (command.encode(), scope))
