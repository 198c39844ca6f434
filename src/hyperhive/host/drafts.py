"""Drafts: agents that the manager prepares before it proposes them. A config and staged notes, no container.

The row comes first and the folders after it, so that a crash in between leaves nothing that nobody knows of; a discard
goes the other way, for the same reason.
"""

import asyncio
import sqlite3

import structlog

from hyperhive.core.approvals import AT_WORK
from hyperhive.core.errors import ConflictError, HiveError, NotFoundError, StorageError, TooLargeError
from hyperhive.core.events import EventName
from hyperhive.core.names import MANAGER, parse_agent_name
from hyperhive.core.paths import Roots
from hyperhive.host import folders
from hyperhive.host.agent_ports import CheckPort, allow_any_port
from hyperhive.host.agent_records import check_name_is_free
from hyperhive.host.approval_records import fail_pending, list_open
from hyperhive.host.configs.configs import Configs
from hyperhive.host.notices import notify_manager
from hyperhive.host.store.store import Store, Transaction, View
from hyperhive.system.clock import from_millis
from hyperhive.system.files import make_folders_beneath
from hyperhive.wire.operator.agents import Draft

log = structlog.get_logger(__name__)

# Each has a repository and folders: more than an operator looks through is a manager gone astray.
DRAFTS_LIMIT = 20

_DISCARDED = "the draft was discarded"


class Drafts:
    def __init__(self, store: Store, roots: Roots, configs: Configs, check_port: CheckPort = allow_any_port) -> None:
        self._store = store
        self._roots = roots
        self._configs = configs
        self._check_port = check_port
        # One at a time: what a discard removes must not be made anew meanwhile.
        self._lock = asyncio.Lock()

    async def create(self, name: str, requested_by: str) -> Draft:
        """Makes a draft with the default config; asking again gives the same one, its folders mended.

        Raises InvalidInputError for a bad name, ConflictError if it is taken, TooLargeError if there are too many
        drafts, StorageError if the folders cannot be made: the draft is there then, and asking again goes on.
        """
        parse_agent_name(name)

        def insert(tx: Transaction) -> None:
            if tx.find("get_draft", name=name) is not None:
                return
            _check_free(tx, name)
            self._check_port(tx, name)
            if tx.get("count_drafts")["drafts"] >= DRAFTS_LIMIT:
                raise TooLargeError(f"there are {DRAFTS_LIMIT} drafts already", "propose them, or have some discarded")
            insert_draft(tx, name, requested_by)

        async with self._lock:
            await self._store.write(insert)
            await self._make_folders(name)
        return await self._get(name)

    async def ensure_folders(self) -> None:
        """At the daemon's start: makes what a crash left unmade. What cannot be made is logged and left."""
        async with self._lock:
            for row in await self._store.read(lambda view: view.list("list_drafts")):
                try:
                    await self._make_folders(row["name"])
                except HiveError as error:
                    log.warning("drafts.not_made", draft=row["name"], message=error.message)

    async def discard(self, name: str) -> None:
        """Removes a draft with its folders; what was proposed of it and waits becomes failed.

        Raises NotFoundError if there is none, ConflictError while a proposal of it is being carried out, StorageError
        if its folders could not be removed: it is there still, and can be discarded again.
        """
        parse_agent_name(name)
        async with self._lock, self._configs.lock(name):
            await self._store.write(lambda tx: _fail_proposals(tx, name))
            await folders.remove_draft(self._roots, name)
            await self._store.write(lambda tx: _delete(tx, name))

    async def list_drafts(self) -> list[Draft]:
        """The oldest first."""
        rows = await self._store.read(lambda view: view.list("list_drafts"))
        return [await self._show(row["name"], row["requested_by"], row["created_at"]) for row in rows]

    async def _get(self, name: str) -> Draft:
        row = await self._store.read(lambda view: _get_row(view, name))
        return await self._show(name, row["requested_by"], row["created_at"])

    async def _show(self, name: str, requested_by: str, created_at: int) -> Draft:
        return Draft(
            name=name,
            requested_by=requested_by,
            created_at=from_millis(created_at),
            size_bytes=await folders.measure_draft(self._roots, name),
        )

    async def _make_folders(self, name: str) -> None:
        row = await self._store.read(lambda view: view.find("get_agent", name=MANAGER))
        uid = None if row is None else row["uid"]
        try:
            await self._configs.ensure(name)
            await asyncio.to_thread(
                make_folders_beneath, self._roots.proposed_folder, [name, "state"], mode=0o700, uid=uid
            )
        except OSError as error:
            # The manager can write there: a link or a file in the way is not followed.
            raise StorageError(
                f"the folders of the draft {name} could not be made: {error}",
                "remove what is in the way, then ask again",
            ) from error


def insert_draft(tx: Transaction, name: str, requested_by: str) -> None:
    """Adds a draft as part of a larger change: a new one, or the one again that a spawn which failed was."""
    tx.list("insert_draft", name=name, requested_by=requested_by, at=tx.at_ms)
    tx.emit(EventName.DRAFT_CREATED, name, {"requested_by": requested_by})


def remove_draft(tx: Transaction, name: str) -> None:
    """Ends a draft because its agent comes to be, as part of that change; its folders become the agent's."""
    tx.list("delete_draft", name=name)


def is_draft(view: View, name: str) -> bool:
    return view.find("get_draft", name=name) is not None


def _check_free(view: View, name: str) -> None:
    check_name_is_free(view, name)
    for approval in list_open(view, name):
        raise ConflictError(
            f"approval {approval.id} about {name} waits already", "wait for it, or draft under another name"
        )


def _get_row(view: View, name: str) -> sqlite3.Row:
    row = view.find("get_draft", name=name)
    if row is None:
        raise NotFoundError(f"there is no draft {name!r}", "see `hive pending` for what was proposed")
    return row


def _fail_proposals(tx: Transaction, name: str) -> None:
    _get_row(tx, name)
    for approval in list_open(tx, name):
        if approval.status in AT_WORK:
            raise ConflictError(f"approval {approval.id} of this draft is being carried out", "wait for its end")
    fail_pending(tx, name, _DISCARDED)


def _delete(tx: Transaction, name: str) -> None:
    # What was proposed while the folders were being removed has lost its commit, too.
    _fail_proposals(tx, name)
    tx.list("forget_tags", agent=name)
    remove_draft(tx, name)
    tx.emit(EventName.DRAFT_DISCARDED, name, {})
    notify_manager(tx, "draft_discarded", agent=name)
