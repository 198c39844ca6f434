"""What was recorded of the last 24 hours is what a new daemon begins with, rows of earlier versions included."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hyperhive.core.budgets import NOTHING, Amount
from hyperhive.core.parking import EVERYONE
from hyperhive.core.prices import DEFAULT_TABLE
from hyperhive.host.ledger import Ledger
from hyperhive.host.store.store import Store
from hyperhive.system.clock import to_millis

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY_MS = 24 * 3600 * 1000
KNOWN = "claude-sonnet-4-5-20250929"


@pytest.fixture
async def telemetry(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "telemetry.sqlite", "telemetry")
    yield store
    store.close()


async def record(telemetry: Store, **fields: Any) -> None:
    row: dict[str, Any] = {
        "agent": "alice",
        "at": to_millis(AT),
        "path": "/v1/messages",
        "model": KNOWN,
        "status": 200,
        "first_byte_ms": 1,
        "total_ms": 2,
        "input_tokens": 1000,
        "output_tokens": 100,
        "cache_creation_tokens": 10,
        "cache_read_tokens": 10_000,
        "charged_tokens": 1110,
        "micro_usd": 7538,
    }
    await telemetry.write(lambda tx: tx.list("insert_model_request", **(row | fields)))


async def load(telemetry: Store) -> Ledger:
    ledger = Ledger(lambda: AT)
    await ledger.load(telemetry, DEFAULT_TABLE)
    return ledger


async def test_what_was_charged_is_taken_over_by_agent_and_for_all(telemetry: Store) -> None:
    await record(telemetry)
    await record(telemetry, agent="bob", charged_tokens=9, micro_usd=1)
    await record(telemetry, agent="bob", at=to_millis(AT) - DAY_MS - 120_000)
    ledger = await load(telemetry)
    assert ledger.total("alice") == Amount(1110, 7538)
    assert ledger.total("bob") == Amount(9, 1)
    assert ledger.total(EVERYONE) == Amount(1119, 7539)


async def test_rows_of_an_earlier_version_are_charged_as_reported(telemetry: Store) -> None:
    old = {"charged_tokens": None, "micro_usd": None}
    await record(telemetry, **old)
    for free in ({"path": "/v1/messages/count_tokens"}, {"status": 529}, {"status": 0}):
        await record(telemetry, **old, **free)
    # 1,000 at 3, 100 at 15, 10 at 3.75 and 10,000 at 0.3 dollars a million.
    assert (await load(telemetry)).total("alice") == Amount(1110, 7538)


async def test_a_model_that_has_a_price_by_now_is_priced_and_another_one_stays_unknown(telemetry: Store) -> None:
    await record(telemetry, micro_usd=None)
    await record(telemetry, agent="bob", model="mystery", micro_usd=None)
    await record(telemetry, agent="bob", model="mystery", micro_usd=None)
    ledger = await load(telemetry)
    assert ledger.total("alice") == Amount(1110, 7538)
    assert ledger.total("bob") == Amount(2220, 0, unpriced=2)


async def test_what_cost_nothing_is_no_spending(telemetry: Store) -> None:
    await record(telemetry, model="", status=502, charged_tokens=0, micro_usd=0)
    assert (await load(telemetry)).total(EVERYONE) == NOTHING
