"""Takes a data folder of the first hive over into one of ours, on which no hive runs.

All is read, copied and checked before anything is decided; one transaction then decides. Until it is stored the folder
is what it was: what lies ready is removed by the next start or import. From then on the agents are there, and their
folders get into place by moves that are done again as often as it takes: by this, by another import, or by the next
daemon, as after a snapshot was restored.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.approvals import ApprovalKind
from hyperhive.core.audit import AuditName
from hyperhive.core.errors import ConflictError, RefusedError, StorageError
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.core.uids import FIRST_RANGED_UID
from hyperhive.host.acting import act_as
from hyperhive.host.agent_records import get_any_agent, insert_agent, save_deployed
from hyperhive.host.approval_records import list_open
from hyperhive.host.drafts import is_draft
from hyperhive.host.first_hive.agents import Prepared, prepare_agent
from hyperhive.host.first_hive.database import APPROVALS, MESSAGES, QUESTIONS, FirstDatabase, copy_database
from hyperhive.host.first_hive.people import People
from hyperhive.host.first_hive.records import (
    Found,
    LeftError,
    Past,
    Row,
    find_wanted,
    plan_approval,
    plan_message,
    plan_question,
)
from hyperhive.host.first_hive.report import AgentReport, Report, TableReport
from hyperhive.host.first_hive.source import Origin, check_source, list_origins
from hyperhive.host.first_hive.values import parse_text
from hyperhive.host.snapshots.places import APPLIED, Places
from hyperhive.host.snapshots.takes import discard
from hyperhive.host.store.rows import Desired, to_agent
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import now, to_millis
from hyperhive.system.git import Git
from hyperhive.system.lock import hold_lock

_AGENT, _MESSAGE, _APPROVAL, _QUESTION = "agent", "message", "approval", "question"
# In `restores`: no snapshot has it.
_NO_SNAPSHOT = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    source: Path
    roots: Roots
    with_credentials: bool
    dry_run: bool


async def import_first_hive(wanted: Wanted) -> Report:
    """Takes over what can be taken, and says what that is. Nothing is ever changed in the source.

    Raises ConflictError if a hive runs on the folder of ours, or one writes the source all the time; NotFoundError,
    RefusedError and InvalidInputError for a source or a folder that cannot be used; StorageError and GitError. Nothing
    was taken over then.
    """
    source = check_source(wanted.source, wanted.roots)
    _check_data(wanted.roots)
    try:
        if wanted.dry_run:
            return await _rehearse(wanted, source)
        wanted.roots.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold_lock(wanted.roots.lock, f"a hive runs on {wanted.roots.data}"):
            return await _import(wanted, source, wanted.roots)
    except OSError as error:
        raise StorageError(
            f"the first hive cannot be taken over: {error.strerror or error}", "is the disk full?"
        ) from error


def _check_data(roots: Roots) -> None:
    if not roots.data.exists():
        return
    if not roots.data.is_dir():
        raise ConflictError(f"{roots.data} is no folder", "name another with --data")
    if roots.data.stat().st_uid != os.geteuid():
        raise RefusedError(f"{roots.data} belongs to another user", "run this as that user")
    names = {path.name for path in roots.data.iterdir()}
    if names and roots.database.name not in names and names != {roots.lock.name}:
        raise ConflictError(f"{roots.data} is not empty, and no hive's", "name another folder with --data")


async def _rehearse(wanted: Wanted, source: Path) -> Report:
    """Does all of it on a folder beside ours that is gone afterwards."""
    data = wanted.roots.data
    above = next(folder for folder in data.parents if folder.is_dir())
    with contextlib.ExitStack() as stack:
        if wanted.roots.database.exists():
            stack.enter_context(hold_lock(wanted.roots.lock, f"a hive runs on {data}"))
        draft = Path(tempfile.mkdtemp(prefix=f".{data.name}.rehearsal-", dir=above))
        try:
            if wanted.roots.database.exists():
                _copy_closed(wanted.roots.database, draft)
            return await _import(wanted, source, Roots(draft, draft / "run"))
        finally:
            await asyncio.shield(discard(draft))


def _copy_closed(database: Path, folder: Path) -> None:
    """Copies a database that nobody has open."""
    for end in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f"{database}{end}", folder / f"{database.name}{end}")


async def _import(wanted: Wanted, source: Path, roots: Roots) -> Report:
    store = Store(roots.database, "hive")
    try:
        places = Places(roots)
        await _put_in_place(store, roots, places)
        for folder in (*places.list_leftovers(), roots.staging_folder):
            await discard(folder)
        roots.staging_folder.mkdir(mode=0o700)
        place = Path(tempfile.mkdtemp(dir=roots.staging_folder))
        try:
            return await _Import(wanted, source, roots, store, places, place).run()
        finally:
            await asyncio.shield(discard(place))
    finally:
        store.close()


async def _put_in_place(store: Store, roots: Roots, places: Places) -> None:
    """Moves what was decided on: the daemon's next start finds it done, and makes what the manager works in.

    Raises StorageError; what was decided on stays so.
    """
    try:
        for row in await store.read(lambda view: view.list("list_restores")):
            name = str(row["agent"])
            record = await store.read(lambda view, name=name: get_any_agent(view, name))
            await asyncio.to_thread(_swap_in, roots, places, name, record.uid)
            await discard(places.old(name))
            await discard(places.ready(name))
    except OSError as error:
        raise StorageError(
            f"agents are taken over, and their folders cannot be put in place: {error.strerror or error}",
            "once the disk works, import again or start the hive: either goes on there",
        ) from error


def _swap_in(roots: Roots, places: Places, name: str, uid: int | None) -> None:
    roots.applied_folder.mkdir(mode=0o755, exist_ok=True)
    places.swap_in(name, uid)


class _Import:
    """One import, with the lock held. `place` is an empty folder on the disk of the folder of ours."""

    def __init__(self, wanted: Wanted, source: Path, roots: Roots, store: Store, places: Places, place: Path) -> None:
        self._wanted = wanted
        self._source = source
        self._roots = roots
        self._store = store
        self._places = places
        self._place = place
        self._first_uid = FIRST_RANGED_UID if os.geteuid() == 0 else None
        self._report = Report(str(source), str(wanted.roots.data), wanted.dry_run)

    async def run(self) -> Report:
        path = copy_database(self._source, self._place / "database")
        database = None if path is None else FirstDatabase(path)
        try:
            self._report.tables = _understand(database)
            if database is not None:
                for name in database.list_other_tables():
                    self._report.left.add(b"broker.sqlite: " + name, "no table that is taken over")
            before = await self._store.read(_list_before)
            prepared = await self._prepare_agents(database, before)
            people = People({**before, **{agent.origin: agent.name for agent in prepared}})
            found = {agent.name: await _look_at(agent) for agent in prepared}
            await self._decide(database, people, prepared, found)
        finally:
            if database is not None:
                database.close()
        if not self._wanted.dry_run:
            await _put_in_place(self._store, self._roots, self._places)
        return self._report

    # -- agents --------------------------------------------------------------------------------------------

    async def _prepare_agents(self, database: FirstDatabase | None, before: Mapping[str, str]) -> list[Prepared]:
        prepared: list[Prepared] = []
        commits = self._list_wanted(database)
        for number, origin in enumerate(list_origins(self._source, self._report.left)):
            report = AgentReport(origin.folder, origin.name)
            self._report.agents.append(report)
            report.left = origin.problem or await self._store.read(
                lambda view, origin=origin: _find_refusal(view, origin, before)
            )
            if report.left:
                continue
            place = self._place / str(number)
            place.mkdir(mode=0o700)
            agent = await prepare_agent(
                self._source,
                origin,
                commits.get(origin.name, ()),
                place,
                report,
                with_credentials=self._wanted.with_credentials,
            )
            if agent is None:
                await discard(place)
            else:
                prepared.append(agent)
        return prepared

    def _list_wanted(self, database: FirstDatabase | None) -> dict[str, list[str]]:
        """The commits that approvals name, by the agent."""
        wanted: dict[str, list[str]] = {}
        for row in self._list_rows(database, APPROVALS):
            name = parse_text(row["agent"])
            commit = find_wanted(row)
            if name is not None and commit is not None:
                wanted.setdefault(People({}).find(name) or name, []).append(commit)
        return wanted

    # -- what decides --------------------------------------------------------------------------------------

    async def _decide(
        self,
        database: FirstDatabase | None,
        people: People,
        prepared: Sequence[Prepared],
        found: Mapping[str, Found],
    ) -> None:
        if not self._wanted.dry_run:
            for agent in prepared:
                self._places.put_ready(agent.name, agent.folder)

        def decide(tx: Transaction) -> None:
            for agent in prepared:
                self._insert_agent(tx, agent)
            messages, approvals, questions = self._report.tables
            self._take(tx, messages, _MESSAGE, database, lambda row: plan_message(row, people), _insert_message)
            free = _Free(tx)
            self._take(
                tx,
                approvals,
                _APPROVAL,
                database,
                lambda row: plan_approval(row, people, found, free.take),
                lambda tx, past: _insert(tx, "insert_past_approval", past),
            )
            at_ms = to_millis(now())
            self._take(
                tx,
                questions,
                _QUESTION,
                database,
                lambda row: plan_question(row, people, at_ms),
                lambda tx, past: _insert(tx, "insert_past_question", past),
            )
            if not self._report.takes_something:
                raise _NothingToDoError
            tx.audit(AuditName.FIRST_HIVE_IMPORTED, None, self._report.summarise())

        deciding = asyncio.create_task(self._write(decide))
        try:
            await asyncio.shield(deciding)
        except asyncio.CancelledError:
            # It is being decided, and is to be known before the database is left.
            await asyncio.wait([deciding])
            raise
        except _NothingToDoError:
            return
        except BaseException:
            for agent in prepared:
                await asyncio.shield(discard(self._places.ready(agent.name)))
            raise

    async def _write(self, decide: Callable[[Transaction], None]) -> None:
        act_as(f"operator uid {os.getuid()} files")
        await self._store.write(decide)

    def _insert_agent(self, tx: Transaction, agent: Prepared) -> None:
        insert_agent(tx, agent.name, self._first_uid)
        tx.list("set_desired", name=agent.name, desired=Desired.STOPPED)
        save_deployed(tx, agent.name, agent.history.deployed)
        tx.list("insert_restore", agent=agent.name, snapshot=_NO_SNAPSHOT, at=tx.at_ms)
        tx.list("insert_first_hive", kind=_AGENT, key=agent.origin, here=agent.name)

    def _take(
        self,
        tx: Transaction,
        report: TableReport,
        kind: str,
        database: FirstDatabase | None,
        plan: Callable[[Row], Past],
        insert: Callable[[Transaction, Past], int],
    ) -> None:
        for row in self._list_rows(database, report.name):
            try:
                past = plan(row)
            except LeftError as left:
                report.left[str(left)] += 1
                continue
            if tx.find("find_first_hive", kind=kind, key=past.key) is not None:
                report.already += 1
                continue
            tx.list("insert_first_hive", kind=kind, key=past.key, here=str(insert(tx, past)))
            report.taken[past.kind] += 1

    def _list_rows(self, database: FirstDatabase | None, name: str) -> Iterable[Row]:
        table = next(table for table in self._report.tables if table.name == name)
        return () if database is None or table.problem else database.list_rows(name)


class _NothingToDoError(Exception):
    """Nothing is taken: not even the audit has a row of it."""


class _Free:
    """Which names nobody has, so that an agent may be spawned: each is free once."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._taken: set[str] = set()

    def take(self, name: str) -> bool:
        is_free = name not in self._taken and not _is_taken(self._tx, name)
        self._taken.add(name)
        return is_free


