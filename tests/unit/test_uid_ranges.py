"""An agent of an earlier version gets a uid with a range of its own, and its folders go along."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hyperhive.core.names import MANAGER
from hyperhive.core.paths import Roots
from hyperhive.core.uids import FIRST_UID, has_range, plan_next_uid
from hyperhive.host.agent_records import get_agent, insert_agent
from hyperhive.host.store.rows import AgentRecord
from hyperhive.host.store.store import Store
from hyperhive.host.uid_ranges import give_range

# Only root can hand folders over; of the others nobody has a uid to give.
AS_ROOT = os.geteuid() == 0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "hive.sqlite", "hive")
    yield store
    store.close()


async def _add(store: Store, roots: Roots, name: str, uid: int | None) -> AgentRecord:
    await store.write(lambda tx: insert_agent(tx, name, None))
    await store.write(lambda tx: tx.list("set_uid", name=name, uid=uid))
    for folder in (roots.state_folder(name), roots.claude_folder(name)):
        folder.mkdir(parents=True)
    return await store.read(lambda view: get_agent(view, name))


async def test_what_has_a_range_or_no_uid_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    for name, uid in (("alice", None), ("bob", plan_next_uid(None))):
        record = await _add(store, roots, name, uid)
        assert await give_range(store, roots, record) == record


async def test_each_gets_another_range_and_all_that_it_had(store: Store, tmp_path: Path) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_text("root's")
    records = [await _add(store, roots, name, FIRST_UID + number) for number, name in enumerate((MANAGER, "alice"))]
    (roots.proposed_folder / "alice/config").mkdir(parents=True)
    state = roots.state_folder("alice")
    (state / "deep").mkdir()
    (state / "deep/notes.md").write_text("mine")
    (state / "link").symlink_to(secret)
    if not AS_ROOT:
        return
    moved = [await give_range(store, roots, record) for record in records]
    uids = [record.uid for record in moved]
    assert len(set(uids)) == 2 and all(uid is not None and has_range(uid) for uid in uids)
    assert await store.read(lambda view: get_agent(view, "alice")) == moved[1]
    for path in (state, state / "deep/notes.md", state / "link", roots.claude_folder("alice")):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (uids[1], uids[1])
    assert (roots.proposed_folder / "alice/config").stat().st_uid == uids[0]
    assert secret.stat().st_uid == os.geteuid()
    # Once.
    assert await give_range(store, roots, moved[1]) == moved[1]
