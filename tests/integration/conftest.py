"""Fixtures of the attacks on configs."""

from collections.abc import Iterator

import pytest

from attack_rig import Arena, open_arena


@pytest.fixture(scope="module")
def open_arena_of_module() -> Iterator[Arena]:
    with open_arena() as arena:
        yield arena


@pytest.fixture
def arena(open_arena_of_module: Arena) -> Iterator[Arena]:
    """One running hive for all tests of a module; the agents that a test spawned end with it."""
    yield open_arena_of_module
    open_arena_of_module.purge_agents()
