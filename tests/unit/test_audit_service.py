"""What the daemon does for its audit: counts what there may be any number of, notes heads, takes in notes, searches."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperhive.cli.audit_files import leave_note, load_heads, verify_database
from hyperhive.core.audit import AuditName, AuditRow
from hyperhive.core.events import Event, EventName
from hyperhive.core.paths import Roots
from hyperhive.core.verdicts import render_denied
from hyperhive.host.audit import AGENT_KINDS_LIMIT, THROTTLE_S, Audit, Search
from hyperhive.host.audit_file import SIZE_LIMIT_BYTES, append_head, shorten_heads
from hyperhive.host.background import Background
from hyperhive.host.link.params import AgentEvent
from hyperhive.host.sessions import Sessions, name_session
from hyperhive.host.store.audit_gate import AGENT_ROWS
from hyperhive.host.store.store import Store, Transaction
from hyperhive.system.clock import now

AT = "2026-01-01T00:00:00Z"


@dataclass
class Rig:
    store: Store
    audit: Audit
    roots: Roots
    background: Background
    at_s: float = 0.0

    async def rows(self, name: str = "") -> list[AuditRow]:
        """The oldest first."""
        return (await self.audit.list_rows(Search(name=name), None, 1000)).rows[::-1]

    async def settle(self) -> None:
        """What was counted first is written in the background."""
        while self.background.count():
            await self.store.read(lambda view: None)


@contextlib.asynccontextmanager
async def open_rig(folder: Path) -> AsyncGenerator[Rig]:
    roots = Roots(folder, folder / "run")
    store = Store(roots.database, "hive")
    background = Background()
    rig: Rig
    audit = Audit(store, roots.audit_heads, roots.audit_notes, background, "fake", lambda: rig.at_s)
    rig = Rig(store, audit, roots, background)
    await audit.prepare()
    try:
        yield rig
    finally:
        await rig.settle()
        await audit.finish()
        store.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path) as rig:
        yield rig


async def test_starts_and_ends_are_recorded_and_their_heads_noted(tmp_path: Path) -> None:
    async with open_rig(tmp_path):
        pass
    async with open_rig(tmp_path) as rig:
        names = [row.name for row in await rig.rows()]
    assert names == ["audit.begun", "hive.started", "hive.stopped", "hive.started"]
    roots = Roots(tmp_path, tmp_path)
    assert [anchor.seq for anchor in load_heads(roots.audit_heads)] == [2, 3, 4, 5]
    found = verify_database(roots, ())
    assert (found.rows, found.noted) == (5, 5)
    assert roots.audit_heads.stat().st_mode & 0o777 == 0o600


async def test_what_a_rule_denies_is_told_at_once_and_then_counted(rig: Rig) -> None:
    event = AgentEvent(seq=1, at=AT, kind="claude", body=render_denied("Bash", "bash.deny: git push *"))
    rig.audit.note_events("alice", [event] * 100)
    await rig.settle()
    [row] = await rig.rows("tool.denied")
    assert (row.actor, row.agent) == ("agent alice", "alice")
    assert json.loads(row.body) == {"rule": "bash.deny: git push *", "tool": "Bash"}
    rig.at_s = THROTTLE_S + 1
    await rig.audit.tell_counted()
    await rig.audit.tell_counted()
    more = [json.loads(row.body).get("more") for row in await rig.rows("tool.denied")]
    assert more == [None, 99]


async def test_an_agent_that_makes_up_verdicts_has_few_rows(rig: Rig) -> None:
    events = [
        AgentEvent(seq=n, at=AT, kind="claude", body=render_denied(f"tool-{n}\x1b[31m", "x" * 5000))
        for n in range(1, 501)
    ]
    rig.audit.note_events("alice", [*events, AgentEvent(seq=501, at=AT, kind="claude", body={"type": 5})])
    await rig.settle()
    rows = await rig.rows("tool.denied")
    assert len(rows) == AGENT_KINDS_LIMIT + 1
    assert json.loads(rows[-1].body)["tool"] == "*"
    assert all("\\u001b" not in row.body and len(row.body) < 600 for row in rows)
    rig.at_s = THROTTLE_S + 1
    await rig.audit.tell_counted()
    [last] = [json.loads(row.body) for row in await rig.rows("tool.denied") if "more" in row.body]
    assert last["more"] == 500 - AGENT_KINDS_LIMIT - 1


async def test_permissions_that_are_asked_for_and_not_answered_are_counted(rig: Rig) -> None:
    question = {"kind": "permission", "question": "It wants to call Bash\nSECRET"}
    for name in [EventName.QUESTION_ASKED, EventName.QUESTION_CANCELLED] * 50:
        rig.audit.on_event(Event(1, now(), name, "alice", {"question": question}))
        rig.audit.on_event(Event(1, now(), name, "alice", {"question": question | {"kind": "question"}}))
    await rig.settle()
    rows = await rig.rows("tool.*")
    assert sorted(row.name for row in rows) == ["tool.asked", "tool.unanswered"]
    assert {row.body for row in rows} == {'{"about":"It wants to call Bash"}'}


async def test_an_agent_that_asks_without_end_does_not_fill_the_audit_and_nobody_elses_row_is_left_out(
    rig: Rig,
) -> None:
    def flood(tx: Transaction) -> None:
        for number in range(AGENT_ROWS.burst + 200):
            tx.audit(AuditName.AGENT_DESIRED, f"a{number}", {}, "agent manager")
            tx.audit(AuditName.AGENT_DESIRED, f"a{number}", {}, "operator uid 0 hive.sock")

    await rig.store.write(flood)
    await rig.audit.tell_counted()
    with contextlib.closing(sqlite3.connect(rig.roots.database)) as database:
        count = "select count(*) from audit where actor = ?"
        [written] = database.execute(count, ("agent manager",)).fetchone()
        [operators] = database.execute(count, ("operator uid 0 hive.sock",)).fetchone()
    assert operators == AGENT_ROWS.burst + 200
    [row] = await rig.rows("audit.flooded")
    assert (row.agent, row.actor) == ("manager", "hive")
    assert json.loads(row.body)["left_out"] == operators - written
    # The clock goes on meanwhile.
    assert AGENT_ROWS.burst <= written < AGENT_ROWS.burst + 100


async def test_failed_logins_are_counted(rig: Rig) -> None:
    for _ in range(5):
        rig.audit.count_refused(AuditName.LOGIN_REFUSED)
    await rig.settle()
    assert [row.actor for row in await rig.rows("login.refused")] == ["stranger"]


async def test_a_session_is_known_by_the_link_that_opened_it_and_by_no_secret(rig: Rig) -> None:
    sessions = Sessions(rig.store)
    link = await sessions.new_login_token()
    session = await sessions.open(link, "a browser")
    await sessions.close(session)
    await sessions.close(session)
    made, opened, ended = (await rig.rows())[-3:]
    assert [made.name, opened.name, ended.name] == ["login_link.made", "session.opened", "session.ended"]
    assert json.loads(opened.body)["link"] == json.loads(made.body)["link"] == name_session(link)
    assert opened.actor == f"operator session {name_session(session)}"
    assert all(secret not in row.body + row.actor for row in await rig.rows() for secret in (link, session))


async def test_what_commands_left_is_recorded_once_and_nothing_else(rig: Rig) -> None:
    leave_note(rig.roots.data, AuditName.BACKUP_TAKEN, {"file": "x", "with_credentials": True})
    leave_note(rig.roots.data, AuditName.SESSION_OPENED, {})
    (rig.roots.audit_notes / "broken.json").write_text("{")
    await rig.audit.take_notes()
    await rig.audit.take_notes()
    [row] = (await rig.rows())[2:]
    assert (row.name, json.loads(row.body)) == ("backup.taken", {"file": "x", "with_credentials": True})
    assert row.actor.startswith("operator uid ")
    assert list(rig.roots.audit_notes.iterdir()) == []


async def test_the_newest_head_is_noted_once_until_there_is_another(rig: Rig) -> None:
    await rig.audit.note_head()
    await rig.audit.note_head()
    await rig.audit.record(AuditName.BACKUP_TAKEN, None, {})
    await rig.audit.note_head()
    assert [anchor.seq for anchor in load_heads(rig.roots.audit_heads)] == [2, 3]


async def test_rows_are_found_by_whom_by_what_and_by_words_in_pages(rig: Rig) -> None:
    for number in range(30):
        actor = "operator token ci" if number % 3 else "operator token ci-2"
        await rig.audit.record(AuditName.OPERATOR_ACTED, f"agent-{number % 2}", {"path": f"/A/{number}"}, actor)

    async def find(search: Search, before: int | None = None, limit: int = 100) -> tuple[list[int], int | None]:
        page = await rig.audit.list_rows(search, before, limit)
        return [row.seq for row in page.rows], page.before

    assert await find(Search(actor="operator token ci")) == ([n + 3 for n in range(29, -1, -1) if n % 3], None)
    assert len((await find(Search(actor="operator")))[0]) == 30
    assert (await find(Search(actor="oper")))[0] == []
    assert (await find(Search(agent="agent-1", grep="/a/7")))[0] == [10]
    assert len((await find(Search(name="operator.*")))[0]) == 30
    assert await find(Search(), limit=2) == ([32, 31], 31)
    assert await find(Search(), before=31, limit=2) == ([30, 29], 29)
    assert await find(Search(), before=2) == ([1], None)
    assert (await find(Search(since=now())))[0] == []


def test_old_heads_are_kept_one_for_each_day(tmp_path: Path) -> None:
    heads = tmp_path / "audit.head"
    digits = "ab" * 32
    lines = [f"{n} {digits} 2026-01-{n // 1000 + 1:02}T00:00:00+00:00" for n in range(1, 12_001)]
    heads.write_text("\n".join(lines) + "\n")
    assert heads.stat().st_size > SIZE_LIMIT_BYTES
    shorten_heads(heads)
    append_head(heads, f"12001 {digits} 2026-01-13T00:00:00+00:00")
    kept = [anchor.seq for anchor in load_heads(heads)]
    assert kept == [*range(999, 10_000, 1000), 10_000, *range(10_001, 12_002)]
    shorten_heads(heads)
    assert len(load_heads(heads)) == len(kept)
