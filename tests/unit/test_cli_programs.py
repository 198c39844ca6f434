"""`hive token` and `hive webhook`: secrets are printed once, lists tell what became of each."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli_process import call
from fake_hive import NOW, FakeHive, answer_with, run_fake_hive
from hyperhive.core.tokens import TokenScope
from hyperhive.wire.operator.programs import NewToken, NewWebhook, Token, WaitingEvent, Webhook, WebhookTest

TOKEN = Token(
    name="ci", scopes=[TokenScope.READ], created_at=NOW, expires_at=NOW + timedelta(days=3650), last_used_at=None
)
OLD = TOKEN.model_copy(update={"name": "old", "expires_at": NOW - timedelta(days=1)})
HOOK = Webhook(
    id=1,
    place="https://hooks.example",
    events=["approval.*"],
    bodies=False,
    added_at=NOW,
    ok_at=None,
    error="hooks.example answered 500\x1b[2J",
    dead=4,
    dead_at=NOW,
    dead_reason="hooks.example answered 404\x1b[2J",
    waiting=WaitingEvent(id=77, name="approval.requested", agent="alice", at=NOW, count=3),
)


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path) as hive:
        hive.answers |= {
            "GET /api/tokens": answer_with([TOKEN, OLD]),
            "POST /api/tokens": answer_with(NewToken(token=TOKEN, secret="hive_abc"), 201),
            "DELETE /api/tokens/ci": answer_with(None, 204),
            "GET /api/webhooks": answer_with([HOOK]),
            "POST /api/webhooks": answer_with(NewWebhook(webhook=HOOK, secret="hivehook_abc"), 201),
            "POST /api/webhooks/1/test": answer_with(WebhookTest(fault="hooks.example answered 500")),
            "POST /api/webhooks/1/retry": answer_with(WebhookTest(fault="hooks.example answered 500\x1b[2J")),
            "POST /api/webhooks/1/drop": answer_with(None, 204),
            "DELETE /api/webhooks/1": answer_with(None, 204),
        }
        yield hive


async def test_a_token_is_made_with_its_scopes_and_printed(hive: FakeHive) -> None:
    done = await call(hive.data, "token", "create", "ci", "--scope", "read", "--scope", "send", "--expires", "30d")
    assert (done.status, done.stdout) == (0, b"hive_abc\n"), done.stderr
    assert hive.received[-1].body == {"name": "ci", "scopes": ["read", "send"], "expires_s": 30 * 86400}


@pytest.mark.parametrize(
    "arguments",
    [("ci",), ("ci", "--scope", "all"), ("CI", "--scope", "read"), ("ci", "--scope", "read", "--expires", "x")],
)
async def test_a_token_that_cannot_be_is_refused_before_the_hive_is_asked(
    hive: FakeHive, arguments: tuple[str, ...]
) -> None:
    done = await call(hive.data, "token", "create", *arguments)
    assert done.status == 1
    assert hive.received == []


async def test_a_token_that_decides_is_not_made_under_claude_code(hive: FakeHive) -> None:
    for scope, status in (("decide", 1), ("admin", 1), ("read", 0)):
        done = await call(hive.data, "token", "create", "ci", "--scope", scope, CLAUDECODE="1")
        assert done.status == status, done.stderr
    assert len(hive.received) == 1


async def test_tokens_are_listed_and_revoked(hive: FakeHive) -> None:
    _, ci, old = (await call(hive.data, "token", "list")).stdout.decode().splitlines()
    assert ci.split()[:2] == ["ci", "read"]
    assert ci.rstrip().endswith("never")
    assert "expired" in old
    assert [row["name"] for row in json.loads((await call(hive.data, "token", "list", "--json")).stdout)] == [
        "ci",
        "old",
    ]
    assert (await call(hive.data, "token", "revoke", "ci")).status == 0
    assert hive.received[-1].method == "DELETE"


async def test_webhooks_are_added_listed_tested_and_removed(hive: FakeHive) -> None:
    done = await call(hive.data, "webhook", "add", "https://hooks.example/x", "--events", "approval.*, agent.crashed")
    assert (done.status, done.stdout) == (0, b"hivehook_abc\n"), done.stderr
    sent = hive.received[-1].body
    assert sent == {"url": "https://hooks.example/x", "events": ["approval.*", "agent.crashed"], "bodies": False}
    shown = (await call(hive.data, "webhook", "list")).stdout.decode()
    assert "approval.*" in shown
    assert "answered 500" in shown
    assert "77 approval.requested +2" in shown
    assert "answered 404" in shown
    assert "\x1b" not in shown
    failed = await call(hive.data, "webhook", "test", "1")
    assert failed.status == 1
    assert b"answered 500" in failed.stderr
    assert (await call(hive.data, "webhook", "remove", "1")).status == 0


async def test_the_event_that_is_in_the_way_is_tried_again_and_dropped(hive: FakeHive) -> None:
    failed = await call(hive.data, "webhook", "retry", "1")
    assert failed.status == 1
    assert b"hive webhook drop 1" in failed.stderr
    assert b"\x1b" not in failed.stderr
    hive.answers["POST /api/webhooks/1/retry"] = answer_with(WebhookTest(fault=""))
    assert (await call(hive.data, "webhook", "retry", "1")).status == 0
    dropped = await call(hive.data, "webhook", "drop", "1")
    assert (dropped.status, hive.received[-1].body) == (0, {"event": 77}), dropped.stderr
    named = await call(hive.data, "webhook", "drop", "1", "--event", "5")
    assert (named.status, hive.received[-1].body) == (0, {"event": 5})


async def test_nothing_is_dropped_when_nothing_waits(hive: FakeHive) -> None:
    hive.answers["GET /api/webhooks"] = answer_with([HOOK.model_copy(update={"waiting": None})])
    for identity in ("1", "9"):
        done = await call(hive.data, "webhook", "drop", identity)
        assert (done.status, done.stdout) == (1, b"")
    assert all(received.method == "GET" for received in hive.received)
