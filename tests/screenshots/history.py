"""Figures of the days before, made up: a swarm that began a minute ago has none that a chart could show."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from hyperhive.core.budgets import Tokens
from hyperhive.core.messages import SenderKind
from hyperhive.core.paths import Roots
from hyperhive.core.prices import DEFAULT_TABLE
from hyperhive.core.stats import HIVE, Slot, name_bucket
from hyperhive.core.turns import TurnState
from hyperhive.host.stats.stats import Stats
from hyperhive.host.store.store import Store

DAYS = 3
# Charts of the last hours show minutes: what nobody counted in one of them is a gap.
MINUTE = timedelta(minutes=1)
BUSY_EVERY = 8
# How busy each is, and with which model.
WORKERS = {
    "manager": (0.35, "claude-opus-5-5"),
    "builder": (0.8, "claude-opus-5-5"),
    "reviewer": (0.4, "claude-opus-5-5"),
    "scribe": (0.3, "claude-sonnet-5-5"),
}
TOOLS = ("Bash", "Edit", "Read", "Write", "mcp__hyperhive__send", "Grep", "WebFetch")


def write_history(roots: Roots) -> None:
    """Fills the stats of a hive that does not run. The agents must be there."""
    asyncio.run(_write(roots.database, roots.telemetry))


class _Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


async def _write(database: Path, telemetry_file: Path) -> None:
    ended_at = datetime.now(UTC) - MINUTE
    clock = _Clock(ended_at - timedelta(days=DAYS))
    values = Random(7)
    with closing(Store(database, "hive")) as store, closing(Store(telemetry_file, "telemetry")) as telemetry:
        stats = Stats(store, telemetry, lambda: dict.fromkeys((*WORKERS, "scout"), TurnState.IDLE), clock)
        await stats.load()
        minute = 0
        while clock.at < ended_at:
            minute += 1
            for agent, turns, slot in _play(values, clock.at) if minute % BUSY_EVERY == 0 else ():
                stats.count(agent, slot)
                row = _make_request(values, agent, clock.at, turns)
                await telemetry.write(lambda tx, row=row: tx.list("insert_model_request", **row))
            # Levels hold for a while; `save` looks at those that the store knows of.
            stats.count(HIVE, {"approvals": minute // 97 % 3, "questions": minute // 61 % 2})
            await stats.save()
            clock.at += MINUTE


def _play(values: Random, at: datetime) -> Iterator[tuple[str, int, Slot]]:
    """Who had turns in this step: many by day, few at night."""
    hour = at.hour + at.minute / 60
    busy = max(0.08, math.sin((hour - 5) / 24 * 2 * math.pi)) * values.uniform(0.6, 1.2)
    for agent, (share, _) in WORKERS.items():
        turns = sum(values.random() < share * busy for _ in range(4))
        if turns:
            yield agent, turns, _make_slot(values, agent, turns, at)


def _make_slot(values: Random, agent: str, turns: int, at: datetime) -> Slot:
    failed = int(values.random() < 0.04)
    tools = {tool: values.randint(1, 9 - place) * turns for place, tool in enumerate(TOOLS) if values.random() < 0.7}
    buckets: dict[str, int] = {}
    for _ in range(turns):
        bucket = name_bucket(int(values.lognormvariate(10.6, 0.8)))
        buckets[bucket] = buckets.get(bucket, 0) + 1
    inbox = values.choice((0, 0, 0, 1, 1, 2, 4))
    return {
        "turns": turns,
        "outcome.ok": turns - failed,
        "outcome.api_error": failed,
        "turn_ms": buckets,
        "tools": tools,
        "tool_calls": sum(tools.values()),
        "handled": turns,
        f"in.{SenderKind.OPERATOR if agent == 'manager' else SenderKind.MANAGER}": turns,
        f"in.{SenderKind.PEER}": values.randint(0, 2),
        f"out.{SenderKind.PEER}": values.randint(0, 3),
        f"out.{SenderKind.OPERATOR}": int(values.random() < 0.2),
        "inbox": inbox,
        "inbox_max": inbox + values.randint(0, 3),
        "last_turn_at": int(at.timestamp()),
        "notes_bytes": 4000 + at.hour * 300 + values.randint(0, 400),
        "context_tokens": values.randint(30_000, 120_000),
    }


def _make_request(values: Random, agent: str, at: datetime, turns: int) -> dict[str, object]:
    model = WORKERS[agent][1]
    tokens = Tokens(
        input=values.randint(900, 4000) * turns,
        output=values.randint(300, 1600) * turns,
        cache_write=values.randint(800, 4000) * turns,
        cache_read=values.randint(30_000, 90_000) * turns,
    )
    return {
        "agent": agent,
        "at": int(at.timestamp() * 1000),
        "path": "/v1/messages",
        "model": model,
        "status": 200,
        "first_byte_ms": 900,
        "total_ms": 9000,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_creation_tokens": tokens.cache_write,
        "cache_read_tokens": tokens.cache_read,
        "charged_tokens": tokens.work,
        "micro_usd": DEFAULT_TABLE.find_cost(model, tokens),
    }
