"""Fixtures that several modules share: a hive for the attacks on configs, a harness between stand-ins, a first hive."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from attack_rig import Arena, open_arena
from first_hive import FirstHive
from first_hive_rig import copy_first_hive, make_pattern
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


@pytest.fixture
def folder() -> Iterator[Path]:
    # Short: sockets of hives have their paths in here.
    with tempfile.TemporaryDirectory(prefix="hive-") as made:
        yield Path(made)


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> FirstHive:
    """Made once, and never changed."""
    return make_pattern(tmp_path_factory.mktemp("pattern") / "first")


@pytest.fixture
def first(folder: Path, pattern: FirstHive) -> FirstHive:
    """A copy of the pattern, for one test."""
    return copy_first_hive(pattern, folder / "first")
