"""The sockets of an agent, opened and closed by tasks that are cancelled on the way: none stays open."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from egress_rig import open_rig
from hyperhive.core.paths import Roots
from hyperhive.host.link.server import SOCKETS, LinkServer

STEPS_LIMIT = 50


def refuse(who: object, *told: object) -> Any:
    """What serves the sockets, of which none is to be reached here."""
    raise AssertionError((who, *told))


def list_open(folder: Path) -> list[str]:
    """The unix sockets bound below `folder` that some process holds open, as the kernel tells it."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sorted(
        line.split()[7] for line in lines if len(line.split()) > 7 and line.split()[7].startswith(f"{folder}/")
    )


async def cancel_after(steps: int, act: Callable[[], Awaitable[None]]) -> bool:
    """Whether `act` was still at work after the event loop had gone round `steps` times, and was cancelled."""
    task = asyncio.ensure_future(act())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return task.cancelled()


@pytest.mark.parametrize("act", ["open", "close"])
async def test_a_cancel_on_the_way_leaves_no_socket_open(tmp_path: Path, act: str) -> None:
    async with open_rig(tmp_path) as rig:
        roots = Roots(tmp_path / "data", tmp_path / "run")
        folder = roots.agent_sockets_folder("alice")
        links = LinkServer(roots, refuse, lambda _: refuse, rig.egress.open, refuse)

        async def open_it() -> None:
            await links.open("alice", None)

        async def close_it() -> None:
            await links.close("alice")

        steps, cancelled = 0, 0
        for steps in range(STEPS_LIMIT):
            if act == "close":
                await open_it()
            if not await cancel_after(steps, open_it if act == "open" else close_it):
                break
            cancelled += steps > 0
            assert list_open(folder) == (
                [] if steps or act == "open" else [str(folder / name) for name in sorted(SOCKETS)]
            )
        assert 0 < cancelled == steps - 1
        if act == "open":
            assert list_open(folder) == [str(folder / name) for name in sorted(SOCKETS)]
            await close_it()
        assert list_open(folder) == []
