"""What is told to those who watch from outside: whether the hive is ready, and figures for Prometheus."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fake_hive import AGENT
from hyperhive.host.drivers.protocol import ContainerState, Driver, DriverError, Observation
from hyperhive.host.metrics import Figures, Levels, render_figures
from hyperhive.host.readiness import KEEP_S, Readiness
from hyperhive.host.store.store import Store


@dataclass
class Watched:
    """A driver of which only `observe` is asked."""

    name: str = "bubblewrap"
    is_broken: bool = False
    asked: list[str] = field(default_factory=list[str])

    async def observe(self, name: str) -> Observation:
        self.asked.append(name)
        if self.is_broken:
            raise DriverError("/secret/place is gone", "mend it")
        return Observation(ContainerState.RUNNING)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "hive.sqlite", "hive")
    yield store
    store.close()


async def test_a_hive_that_works_is_ready(store: Store, tmp_path: Path) -> None:
    driver = Watched()
    assert await Readiness(store, cast("Driver", driver), tmp_path).find_faults() == ()
    assert driver.asked == ["hm1nd"]


async def test_every_fault_is_told_and_none_names_a_place(store: Store, tmp_path: Path) -> None:
    readiness = Readiness(store, cast("Driver", Watched(is_broken=True)), tmp_path / "gone")
    store.close()
    faults = await readiness.find_faults()
    assert faults == (
        "the database takes no change",
        "the data folder is not there",
        "the driver bubblewrap does not answer",
    )


async def test_however_many_ask_it_is_looked_at_once_a_second(store: Store, tmp_path: Path) -> None:
    driver, at_s = Watched(), [100.0]
    readiness = Readiness(store, cast("Driver", driver), tmp_path, lambda: at_s[0])
    await asyncio.gather(*(readiness.find_faults() for _ in range(50)))
    assert len(driver.asked) == 1
    driver.is_broken = True
    assert await readiness.find_faults() == ()
    at_s[0] += KEEP_S
    assert await readiness.find_faults() != ()
    assert len(driver.asked) == 2


def read(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """The samples of each name by the values of their labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    families: Any = text_string_to_metric_families(text)
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_the_figures_are_read_by_prometheus_and_leave_out_who_is_gone() -> None:
    alice = AGENT.model_copy(update={"name": "alice", "state": "idle", "waiting": 3, "turns": 7})
    bob = AGENT.model_copy(update={"name": "bob", "state": "idle", "waiting": 0})
    shown = read(
        render_figures(
            Figures(
                driver="bubblewrap",
                rows=[alice, bob],
                connected=2,
                watchers=1,
                levels=Levels(messages=10, dead_letters=1, pending_approvals=2, open_questions=3),
                write_s=0.25,
                events={"agent.crashed": 4},
                model={("alice", "input"): 100, ("alice", "micro_usd"): 2_500_000, ("gone", "input"): 5},
            )
        ).decode()
    )
    assert shown["hive_agents"] == {("idle",): 2}
    assert shown["hive_agent_waiting_messages"] == {("alice",): 3, ("bob",): 0}
    assert shown["hive_agent_turns_total"][("alice",)] == 7
    assert shown["hive_messages_total"] == {(): 10}
    assert shown["hive_events_total"] == {("agent.crashed",): 4}
    assert shown["hive_model_tokens_total"][("alice", "input")] == 100
    assert shown["hive_model_usd_total"][("alice",)] == 2.5
    assert shown["hive_approvals_pending"] == {(): 2}
    assert shown["hive_write_seconds"] == {(): 0.25}
    assert not [name for name, samples in shown.items() for labels in samples if "gone" in labels]
