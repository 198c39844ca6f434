"""Which agents the watch reads at all: those that should run, and those that nobody has seen at rest."""

import json
from contextlib import closing
from pathlib import Path

from hyperhive.host.agent_records import insert_agent
from hyperhive.host.store.rows import Desired
from hyperhive.host.store.store import Store, Transaction


def _fill(tx: Transaction) -> None:
    for name in ("runs", "seen-stopped", "stopped", "hibernates", "wakes"):
        insert_agent(tx, name, None)
    for name in ("seen-stopped", "stopped"):
        tx.list("set_desired", name=name, desired=Desired.STOPPED)
    for name in ("hibernates", "wakes"):
        tx.list("set_hibernated", name=name, hibernated=1)


async def test_agents_at_rest_are_not_read_but_what_should_run_and_what_nobody_saw_is(tmp_path: Path) -> None:
    at_rest = json.dumps(["runs", "seen-stopped", "hibernates"])
    with closing(Store(tmp_path / "hive.sqlite", "hive")) as store:
        await store.write(_fill)
        rows = await store.read(lambda view: view.list("list_unrested_agents", at_rest=at_rest))

    assert [row["name"] for row in rows] == ["runs", "stopped", "wakes"]
