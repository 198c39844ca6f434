"""The audit: written with what it tells of, never changed, and whatever is changed all the same is found."""

import asyncio
import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhive.cli.audit_files import (
    Verified,
    find_head,
    leave_note,
    list_lines,
    load_heads,
    verify_database,
    verify_export,
    write_export,
)
from hyperhive.core.audit import (
    BODY_LIMIT_CHARS,
    HIVE,
    NO_HASH,
    Anchor,
    AuditName,
    BrokenChainError,
    hash_content,
    parse_anchor,
    render_body,
    render_content,
)
from hyperhive.core.audit_bodies import plan_audit_body
from hyperhive.core.errors import ConflictError, InvalidInputError, NotFoundError
from hyperhive.core.events import EventName
from hyperhive.core.paths import Roots
from hyperhive.host.acting import act_as, find_actor, render_session
from hyperhive.host.store.store import Store, Transaction

ROWS = 9
TRIGGERS = ("audit_grows_by_one", "audit_is_not_changed", "audit_is_not_deleted")


def fill(tx: Transaction, start: int) -> None:
    for number in range(start, ROWS):
        tx.audit(AuditName.OPERATOR_ACTED, f"agent-{number}", {"path": f"/api/{number}", "text": "é\n\x00"}, "operator")


async def make_audit(folder: Path) -> None:
    store = Store(folder / "hive.sqlite", "hive")
    await store.write(lambda tx: fill(tx, 1))
    store.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    asyncio.run(make_audit(folder))
    return folder


@pytest.fixture
def roots(written: Path, tmp_path: Path) -> Roots:
    shutil.copytree(written, tmp_path / "data")
    return Roots(tmp_path / "data", tmp_path / "run")


def open_freely(roots: Roots) -> sqlite3.Connection:
    """As somebody has it who is root, or the daemon's user: nothing in the database keeps them from anything."""
    connection = sqlite3.connect(roots.database, isolation_level=None)
    for trigger in TRIGGERS:
        connection.execute(f"drop trigger {trigger}")
    return connection


def read_rows(roots: Roots) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(roots.database)) as connection:
        return connection.execute("select seq, at, actor, name, agent, body, hash from audit order by seq").fetchall()


# -- what is written ---------------------------------------------------------------------------------------


