"""The folders of an agent on the host: made for the uid that its container runs as, removed only by a purge."""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from hyperhive.core.errors import StorageError
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.host.store.rows import AgentRecord
from hyperhive.system.files import folder_size_bytes, make_folders_beneath
from hyperhive.system.process import ProcessError, run

# Millions of small files take minutes.
REMOVE_TIMEOUT_S = 900.0


async def make_folders(roots: Roots, record: AgentRecord, manager_uid: int | None) -> None:
    """Makes what is missing of an agent's folders. Raises OSError if the disk refuses.

    The manager can put something in the way of the folder that it edits: it is not followed, and keeps only the
    manager itself from starting.
    """
    await asyncio.to_thread(_make, roots, record, manager_uid)


def _make(roots: Roots, record: AgentRecord, manager_uid: int | None) -> None:
    # Each agent's folders are its own; only root and that uid get in.
    _make_agent_folder(roots, record.name)
    for own in (roots.state_folder(record.name), roots.claude_folder(record.name)):
        make_folders_beneath(own.parent, [own.name], mode=0o700, uid=record.uid)
    owner = record.uid if record.name == MANAGER else manager_uid
    make_folders_beneath(roots.data, [roots.proposed_folder.name], mode=0o700, uid=owner)
    # No other container has it: the manager must not decide by a link there whether they start.
    with contextlib.nullcontext() if record.name == MANAGER else contextlib.suppress(OSError):
        make_folders_beneath(roots.proposed_folder, [record.name], mode=0o700, uid=owner)


async def stage_state(roots: Roots, record: AgentRecord, repository: ConfigRepository, notes: str) -> None:
    """Makes the state folder of an agent that never ran from the commit `notes`. Again is no error.

    Raises OSError, or what the repository raises.
    """
    if record.generation > 0:
        return
    folder = roots.state_folder(record.name)
    await asyncio.to_thread(_make_agent_folder, roots, record.name)
    if not folder.exists():
        await repository.write_files(notes, folder)
    await asyncio.to_thread(_hand_over, folder, record.uid)


def _make_agent_folder(roots: Roots, name: str) -> None:
    roots.agents_folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    make_folders_beneath(roots.agents_folder, [name], mode=0o711, uid=None)


def _hand_over(folder: Path, uid: int | None) -> None:
    """Gives a folder that no agent has seen yet to its agent."""
    folder.chmod(0o700)
    if uid is None:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)


async def measure(roots: Roots, name: str) -> int:
    """Bytes on the disk of all that `remove` would remove, links not followed; of what is not there, none."""
    return await asyncio.to_thread(lambda: _measure((*_list_own(roots, name), *_list_config(roots, name))))


async def measure_draft(roots: Roots, name: str) -> int:
    """The same of a draft."""
    return await asyncio.to_thread(lambda: _measure(_list_config(roots, name)))


async def remove(roots: Roots, name: str) -> None:
    """Removes all of an agent's folders and its config with all its history. Raises StorageError."""
    config = await asyncio.to_thread(_list_config, roots, name)
    await _remove(f"the folders of {name}", (*_list_own(roots, name), *config))


async def remove_agent(roots: Roots, name: str) -> None:
    """Removes what an agent had, but for its config. Raises StorageError."""
    await _remove(f"the folders of {name}", _list_own(roots, name))


async def remove_draft(roots: Roots, name: str) -> None:
    """Removes what there is of a draft. Raises StorageError."""
    await _remove(f"the draft of {name}", await asyncio.to_thread(_list_config, roots, name))


def _list_own(roots: Roots, name: str) -> tuple[Path, ...]:
    return (
        roots.agent_folder(name),
        roots.versions_folder(name),
        roots.notes_repo(name),
        roots.agent_sockets_folder(name),
    )


def _list_config(roots: Roots, name: str) -> tuple[Path, ...]:
    config = (roots.proposed_folder_of(name), roots.applied_repo(name))
    # With the snapshots that are kept stays what their configs came to: restored, they are what was approved.
    has_snapshots = any(path.is_file() for path in roots.snapshots_folder_of(name).glob("*"))
    return config if has_snapshots else (*config, roots.evaluations_folder / name)


def _measure(folders: Sequence[Path]) -> int:
    total = 0
    for folder in folders:
        # The manager may have put a link or a file in the place of a folder: that one counts nothing.
        with contextlib.suppress(OSError):
            total += folder_size_bytes(folder)
    return total


async def _remove(what: str, folders: Sequence[Path]) -> None:
    """Links in the folders are removed, never followed.

    By `rm`, which an agent cannot stop with folders nested deeper than Python's recursion goes.
    """
    try:
        done = await run(["rm", "-rf", "--", *map(str, folders)], timeout_s=REMOVE_TIMEOUT_S)
    except ProcessError as error:
        raise StorageError(f"{what} could not be removed: {error}", "try it again") from error
    if not done.ok:
        hint = "try it again; what root has put there, only root can remove"
        raise StorageError(f"{what} could not be removed: {done.error_text}", hint)