async def _look_at(agent: Prepared) -> Found:
    """Which of the commits that wait follow from what is deployed."""
    git, history = Git(agent.folder / APPLIED), agent.history
    descends: set[str] = set()
    for commit in history.commits - history.past:
        if await git.ask("merge-base", "--is-ancestor", history.deployed, commit):
            descends.add(commit)
    return Found(history, descends)


def _understand(database: FirstDatabase | None) -> list[TableReport]:
    names = (MESSAGES, APPROVALS, QUESTIONS)
    if database is None:
        return [TableReport(name, "there is no broker.sqlite") for name in names]
    return [database.understand(name) for name in names]


def _list_before(view: View) -> dict[str, str]:
    """The agents that were taken over and are still there, by their names in the first hive."""
    rows = view.list("list_first_hive_agents")
    return {row["key"]: row["here"] for row in rows if view.find("get_agent", name=row["here"]) is not None}


def _find_refusal(view: View, origin: Origin, before: Mapping[str, str]) -> str:
    """Why an agent cannot be taken over into this hive; empty if it can."""
    row = view.find("get_agent", name=origin.name)
    if row is not None and origin.folder in before:
        return "it was taken over before"
    if row is not None and origin.name == MANAGER:
        return "this hive has a manager already"
    if row is not None and to_agent(row).destroyed_at is not None:
        return (
            f"an agent {origin.name} was destroyed here and is kept: hive destroy {origin.name} --purge frees the name"
        )
    if row is not None:
        return f"there is an agent {origin.name} here already"
    if _is_taken(view, origin.name):
        return f"an agent {origin.name} is about to be spawned here"
    return ""


def _is_taken(view: View, name: str) -> bool:
    if view.find("get_agent", name=name) is not None or is_draft(view, name):
        return True
    return any(approval.kind is ApprovalKind.SPAWN for approval in list_open(view, name))


def _insert_message(tx: Transaction, past: Past) -> int:
    values = dict(past.values)
    body = values.pop("body")
    number = int(tx.get("insert_past_message", **values)["id"])
    tx.list("insert_body", id=number, body=body)
    return number


def _insert(tx: Transaction, query: str, past: Past) -> int:
    return int(tx.get(query, **past.values)["id"])
