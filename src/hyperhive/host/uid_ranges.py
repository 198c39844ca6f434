"""Agents of earlier versions had uids without a range: each gets one of its own before its container starts."""

from collections.abc import Sequence
from pathlib import Path

import structlog

from hyperhive.core.errors import StorageError
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.core.uids import has_range
from hyperhive.host.agent_records import move_uid, plan_uid
from hyperhive.host.store.rows import AgentRecord
from hyperhive.host.store.store import Store
from hyperhive.system.process import ProcessError, run

log = structlog.get_logger(__name__)

# Millions of small files take minutes.
_TIMEOUT_S = 900.0


async def give_range(store: Store, roots: Roots, record: AgentRecord) -> AgentRecord:
    """The agent with a uid that has a range, its folders handed over. Its container must not run.

    Raises StorageError if they cannot be, ConflictError if there is no uid left. It may be done again.
    """
    if record.uid is None or has_range(record.uid):
        return record
    while True:
        uid = await store.read(plan_uid)
        # First: who has the uid must be able to read what is its own.
        await _hand_over(_list_folders(roots, record.name), uid)
        moved = await store.write(lambda tx, uid=uid: move_uid(tx, record.name, uid))
        if moved is not None:
            log.info("agent.uid_moved", agent=record.name, before=record.uid, uid=uid)
            return moved


def _list_folders(roots: Roots, name: str) -> list[Path]:
    folders = [roots.state_folder(name), roots.claude_folder(name)]
    if name == MANAGER:
        folders.append(roots.proposed_folder)
    return [folder for folder in folders if folder.exists()]


async def _hand_over(folders: Sequence[Path], uid: int) -> None:
    """By chown, which follows no link and goes deeper than Python can."""
    if not folders:
        return
    argv = ["chown", "--recursive", "--no-dereference", "-P", f"{uid}:{uid}", "--", *map(str, folders)]
    try:
        done = await run(argv, timeout_s=_TIMEOUT_S)
    except ProcessError as error:
        raise StorageError(f"its folders cannot be handed over: {error}", "try it again") from error
    if not done.ok:
        raise StorageError(f"its folders cannot be handed over: {done.error_text}", "try it again")
