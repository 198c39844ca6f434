"""The folders of an agent on the host: made for the uid that its container runs as, removed only by a purge."""

import asyncio

from hyperhive.core.errors import StorageError
from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.host.store.rows import AgentRecord
from hyperhive.system.files import folder_size_bytes, make_folders_beneath
from hyperhive.system.process import ProcessError, run

# Millions of small files take minutes.
REMOVE_TIMEOUT_S = 900.0


async def make_folders(roots: Roots, record: AgentRecord, manager_uid: int | None) -> None:
    """Makes what is missing of an agent's folders. Raises OSError if the disk refuses, or something is in the way."""
    await asyncio.to_thread(_make, roots, record, manager_uid)


def _make(roots: Roots, record: AgentRecord, manager_uid: int | None) -> None:
    roots.agents_folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    # Each agent's folders are its own; only root and that uid get in.
    make_folders_beneath(roots.agents_folder, [record.name], mode=0o711, uid=None)
    for own in (roots.state_folder(record.name), roots.claude_folder(record.name)):
        make_folders_beneath(own.parent, [own.name], mode=0o700, uid=record.uid)
    # The manager may write here: whatever it put in the way, a link above all, is not followed.
    owner = record.uid if record.name == MANAGER else manager_uid
    make_folders_beneath(roots.data, [roots.proposed_folder.name], mode=0o700, uid=owner)
    make_folders_beneath(roots.proposed_folder, [record.name, "config"], mode=0o700, uid=owner)


async def measure(roots: Roots, name: str) -> int:
    """Bytes on the disk of an agent's folders, links not followed."""
    return await asyncio.to_thread(folder_size_bytes, roots.agent_folder(name))


async def remove(roots: Roots, name: str) -> None:
    """Removes all of an agent's folders. Links in them are removed, never followed.

    By `rm`, which an agent cannot stop with folders nested deeper than Python's recursion goes. Raises StorageError.
    """
    folders = (roots.agent_folder(name), roots.proposed_folder / name, roots.agent_sockets_folder(name))
    try:
        done = await run(["rm", "-rf", "--", *map(str, folders)], timeout_s=REMOVE_TIMEOUT_S)
    except ProcessError as error:
        raise StorageError(f"the folders of {name} could not be removed: {error}", "purge it again") from error
    if not done.ok:
        raise StorageError(f"the folders of {name} could not be removed: {done.error_text}", "purge it again")
