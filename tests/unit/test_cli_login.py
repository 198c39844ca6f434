"""`hive login` as a program: the link on standard error, the code from standard input, and nothing of it anywhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_process import asked, call
from fake_hive import FakeHive, answer_with, refuse_with, run_fake_hive
from hyperhive.core.errors import InvalidInputError
from hyperhive.wire.operator.agents import Login, LoginStarted

URL = (
    "https://claude.com/cai/oauth/authorize?code_challenge=c&state=S"
    "&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback"
)
PLACE = "/api/agents/alice/login"


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        fake.answers |= {
            f"POST {PLACE}": answer_with(LoginStarted(url=URL)),
            f"POST {PLACE}/code": answer_with(Login(kind="own", account="me@example.com", expires_at=None)),
            f"DELETE {PLACE}": answer_with(None, 204),
        }
        yield fake


async def test_it_prints_the_link_reads_the_code_and_tells_the_account(hive: FakeHive) -> None:
    done = await call(hive.data, "login", "alice", stdin=b"abc#S\n")
    assert (done.status, done.stdout) == (0, b"alice is logged in as me@example.com\n")
    assert URL.encode() in done.stderr
    assert asked(hive) == [f"POST {PLACE}", f"POST {PLACE}/code"]
    assert hive.received[-1].body == {"code": "abc#S"}


async def test_a_program_ends_a_login_that_was_begun_with_a_code_from_a_pipe(hive: FakeHive) -> None:
    done = await call(hive.data, "login", "alice", "--code", "-", "--json", stdin=b"abc#S")
    assert (done.status, json.loads(done.stdout)["kind"]) == (0, "own")
    assert asked(hive) == [f"POST {PLACE}/code"]


async def test_a_code_among_the_arguments_is_wrong_use(hive: FakeHive) -> None:
    done = await call(hive.data, "login", "alice", "--code", "abc#S")
    assert (done.status, hive.received) == (2, [])


@pytest.mark.parametrize("code", [b"", b"abc\n", b"a b#c\n", b"x" * 10_000])
async def test_a_code_that_is_not_whole_is_not_sent_and_not_repeated(hive: FakeHive, code: bytes) -> None:
    done = await call(hive.data, "login", "alice", stdin=code)
    assert done.status == 1
    assert asked(hive) == [f"POST {PLACE}"]
    assert not code.strip() or code.strip() not in done.stderr


async def test_a_refused_code_ends_with_status_1_and_claudes_words(hive: FakeHive) -> None:
    hive.answers[f"POST {PLACE}/code"] = refuse_with(InvalidInputError("claude does not take it", "begin again"), 400)
    done = await call(hive.data, "login", "alice", stdin=b"abc#S\n")
    assert done.status == 1
    assert b"hive: claude does not take it\nhint: begin again" in done.stderr


async def test_a_link_that_leads_elsewhere_is_not_shown(hive: FakeHive) -> None:
    hive.answers[f"POST {PLACE}"] = answer_with(LoginStarted(url="https://evil.example/\x1b[2J"))
    done = await call(hive.data, "login", "alice", stdin=b"abc#S\n")
    assert done.status == 1
    assert b"evil" not in done.stderr + done.stdout