async def test_what_is_told_and_what_is_changed_are_in_one_transaction(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")

    def fail(tx: Transaction) -> None:
        tx.emit(EventName.AGENT_SPAWNED, "alice", {})
        raise ConflictError("no")

    with pytest.raises(ConflictError):
        await store.write(fail)
    await store.write(lambda tx: tx.emit(EventName.AGENT_SPAWNED, "bob", {}))
    store.close()
    rows = read_rows(Roots(tmp_path, tmp_path))
    assert [(row[0], row[3], row[4]) for row in rows] == [(1, "audit.begun", None), (2, "agent.spawned", "bob")]


async def test_the_first_row_has_a_digest_of_what_was_recorded_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")
    await store.write(lambda tx: tx.emit(EventName.AGENT_SPAWNED, "alice", {"a": 1}))
    store.close()
    with closing(sqlite3.connect(tmp_path / "hive.sqlite")) as connection:
        event = connection.execute("select id, at, name, agent, body from events").fetchone()
    # As it was before there was an audit.
    with closing(open_freely(Roots(tmp_path, tmp_path))) as connection:
        connection.execute("delete from audit")
    Store(tmp_path / "hive.sqlite", "hive").close()
    [row] = read_rows(Roots(tmp_path, tmp_path))
    line = json.dumps(list(event), separators=(",", ":")) + "\n"
    assert json.loads(row[5])["events_sha256"] == hashlib.sha256(line.encode()).hexdigest()
    assert json.loads(row[5])["events"] == 1
    assert verify_database(Roots(tmp_path, tmp_path), ()).rows == 1


@pytest.mark.parametrize(
    "statement",
    [
        "update audit set body = '{}' where seq = 2",
        "delete from audit where seq = 9",
        "delete from audit",
        "insert or replace into audit select * from audit where seq = 3",
        "insert into audit values (11, 0, '', '', null, '{}', '')",
        "insert into audit values (null, 0, '', '', null, '{}', '')",
        "update or replace audit set seq = 3 where seq = 4",
    ],
)
def test_the_database_itself_refuses_to_change_a_row(roots: Roots, statement: str) -> None:
    before = read_rows(roots)
    with closing(sqlite3.connect(roots.database)) as connection, pytest.raises(sqlite3.IntegrityError, match="rows of"):
        connection.execute(statement)
    assert read_rows(roots) == before


def test_a_body_is_bounded_and_spelled_in_one_way() -> None:
    body = {"z": 1.5, "a": [True, None, {"deep": {"deeper": {"deepest": [1]}}}], "text": "é" * 10_000}
    text = render_body(body)
    assert text == render_body(dict(reversed(body.items())))
    assert json.loads(text)["z"] == "1.5"
    assert text.isascii() and len(text) <= BODY_LIMIT_CHARS
    many = render_body({f"key-{number}": "x" * 400 for number in range(1000)})
    assert len(many) <= BODY_LIMIT_CHARS
    assert json.loads(many)["size_chars"] > BODY_LIMIT_CHARS


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_any_body_is_rendered_to_what_reads_back_the_same(value: Any) -> None:
    text = render_body({"value": value})
    assert render_body(json.loads(text)) == text
    assert len(text) <= BODY_LIMIT_CHARS


def test_words_of_people_and_agents_are_digests_and_a_decision_is_told() -> None:
    question = {
        "id": 1,
        "kind": "permission",
        "agent": "alice",
        "asked": "operator",
        "question": "It wants to call Bash; its config says to ask: bash.ask: git *\nWithout …\n\ngit push SECRET",
        "status": "answered",
        "asked_at": "2026-01-01T00:00:00Z",
        "answer": "allow for 30 minutes\nbecause of SECRET",
    }
    told = plan_audit_body(EventName.QUESTION_ANSWERED, {"question": question})
    assert told is not None
    assert told["decision"] == "allow_30m"
    assert told["about"] == "It wants to call Bash; its config says to ask: bash.ask: git *"
    assert "SECRET" not in json.dumps(told)
    assert plan_audit_body(EventName.QUESTION_ANSWERED, {"question": question | {"asked": "bob"}}) is None
    assert plan_audit_body(EventName.QUESTION_ASKED, {"question": question}) is None
    words = plan_audit_body(EventName.QUESTION_ANSWERED, {"question": question | {"answer": "what it said"}})
    assert words is not None
    assert words["decision"] == "deny"
    acted = {"name": "ci", "method": "POST", "path": "/api/messages"}
    assert plan_audit_body(EventName.TOKEN_ACTED, acted) is None
    assert plan_audit_body(EventName.TOKEN_ACTED, acted | {"path": "/api/messages/3/dismiss"}) is not None
    assert plan_audit_body(EventName.AGENT_HIBERNATED, {}) is None


# -- who did it --------------------------------------------------------------------------------------------


async def test_a_change_is_put_down_to_who_asked_for_it_and_to_nobody_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "hive.sqlite", "hive")

    async def change(agent: str) -> None:
        await store.write(lambda tx: tx.emit(EventName.AGENT_STARTED, agent, {}))

    async def serve() -> None:
        act_as(render_session("abc"))
        await change("asked")
        # What it sets off lives on, and serves others.
        await asyncio.create_task(change("later"))
        await asyncio.gather(change("beside"))
        assert find_actor() == "operator session abc"

    await asyncio.create_task(serve())
    await change("alone")
    store.close()
    rows = read_rows(Roots(tmp_path, tmp_path))[1:]
    assert [(row[4], row[2]) for row in rows] == [
        ("asked", "operator session abc"),
        ("later", HIVE),
        ("beside", HIVE),
        ("alone", HIVE),
    ]


# -- what is found -----------------------------------------------------------------------------------------


def test_what_was_not_changed_is_sound_with_or_without_a_daemon(roots: Roots) -> None:
    with closing(sqlite3.connect(roots.database)) as reader:
        reader.execute("begin")
        assert verify_database(roots, ()).rows == ROWS
    found = verify_database(roots, [Anchor(ROWS, read_rows(roots)[-1][6])])
    assert (found.rows, found.hash, found.noted, found.heads) == (ROWS, read_rows(roots)[-1][6], ROWS, 1)


