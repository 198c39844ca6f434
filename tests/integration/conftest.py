"""Fixtures that several modules share: a hive for the attacks on configs, a harness between stand-ins."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from attack_rig import Arena, open_arena
from harness_rig import Rig, open_rig


@pytest.fixture(scope="module")
def open_arena_of_module() -> Iterator[Arena]:
    with open_arena() as arena:
        yield arena


@pytest.fixture
def arena(open_arena_of_module: Arena) -> Iterator[Arena]:
    """One running hive for all tests of a module; the agents that a test spawned end with it."""
    yield open_arena_of_module
    open_arena_of_module.purge_agents()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """What a harness needs around it: the model and the daemon's end of its link. The test starts the harness."""
    async with open_rig(tmp_path) as opened:
        await opened.start_model()
        await opened.start_peer()
        yield opened
