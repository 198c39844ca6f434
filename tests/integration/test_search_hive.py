"""Search, filters and the command line of messages on a real daemon, which is killed and loses its index."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli_process import call
from hive_process import HiveProcess, end_hive, wait_for

SENDERS = 8


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[HiveProcess]:
    hive = HiveProcess(tmp_path / "data").start()
    # What is sent stays as it is: no turns.
    hive.post("/api/pause")
    yield hive
    end_hive(hive)


def find(hive: HiveProcess, **query: str | int) -> list[int]:
    with hive.client() as client:
        answer = client.get("/api/messages", params={"limit": 500} | query)
        answer.raise_for_status()
        assert "x-hive-unsearched" not in answer.headers or query.get("search")
        return [row["id"] for row in answer.json()]


def send(hive: HiveProcess, body: str, **more: Any) -> int:
    return hive.post("/api/messages", {"to": "manager", "body": body} | more)["id"]


def send_until_killed(hive: HiveProcess, count: int) -> list[int]:
    """What was confirmed when the daemon died in the midst of it."""

    def send_some(first: int) -> list[int]:
        sent: list[int] = []
        with hive.client() as client:
            for number in range(first, first + count):
                try:
                    answer = client.post("/api/messages", json={"to": "manager", "body": f"needle {number}"})
                except httpx.HTTPError:
                    return sent
                sent.append(answer.json()["id"])
        return sent

    with ThreadPoolExecutor(SENDERS) as pool:
        tasks = [pool.submit(send_some, 1000 * sender) for sender in range(SENDERS)]
        wait_for(lambda: len(find(hive, search="needle")) >= 40, "forty messages to be found", hive=None)
        hive.kill()
        return [id_ for task in tasks for id_ in task.result()]


def count_indexed(hive: HiveProcess) -> tuple[int, int]:
    """How many messages are in the index, and how many there are."""
    with closing(sqlite3.connect(hive.data / "search.sqlite")) as connection:
        connection.execute("attach ? as hive", (str(hive.data / "hive.sqlite"),))
        query = "select (select count(*) from message_index_docsize), (select count(*) from hive.messages)"
        return connection.execute(query).fetchone()


# Where nobody listens any more, httpcore leaves the socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_daemon_killed_between_store_and_index_misses_nothing_and_indexes_nothing_twice(hive: HiveProcess) -> None:
    sent: list[int] = []
    for _ in range(3):
        sent += send_until_killed(hive, 500)
        hive.start()
    found = find(hive, search="needle")
    before = found[-1]
    while page := find(hive, search="needle", before=before):
        found, before = found + page, page[-1]
    assert sorted(set(found)) == sorted(found)
    assert set(sent) <= set(found)
    indexed, there = count_indexed(hive)
    assert indexed == there
    [only] = find(hive, search='"needle 1003"')[:1]
    assert only in found


def test_an_index_that_was_deleted_comes_back_by_itself(hive: HiveProcess) -> None:
    sent = [send(hive, f"needle {number}") for number in range(50)]
    hive.stop()
    for file in hive.data.glob("search.sqlite*"):
        file.unlink()
    hive.start()
    wait_for(lambda: find(hive, search="needle") == sent[::-1], "the index to be made anew", hive=hive)
    assert (hive.data / "search.sqlite").stat().st_mode & 0o777 == 0o600


def test_what_is_asked_for_wrongly_is_refused_and_no_search_is(hive: HiveProcess) -> None:
    send(hive, "needle")
    with hive.client() as client:
        for query in (
            {"state": "lost"},
            {"kind": "boss"},
            {"thread": "x"},
            {"after": 1, "search": "a"},
            {"limit": 501},
        ):
            assert client.get("/api/messages", params=query).status_code == 400, query
        for search in ('"', "*", 'a" OR "b', "body:x", "NEAR(a b)", "-", "\0", "(", "{a b}:c", "é" * 1000):
            assert client.get("/api/messages", params={"search": search}).status_code == 200, search


async def test_an_operator_finds_a_message_again_by_command(hive: HiveProcess) -> None:
    sent = await call(hive.data, "send", "manager", "the build of retry_after is broken", "-p", "high", "--ttl", "1h")
    assert sent.stdout.startswith(b"sent "), sent.error_text
    number = sent.stdout.split()[1].decode()
    assert b"retry_after" in (await call(hive.data, "search", "retry", "brok*")).stdout
    assert (await call(hive.data, "search", "nowhere")).stdout == b"nothing found\n"
    shown = (await call(hive.data, "message", number)).stdout
    assert b"priority: high" in shown
    assert b"expires: " in shown
    assert number in (await call(hive.data, "inbox", "--thread", number)).stdout.decode()
    gone = await call(hive.data, "message", "999999")
    assert (gone.status, gone.stdout) == (1, b"")
