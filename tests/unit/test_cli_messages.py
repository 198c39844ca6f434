"""Messages on the command line: send, inbox, search, message, tail, on a fake hive."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from cli_process import asked, call
from fake_hive import MESSAGE, NOW, Answer, FakeHive, Received, answer_with, run_fake_hive
from hyperhive.cli.flow import render_hits, render_line, render_whole
from hyperhive.cli.messages import PAGE, parse_ttl, render_inbox
from hyperhive.cli.rendering import Screen
from hyperhive.core.errors import HiveError
from hyperhive.core.messages import MessageState, SenderKind
from hyperhive.wire.operator.messages import Message

DEADLINE_S = 30
PLAIN = Screen(now=datetime.now(UTC))


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        yield fake


def make_messages(*ids: int, **fields: object) -> list[Message]:
    return [MESSAGE.model_copy(update={"id": id_, "body": f"body {id_}"} | fields) for id_ in ids]


def rows(*messages: Message) -> list[dict[str, object]]:
    return [message.model_dump(mode="json") for message in messages]


def answer_pages(messages: list[Message]) -> Answer:
    """As the hive does: `before`, `after`, `limit`, the newest first."""

    def answer(received: Received) -> tuple[int, object]:
        query = {
            name: int(value[0]) for name, value in parse_qs(urlsplit(received.path).query).items() if value[0].isdigit()
        }
        found = [m for m in messages if query.get("after", 0) < m.id < query.get("before", 2**60)]
        found.sort(key=lambda message: message.id, reverse="after" not in query)
        return 200, rows(*found[: query["limit"]])

    return answer


# -- send ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_a_lifetime_is_a_number_with_a_unit(text: str, seconds: int) -> None:
    assert parse_ttl(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1.5h", "1w", "1h30m", "999999999d", "0", "٣"])
def test_any_other_lifetime_is_refused(text: str) -> None:
    with pytest.raises(HiveError):
        parse_ttl(text)


async def test_a_message_takes_its_priority_and_its_lifetime_along(hive: FakeHive) -> None:
    done = await call(hive.data, "send", "alice", "hi", "--priority", "high", "--ttl", "2h")
    assert done.stdout == b"sent 77 to alice\n"
    body = hive.received[0].body
    assert (body["to"], body["priority"], body["ttl_s"]) == ("alice", "high", 7200)


@pytest.mark.parametrize("name", ["all", "*"])
async def test_a_message_to_all_says_how_many_got_it(hive: FakeHive, name: str) -> None:
    hive.answers["POST /api/messages"] = answer_with({"id": 3, "ids": [3, 4, 5]}, 201)
    done = await call(hive.data, "send", name, "hi")
    assert done.stdout == b"sent 3 to 3 agents\n"
    assert hive.received[0].body["to"] == "*"


# -- inbox ---------------------------------------------------------------------------------------------------


def test_the_inbox_keeps_conversations_together_and_the_latest_comes_last() -> None:
    first, answered = make_messages(1), make_messages(4, thread=1, in_reply_to=1)
    other = make_messages(3)
    lines = render_inbox(rows(*answered, *other, *first), PLAIN).splitlines()
    assert [line.split(" from")[0] for line in lines if line.startswith(("#", "thread"))] == [
        "#3",
        "thread 1: hive inbox --thread 1",
        "#1",
        "#4",
    ]


async def test_a_conversation_shows_the_operators_part_too(hive: FakeHive) -> None:
    hive.answers["GET /api/messages"] = answer_with(
        [*make_messages(5, sender="operator", kind=SenderKind.OPERATOR, recipient="alice", thread=1)]
    )
    done = await call(hive.data, "inbox", "--thread", "1")
    assert asked(hive) == ["GET /api/messages?thread=1&limit=20"]
    assert b"#5 from operator to alice" in done.stdout


async def test_only_what_is_not_read_is_asked_for(hive: FakeHive) -> None:
    await call(hive.data, "inbox", "--unread", "--limit", "3")
    assert asked(hive) == ["GET /api/inbox?unread=true&limit=3"]


async def test_all_are_fetched_page_by_page(hive: FakeHive) -> None:
    hive.answers["GET /api/inbox"] = answer_pages(make_messages(*range(1, PAGE + 8)))
    done = await call(hive.data, "inbox", "--all", "--json")
    assert [row["id"] for row in json.loads(done.stdout)] == list(range(PAGE + 7, 0, -1))
    assert asked(hive) == [f"GET /api/inbox?limit={PAGE}", f"GET /api/inbox?limit={PAGE}&before=8"]


# -- search and message --------------------------------------------------------------------------------------


async def test_a_search_takes_its_filters_along(hive: FakeHive) -> None:
    words = ["build", '"is broken"', "retr*"]
    more = ["--agent", "alice", "--state", "dead", "--kind", "peer", "--thread", "4", "--limit", "7", "--before", "90"]
    done = await call(hive.data, "search", *words, *more)
    assert done.status == 0, done.error_text
    query = {name: value[0] for name, value in parse_qs(urlsplit(hive.received[0].path).query).items()}
    assert query == {
        "agent": "alice",
        "state": "dead",
        "kind": "peer",
        "search": 'build "is broken" retr*',
        "limit": "7",
        "thread": "4",
        "before": "90",
    }


async def test_a_search_says_what_it_could_not_search(hive: FakeHive) -> None:
    hive.headers["X-Hive-Unsearched"] = "41"
    done = await call(hive.data, "search", "done")
    assert b"#12 from alice" in done.stdout
    assert b"41 messages are not indexed yet" in done.stderr


async def test_a_search_says_how_to_go_on(hive: FakeHive) -> None:
    assert b"--before 12" in (await call(hive.data, "search", "done", "--limit", "1")).stderr
    assert (await call(hive.data, "search", "done")).stderr == b""


async def test_a_search_for_nothing_is_refused_and_bytes_that_are_no_text_are_not(hive: FakeHive) -> None:
    assert (await call(hive.data, "search", " ")).status == 1
    done = await call(hive.data, "search", os.fsdecode(b"a\xff"), LC_ALL="C.UTF-8")
    assert done.status == 0, done.error_text


def test_of_a_long_message_the_lines_that_were_found_are_shown() -> None:
    body = "\n".join(["first", "the Lease ended", *("x" * 9 for _ in range(9)), "lease, again"])
    shown = render_hits(rows(*make_messages(1, body=body)), "lease*", PLAIN)
    assert shown.splitlines()[1:] == ["    the Lease ended", "    lease, again", "    …"]


def test_a_message_is_shown_whole_with_receipts_and_conversation() -> None:
    message, other = make_messages(3, 4, broadcast=3, state=MessageState.ACKED, settled_at=NOW)
    reply = make_messages(8, thread=3, in_reply_to=3, sender="bob", recipient="operator")
    text = render_whole(rows(message)[0], rows(message, other), rows(*reply, message), PLAIN)
    assert "state: acked at" in text
    assert "    body 3" in text
    assert "sent to all\nID  TO" in text
    assert "#8  bob → operator  body 8" in text


async def test_a_message_is_json_with_all_that_belongs_to_it(hive: FakeHive) -> None:
    done = await call(hive.data, "message", "12", "--json")
    shown = json.loads(done.stdout)
    assert shown["message"]["id"] == shown["receipts"][0]["id"] == shown["thread"][0]["id"] == 12
    assert asked(hive) == ["GET /api/messages/12", "GET /api/messages?thread=12&limit=500"]


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nhive: forged", "\u202eabc"])
def test_what_an_agent_wrote_stays_on_its_line(text: str) -> None:
    [line] = render_line(rows(*make_messages(1, body=text))[0], PLAIN).splitlines()
    assert "\x1b" not in line
    assert "\u202e" not in line


# -- tail ----------------------------------------------------------------------------------------------------


class Tail:
    """A `hive tail` that runs until the test ends it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def read_ids(self, count: int) -> list[int]:
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            return [json.loads(await self.process.stdout.readline())["id"] for _ in range(count)]

    async def read_error(self) -> str:
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            return (await self.process.stderr.readline()).decode()

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def start_tail(data: Path, *args: str) -> Tail:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "hyperhive.cli.main", "tail", "--json", *args]
    environment = os.environ | {"HIVE_DATA": str(data)}
    return Tail(await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment))


