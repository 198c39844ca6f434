"""Tokens and cost by agent, day and model, from a real database."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hyperhive.core.errors import NotFoundError
from hyperhive.core.stats import HIVE, OTHER
from hyperhive.host.agent_records import insert_agent
from hyperhive.host.stats.usage import NO_MODEL, PURGED, ROWS_LIMIT, UsageReader, list_days
from hyperhive.host.store.store import Store
from hyperhive.system.clock import now, to_millis


@dataclass
class Rig:
    store: Store
    telemetry: Store
    usage: UsageReader
    # After the agents were spawned, in the middle of a day.
    noon: datetime

    async def add(self, agent: str = "alice", model: str = "opus", at: datetime | None = None, **changes: Any) -> None:
        values: dict[str, Any] = {
            "agent": agent, "at": to_millis(at or self.noon), "path": "/v1/messages", "model": model, "status": 200,
            "first_byte_ms": 1, "total_ms": 2, "input_tokens": 10, "output_tokens": 5, "cache_creation_tokens": 3,
            "cache_read_tokens": 100, "charged_tokens": 18, "micro_usd": 2500,
        }  # fmt: skip
        await self.telemetry.write(lambda tx: tx.list("insert_model_request", **(values | changes)))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    store = Store(tmp_path / "hive.sqlite", "hive")
    telemetry = Store(tmp_path / "telemetry.sqlite", "telemetry")
    for name in ("manager", "alice"):
        await store.write(lambda tx, name=name: insert_agent(tx, name, None))
    noon = (now() + timedelta(days=10)).replace(hour=12)
    yield Rig(store, telemetry, UsageReader(store, telemetry, lambda: noon + timedelta(hours=6)), noon)
    store.close()
    telemetry.close()


async def test_the_same_requests_are_told_by_agent_day_and_model(rig: Rig) -> None:
    await rig.add()
    await rig.add("manager", "haiku", rig.noon - timedelta(days=1), charged_tokens=100)
    await rig.add("alice", "haiku", micro_usd=None)
    tables = await rig.usage.read(HIVE, rig.noon - timedelta(days=2))
    assert {name: usage.work for name, usage in tables.agents.items()} == {"manager": 100, "alice": 36}
    assert {name: usage.work for name, usage in tables.models.items()} == {"haiku": 118, "opus": 18}
    yesterday, today = (rig.noon - timedelta(days=1)).date().isoformat(), rig.noon.date().isoformat()
    assert {day: usage.requests for day, usage in tables.days.items()} == {yesterday: 1, today: 2}
    assert (tables.total.micro_usd, tables.total.unpriced, tables.total.cache_read) == (5000, 1, 300)


async def test_an_agents_tables_hold_its_own_requests_from_then_on(rig: Rig) -> None:
    await rig.add()
    await rig.add("manager")
    await rig.add(at=rig.noon - timedelta(hours=3))
    tables = await rig.usage.read("alice", rig.noon - timedelta(hours=1))
    assert (list(tables.agents), tables.total.requests) == (["alice"], 1)
    with pytest.raises(NotFoundError):
        await rig.usage.read("nobody", rig.noon)


async def test_what_purged_agents_did_stays_the_hives_without_their_names(rig: Rig) -> None:
    await rig.add("gone")
    await rig.add("gone-too")
    tables = await rig.usage.read(HIVE, rig.noon - timedelta(hours=1))
    assert {name: usage.requests for name, usage in tables.agents.items()} == {PURGED: 2}


async def test_an_agent_does_not_inherit_from_a_purged_one_of_its_name(rig: Rig) -> None:
    await rig.add(at=rig.noon - timedelta(days=20))
    await rig.add()
    assert (await rig.usage.read("alice", rig.noon - timedelta(days=25))).total.requests == 1


async def test_models_that_agents_invent_do_not_fill_the_table(rig: Rig) -> None:
    for number in range(ROWS_LIMIT + 20):
        await rig.add(model=f"m{number}", charged_tokens=number + 1)
    await rig.add(model="=wrong", status=404, charged_tokens=0, output_tokens=0, micro_usd=0)
    models = (await rig.usage.read(HIVE, rig.noon - timedelta(hours=1))).models
    assert len(models) == ROWS_LIMIT
    assert list(models)[-1] == OTHER
    assert "=wrong" not in models
    assert NO_MODEL not in models
    assert sum(usage.requests for usage in models.values()) == ROWS_LIMIT + 21


async def test_a_request_without_tokens_has_no_model(rig: Rig) -> None:
    await rig.add(model="=wrong", status=404, charged_tokens=0, output_tokens=0, micro_usd=0)
    tables = await rig.usage.read(HIVE, rig.noon - timedelta(hours=1))
    assert (list(tables.models), tables.total.failures) == ([NO_MODEL], 1)


def test_a_span_is_cut_at_midnights() -> None:
    began = datetime(2026, 3, 1, 22, tzinfo=UTC)
    ended = datetime(2026, 3, 3, 1, tzinfo=UTC)
    days = list(list_days(began, ended))
    assert [begin.isoformat() for begin, _ in days] == [
        "2026-03-01T22:00:00+00:00", "2026-03-02T00:00:00+00:00", "2026-03-03T00:00:00+00:00",
    ]  # fmt: skip
    assert all(end == begin for (_, end), (begin, _) in pairwise(days))
    assert list(list_days(ended, began)) == []