columns = st.sampled_from(["seq", "at", "actor", "name", "agent", "body", "hash"])
numbers = st.integers(1, ROWS)
texts = st.one_of(st.text(max_size=8), st.just("hive"), st.just("{}"), st.just(NO_HASH))
edits = st.one_of(
    st.tuples(st.just("change"), numbers, columns, texts, st.integers(-1, ROWS + 2)),
    st.tuples(st.just("delete"), numbers, st.booleans()),
    st.tuples(st.just("swap"), numbers, numbers, columns | st.none()),
    st.tuples(st.just("insert"), numbers, numbers),
    st.tuples(st.just("cut"), numbers),
    st.tuples(st.just("rewrite"), numbers, texts),
)
Row = list[Any]
_COLUMNS = ("seq", "at", "actor", "name", "agent", "body", "hash")


def edit_rows(rows: list[Row], edit: tuple[Any, ...]) -> list[Row]:
    """One edit of the rows, as somebody makes it who can write the file."""
    rows = [list(row) for row in rows]
    match edit:
        case ("change", number, column, text, value):
            rows[number - 1][_COLUMNS.index(column)] = value if column in {"seq", "at"} else text
        case ("delete", number, renumbered):
            del rows[number - 1]
            return number_rows(rows) if renumbered else rows
        case ("swap", one, other, column):
            # Whole rows but for their numbers, or one value of them.
            indices = range(1, 7) if column in {None, "seq"} else [_COLUMNS.index(column)]
            swap_values(rows[one - 1], rows[other - 1], indices)
        case ("insert", number, like):
            return number_rows([*rows[: number - 1], rows[like - 1], *rows[number - 1 :]])
        case ("cut", number):
            return rows[: number - 1]
        case ("rewrite", number, text):
            rows[number - 1][2] = text
            return hash_rows(rows)
        case _:
            raise AssertionError(edit)
    return rows


@settings(deadline=None)
@given(edit=edits, exported=st.booleans())
def test_any_single_edit_is_found(written: Path, edit: tuple[Any, ...], exported: bool) -> None:
    before = [list(row) for row in read_rows(Roots(written, written))]
    after = edit_rows(before, edit)
    anchors = [Anchor(ROWS, before[-1][6])]
    with tempfile.TemporaryDirectory() as folder:
        roots = Roots(Path(folder), Path(folder))
        make_foreign(roots, after)
        export = Path(folder) / "export"

        def look() -> Verified:
            if exported:
                write_export(export, list_lines(roots))
                return verify_export(export, anchors)
            return verify_database(roots, anchors)

        # In another order the same rows are the same rows: a database has none but their numbers.
        if sorted(after) == before:
            assert look().rows == ROWS
        else:
            with pytest.raises(BrokenChainError) as caught:
                look()
            # Where all hashes after it fit, only what was noted shows it. Of two rows with one number either is first.
            first = ROWS if edit[0] == "rewrite" else first_difference(before, sorted(after))
            assert abs(caught.value.seq - first) <= 1


def number_rows(rows: list[Row]) -> list[Row]:
    return [[number, *row[1:]] for number, row in enumerate(rows, start=1)]


def swap_values(one: Row, other: Row, indices: Iterable[int]) -> None:
    for index in indices:
        one[index], other[index] = other[index], one[index]


def hash_rows(rows: list[Row]) -> list[Row]:
    """With hashes that fit."""
    previous = NO_HASH
    for row in rows:
        row[6] = previous = hash_content(previous, render_content(*row[:6]))
    return rows


def first_difference(before: list[Row], after: list[Row]) -> int:
    for number, (one, other) in enumerate(zip(before, after, strict=False), start=1):
        if one != other:
            return number
    return min(len(before), len(after)) + 1