async def test_the_flow_begins_with_the_last_ones_and_goes_on(hive: FakeHive) -> None:
    said = make_messages(*range(1, 21))
    hive.answers["GET /api/messages"] = answer_pages(said)
    tail = await start_tail(hive.data, "-n", "3")
    try:
        assert await tail.read_ids(3) == [18, 19, 20]
        said.extend(make_messages(*range(21, 21 + PAGE + 50)))
        assert await tail.read_ids(PAGE + 50) == list(range(21, 21 + PAGE + 50))
    finally:
        await tail.end()


async def test_the_flow_goes_on_after_a_restart_without_a_gap(tmp_path: Path) -> None:
    said = make_messages(1, 2)
    data = tmp_path / "data"
    with run_fake_hive(data) as hive:
        hive.answers["GET /api/messages"] = answer_pages(said)
        tail = await start_tail(data)
        assert await tail.read_ids(2) == [1, 2]
    try:
        assert (await tail.read_error()).startswith("hive: ")
        said.extend(make_messages(3, 4))
        with run_fake_hive(data) as hive:
            hive.answers["GET /api/messages"] = answer_pages(said)
            assert await tail.read_ids(2) == [3, 4]
            said.extend(make_messages(5))
            assert await tail.read_ids(1) == [5]
    finally:
        await tail.end()


async def test_the_flow_of_a_state_shows_each_message_once_that_comes_into_it(hive: FakeHive) -> None:
    dead = make_messages(7)
    hive.answers["GET /api/messages"] = answer_pages(dead)
    tail = await start_tail(hive.data, "--state", "dead", "--agent", "alice", "-n", "0")
    try:
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while len(hive.received) < 2 and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        dead.extend(make_messages(3))
        assert await tail.read_ids(1) == [3]
        dead.extend(make_messages(9))
        assert await tail.read_ids(1) == [9]
        assert asked(hive)[0] == f"GET /api/messages?agent=alice&state=dead&limit={PAGE}"
    finally:
        await tail.end()


async def test_without_a_hive_there_is_no_flow(tmp_path: Path) -> None:
    done = await call(tmp_path, "tail")
    assert done.status == 3


def test_a_line_tells_the_day_of_what_was_not_today() -> None:
    old = make_messages(1, sent_at=NOW - timedelta(days=3))
    assert render_line(rows(*old)[0], PLAIN).startswith(f"{(NOW - timedelta(days=3)).astimezone():%Y-%m-%d}")
