"""A hive on NixOS has no room for long names: whoever asks for one is told so, before anything is made."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.core.names import MANAGER, container_name
from hyperhive.host.drivers.nixos_names import NAME_LIMIT_CHARS, plan_machine
from hyperhive.host.drivers.protocol import Observation
from hyperhive.host.drivers.registry import NIXOS, check_name
from lifecycle_rig import BadDriver, Hive, open_hive

LONG = "ten-chars1"
LONGEST = "nine-char"
REFUSED = f"{LONG} has 10 characters; agents of the nixos driver have 9 at most"


class Strict(BadDriver):
    """Containers of bubblewrap, for names that NixOS has room for: it can do nothing about one of another name."""

    async def observe(self, name: str) -> Observation:
        plan_machine(name)
        return await super().observe(name)

    async def stop(self, name: str, timeout_s: float) -> None:
        plan_machine(name)
        await super().stop(name, timeout_s)

    async def destroy(self, name: str) -> None:
        plan_machine(name)
        await super().destroy(name)

    async def log_range(self, name: str) -> tuple[int, int]:
        plan_machine(name)
        return await super().log_range(name)


@pytest.fixture
async def hive() -> AsyncIterator[Hive]:
    async with open_hive(lambda driver: Strict(driver, NIXOS)) as hive:
        yield hive


async def is_refused(asked: Awaitable[object]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        await asked
    assert caught.value.message == REFUSED
    assert "network interfaces have 11" in caught.value.hint


def test_what_may_be_an_agents_name_is_what_nixos_has_room_for() -> None:
    for driver in ("bubblewrap", "nspawn", "gvisor"):
        check_name(driver, "x" * 63)
    assert len(LONGEST) == NAME_LIMIT_CHARS == len(LONG) - 1
    for name in (MANAGER, "a", LONGEST):
        check_name(NIXOS, name)
        assert len(plan_machine(container_name(name))) <= 11
    with pytest.raises(InvalidInputError):
        check_name(NIXOS, LONG)
    with pytest.raises(HiveError):
        plan_machine(LONG)


async def test_no_agent_comes_to_be_whose_name_is_too_long(hive: Hive) -> None:
    parts = hive.parts
    await hive.insert_experienced()
    snapshot = await parts.takes.take("alice", "", with_credentials=False, wait_s=0)
    asked: list[Callable[[str], Awaitable[object]]] = [
        parts.agents.spawn,
        lambda name: parts.drafts.create(name, MANAGER),
        lambda name: parts.approvals.request_spawn(name, "", MANAGER),
        lambda name: parts.restores.fork(snapshot.id, name, with_credentials=False),
    ]
    for ask in asked:
        await is_refused(ask(LONG))
    assert {row.name for row in await parts.agents.rows()} == {MANAGER, "alice"}
    assert await parts.drafts.list_drafts() == []
    assert not list(hive.roots.data.rglob(f"*{LONG}*"))
    assert (await parts.approvals.request_spawn(LONGEST, "", MANAGER)).agent == LONGEST


async def test_one_of_before_the_driver_was_changed_does_not_start_and_says_why(hive: Hive) -> None:
    parts = hive.parts
    await hive.insert_experienced(LONG)
    await parts.lifecycle.start(LONG, "operator")
    row = await hive.row(LONG)
    assert (row.state, row.reason[: len(REFUSED) + 13]) == ("failed", f"not running: {REFUSED}")
    await is_refused(parts.updates.update(LONG))
    assert await parts.lifecycle.halt() == []


async def test_nor_does_it_come_back_once_it_is_gone(hive: Hive) -> None:
    parts = hive.parts
    await hive.insert_experienced(LONG)
    snapshot = await parts.takes.take(LONG, "", with_credentials=False, wait_s=0)
    await parts.agents.destroy(LONG)
    await is_refused(parts.kept.revive(LONG))
    await is_refused(parts.restores.restore(snapshot.id, replay=False, with_credentials=False, wait_s=0))
    await parts.kept.purge(LONG)
    await is_refused(parts.restores.restore(snapshot.id, replay=False, with_credentials=False, wait_s=0))
    assert [row.name for row in await parts.agents.rows()] == [MANAGER]
