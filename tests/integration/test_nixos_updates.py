"""Agents whose systems were built from a flake that has moved since: shown, and built anew with all that is stale."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

from hyperhive.host.drivers.protocol import ContainerSpec, Driver, Observation
from lifecycle_rig import Hive, Wrap, make_place, open_hive
from nix_driver_rig import Evaluator, NixDriver, make_evaluator

MOVED = "the hive's flake has moved"


@dataclass(kw_only=True)
class Keeping(NixDriver):
    """Keeps of each container the revision that it was created with, in `revisions`, which outlives the daemon."""

    revisions: dict[str, str] = field(default_factory=dict[str, str])

    async def create(self, spec: ContainerSpec) -> None:
        await super().create(spec)
        self.revisions[spec.name] = self.revision

    async def observe(self, name: str) -> Observation:
        return replace(await super().observe(name), revision=self.revisions.get(name, ""))


def keep(evaluator: Evaluator, revision: str, revisions: dict[str, str]) -> Wrap:
    def wrap(driver: Driver) -> Driver:
        return Keeping(
            driver,
            evaluator=evaluator,
            lister=evaluator.list_packages,
            comparer=evaluator.compare_packages,
            revision=revision,
            revisions=revisions,
        )

    return wrap


async def is_up_to_date(hive: Hive) -> None:
    await hive.wait_row(lambda row: row.state == "idle" and not row.updating and row.needs_update == "", 60)


async def test_an_agent_whose_flake_has_moved_is_stale_until_it_is_built_anew(tmp_path: Path) -> None:
    evaluator = make_evaluator(tmp_path)
    revisions: dict[str, str] = {}
    async with make_place() as place:
        async with open_hive(keep(evaluator, "before", revisions), place=place) as hive:
            await hive.agents.spawn("alice")
            await is_up_to_date(hive)
            assert await hive.parts.updates.update_all() == []
            generation = (await hive.record()).generation
        # The operator has brought the machine up to date, and with it the hive's inputs.
        async with open_hive(keep(evaluator, "after", revisions), place=place, reconcile=True) as hive:
            row = await hive.wait_row(lambda row: row.state == "idle", 60)
            assert (row.needs_update, revisions) == (MOVED, {"alice": "before"})
            updating = asyncio.create_task(hive.parts.updates.run_forever())
            try:
                assert await hive.parts.updates.update_all() == ["alice"]
                await is_up_to_date(hive)
            finally:
                updating.cancel()
                await asyncio.wait({updating})
            assert revisions == {"alice": "after"}
            assert (await hive.record()).generation == generation + 1
