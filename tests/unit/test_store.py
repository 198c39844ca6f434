"""The store on real SQLite files: durable before it answers, undone when it fails, loud when it is damaged."""

import asyncio
import re
import sqlite3
import sys
from pathlib import Path

import pytest

from hyperhive.core.errors import ConflictError, StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.host.store.queries import QUERIES, load_queries
from hyperhive.host.store.store import Store, Transaction


def add_session(tx: Transaction, token: str) -> None:
    tx.list("insert_session", token_hash=token, at=0, expires_at=2**50)


async def find_session(store: Store, token: str) -> bool:
    return await store.read(lambda view: view.find("find_session", token_hash=token, at=1)) is not None


async def test_a_change_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")
    await store.write(lambda tx: add_session(tx, "a"))
    # A foreign reader sees it while the store is open.
    with sqlite3.connect(tmp_path / "hive.sqlite") as connection:
        assert connection.execute("select token_hash from sessions").fetchall() == [("a",)]
    connection.close()
    store.close()


async def test_a_change_that_raises_leaves_nothing_and_spares_the_others_of_its_commit(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")

    def bad(tx: Transaction) -> None:
        add_session(tx, "bad")
        raise ConflictError("no")

    outcomes = await asyncio.gather(
        store.write(lambda tx: add_session(tx, "a")),
        store.write(bad),
        store.write(lambda tx: add_session(tx, "b")),
        return_exceptions=True,
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["NoneType", "ConflictError", "NoneType"]
    assert [await find_session(store, token) for token in ("a", "bad", "b")] == [True, False, True]
    store.close()


async def test_events_leave_after_the_commit_in_order_and_never_for_what_failed(tmp_path: Path) -> None:
    seen: list[Event] = []
    store = Store(tmp_path / "hive.sqlite", "hive", seen.extend)

    def change(number: int) -> None:
        async def write() -> None:
            def emit(tx: Transaction) -> None:
                tx.emit(EventName.AGENT_SPAWNED, f"a{number}", {})
                if number == 3:
                    raise ConflictError("no")

            await store.write(emit)

        tasks.append(asyncio.ensure_future(write()))

    tasks: list[asyncio.Future[None]] = []
    for number in range(6):
        change(number)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [event.agent for event in seen] == ["a0", "a1", "a2", "a4", "a5"]
    ids = [event.id for event in seen if event.id is not None]
    assert ids == sorted(set(ids)) and len(ids) == len(seen)
    store.close()


async def test_many_writers_share_commits(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")
    await asyncio.gather(*(store.write(lambda tx, n=n: add_session(tx, str(n))) for n in range(500)))
    rows = await store.read(lambda view: view.list("list_events_after", after=0, limit=1))
    assert rows == []
    assert await find_session(store, "499")
    store.close()


async def test_data_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    Store(path, "hive").close()
    connection = sqlite3.connect(path)
    connection.execute("pragma user_version = 999")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="newer version"):
        Store(path, "hive")
    assert path.read_bytes() == before


async def test_a_damaged_file_is_refused_loudly(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StorageError):
        Store(path, "hive")
    assert path.read_bytes().startswith(b"this is no database")


async def test_a_foreign_writer_delays_a_change_and_does_not_double_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")
    foreign = sqlite3.connect(tmp_path / "hive.sqlite", isolation_level=None)
    foreign.execute("begin immediate")
    write = asyncio.ensure_future(store.write(lambda tx: add_session(tx, "a")))
    # The loop stays free while the writer waits: reads are answered.
    assert not await find_session(store, "a")
    assert not write.done()
    foreign.execute("commit")
    foreign.close()
    await write
    assert await find_session(store, "a")
    store.close()


LOOK = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute(sys.argv[2]).fetchone()[0]); c.close()"


async def test_another_process_that_looks_and_leaves_does_not_take_the_log_away(tmp_path: Path) -> None:
    path = tmp_path / "hive.sqlite"
    store = Store(path, "hive")
    for number in range(1, 6):
        await store.write(lambda tx, token=str(number): add_session(tx, token))
        # The last connection to close a database removes its log: only the daemon's locks say that it is not the last.
        command = [sys.executable, "-c", LOOK, str(path), "select count(*) from sessions"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        seen, _ = await process.communicate()
        assert int(seen) == number
        assert path.with_name("hive.sqlite-wal").exists()
    store.close()


async def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")
    await store.write(lambda tx: add_session(tx, "a"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    store.close()


async def test_a_caller_that_goes_away_does_not_lose_the_events(tmp_path: Path) -> None:
    seen: list[Event] = []
    store = Store(tmp_path / "hive.sqlite", "hive", seen.extend)
    write = asyncio.ensure_future(store.write(lambda tx: tx.emit(EventName.AGENT_SPAWNED, "alice", {})))
    await asyncio.sleep(0)
    write.cancel()
    await store.write(lambda tx: None)
    assert [event.agent for event in seen] == ["alice"]
    store.close()


async def test_a_change_after_the_end_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")
    store.close()
    with pytest.raises(StorageError, match="closed"):
        await asyncio.wait_for(store.write(lambda tx: add_session(tx, "late")), 5)


def test_migrations_make_every_table_the_queries_use(tmp_path: Path) -> None:
    def list_tables(schema: str) -> set[str]:
        scripts = Path("src/hyperhive/host/store/migrations", schema).glob("*.sql")
        return {name for script in scripts for name in re.findall(r"create table (\w+)", script.read_text())}

    def prepare(schema: str, names: set[str], *others: str) -> None:
        connection = sqlite3.connect(":memory:")
        for folder in (schema, *others):
            for script in sorted(Path("src/hyperhive/host/store/migrations", folder).glob("*.sql")):
                connection.executescript(script.read_text())
        for name in names:
            named = dict.fromkeys(_parameters(QUERIES[name]), 0)
            connection.execute("explain " + QUERIES[name], named or [0] * QUERIES[name].count("?"))
        connection.close()

    tables = list_tables("telemetry")
    assert not tables & list_tables("hive")
    telemetry = {name for name, query in QUERIES.items() if tables & set(re.findall(r"\w+", query))}
    index = {name for name, query in QUERIES.items() if re.search(r"\b(message_index|index_\w+)\b", query)}
    prepare("telemetry", telemetry)
    prepare("hive", set(QUERIES) - telemetry - index)
    # The index of messages is read together with them.
    prepare("hive", index, "search")


WAITING = ["lease_messages", "count_queued", "count_queued_by_recipient", "list_leased", "bury_messages"]


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_found_without_reading_all_messages(name: str) -> None:
    connection = sqlite3.connect(":memory:")
    for script in sorted(Path("src/hyperhive/host/store/migrations/hive").glob("*.sql")):
        connection.executescript(script.read_text())
    parameters = dict.fromkeys(_parameters(QUERIES[name]), 0)
    plan = [row[3] for row in connection.execute("explain query plan " + QUERIES[name], parameters)]
    connection.close()
    assert any("messages_waiting" in step for step in plan), plan
    assert all("messages_waiting" in step for step in plan if step.startswith("SCAN messages")), plan


def test_a_query_name_used_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- name: one\nselect 1;\n-- name: one\nselect 2;\n")
    with pytest.raises(ValueError, match="twice"):
        load_queries(tmp_path)


def _parameters(statement: str) -> list[str]:
    return [word[1:].rstrip(",;)+") for word in statement.replace("(", " ").split() if word.startswith(":")]
