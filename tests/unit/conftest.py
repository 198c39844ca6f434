"""A fixture that several modules share: who attacks root's helper."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from separation_rig import Attack, open_attack


@pytest.fixture
async def attack(tmp_path: Path) -> AsyncIterator[Attack]:
    async with AsyncExitStack() as stack:
        yield await open_attack(stack, tmp_path)