def make_foreign(roots: Roots, rows: list[Row]) -> None:
    """A database with any rows, in a table that takes them all."""
    with closing(sqlite3.connect(roots.database)) as connection:
        connection.execute("create table audit (seq, at, actor, name, agent, body, hash)")
        connection.executemany("insert into audit values (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()


@pytest.mark.parametrize(
    ("statement", "row", "message"),
    [
        ("update audit set actor = 'hive' where seq = 4", 4, "it was changed"),
        ("delete from audit where seq = 4", 4, "it is missing"),
        ("update audit set hash = 'no' where seq = 9", 9, "it was changed"),
        ("delete from audit where seq > 6", 7, "there were 9 rows"),
        ("delete from audit", 1, "there were 9 rows"),
    ],
)
def test_the_first_row_that_is_wrong_is_named(roots: Roots, statement: str, row: int, message: str) -> None:
    roots.audit_heads.write_text(f"{ROWS} {read_rows(roots)[-1][6]} 2026-01-01T00:00:00+00:00\n")
    with closing(open_freely(roots)) as connection:
        connection.execute(statement)
    with pytest.raises(BrokenChainError, match=message) as caught:
        verify_database(roots, ())
    assert caught.value.seq == row


def test_a_tail_that_was_cut_off_is_not_missed_unless_its_end_was_noted(roots: Roots) -> None:
    head = find_head(roots)
    with closing(open_freely(roots)) as connection:
        connection.execute("delete from audit where seq = 9")
    assert verify_database(roots, ()).rows == ROWS - 1
    with pytest.raises(BrokenChainError):
        verify_database(roots, [head])


@pytest.mark.parametrize("values", ["(10, 'x', 1, 2, 3, 4, 5)", "('x', 1, '', '', '', '', '')", "(10,1,x'00',2,3,4,5)"])
def test_a_table_that_was_made_anew_with_anything_in_it_is_found(roots: Roots, values: str) -> None:
    with closing(open_freely(roots)) as connection:
        connection.execute("create table other (seq, at, actor, name, agent, body, hash)")
        connection.execute("insert into other select * from audit")
        connection.execute("drop table audit")
        connection.execute("alter table other rename to audit")
        connection.execute(f"insert into audit values {values}")
    with pytest.raises(BrokenChainError) as caught:
        verify_database(roots, ())
    assert caught.value.seq == ROWS + 1


# -- exports and heads -------------------------------------------------------------------------------------


def test_an_export_is_verified_by_itself_and_any_byte_of_it_counts(roots: Roots, tmp_path: Path) -> None:
    export = tmp_path / "export"
    assert write_export(export, list_lines(roots)) == ROWS
    assert export.stat().st_mode & 0o777 == 0o600
    assert verify_export(export, [find_head(roots)]).rows == ROWS
    content = export.read_bytes()
    with pytest.raises(ConflictError):
        write_export(export, [])
    for place in range(0, len(content), 7):
        export.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BrokenChainError):
            verify_export(export, ())


def test_an_export_needs_no_more_than_sha_256_to_be_verified(roots: Roots) -> None:
    previous = NO_HASH
    for line in list_lines(roots):
        row = json.loads(line)
        claimed = row.pop("hash")
        text = json.dumps(row, sort_keys=True, separators=(",", ":"))
        previous = hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()
        assert previous == claimed


def test_heads_are_read_as_they_are_shown_and_as_they_are_noted(tmp_path: Path) -> None:
    digits = "ab" * 32
    assert parse_anchor(f"12:{digits}") == Anchor(12, digits)
    assert parse_anchor(f"12 {digits} 2026-01-01T00:00:00+00:00\n").noted_at == "2026-01-01T00:00:00+00:00"
    for wrong in ("", "12", f"0:{digits}", f"12:{digits}0", f"-1:{digits}", f"12:{digits.upper()}"):
        with pytest.raises(InvalidInputError):
            parse_anchor(wrong)
    heads = tmp_path / "audit.head"
    assert load_heads(heads) == []
    # The machine lost its power while the last line was written.
    heads.write_text(f"12 {digits} now\n13 {digits[:20]}")
    assert [anchor.seq for anchor in load_heads(heads)] == [12]
    heads.write_text(f"12 {digits} now\nnonsense\n")
    with pytest.raises(InvalidInputError):
        load_heads(heads)


def test_without_a_hive_or_an_audit_it_is_said_so(tmp_path: Path) -> None:
    roots = Roots(tmp_path, tmp_path)
    with pytest.raises(NotFoundError, match="no hive"):
        verify_database(roots, ())
    sqlite3.connect(roots.database).close()
    with pytest.raises(NotFoundError, match=r"no hive|no audit"):
        roots.database.touch()
        verify_database(roots, ())
    with pytest.raises(NotFoundError):
        verify_export(tmp_path / "none", ())


def test_a_note_for_the_daemon_is_whole_and_its_owners_alone(tmp_path: Path) -> None:
    leave_note(tmp_path, AuditName.BACKUP_TAKEN, {"file": "x"})
    [note] = Roots(tmp_path, tmp_path).audit_notes.iterdir()
    assert json.loads(note.read_text()) == {"name": "backup.taken", "file": "x"}
    assert note.stat().st_mode & 0o777 == 0o600
