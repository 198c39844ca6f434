"""Agents that fill the disk: stopped before it is full, while the others go on; on small disks and real containers."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, StorageError
from hyperhive.core.events import Event, EventName
from hyperhive.core.names import MANAGER, OPERATOR, container_name
from hyperhive.core.quotas import MIB
from hyperhive.host.disk_quotas import DiskQuotas, DiskSettings
from hyperhive.host.kick import NEEDED
from hyperhive.host.log_watch import LogWatch
from hyperhive.host.throttles import Throttles
from hyperhive.wire.operator.agents import AgentRow
from lifecycle_rig import Hive, open_hive, wait_for

DISK_BYTES = 256 * MIB
RESERVE_BYTES = 64 * MIB
# About 40 MB a second: as much of this disk as a fast program takes of a large one.
FILL = "while :; do i=$((i+1)); head -c 2000000 /dev/zero > /state/fill$i || exit; sleep 0.05; done"
FILL_UNLINKED = (
    "exec 3>/state/gone; rm /state/gone; while :; do head -c 2000000 /dev/zero >&3 || exit; sleep 0.05; done"
)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a file system of its own. Mounting wants root."""
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        folder = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "hive-test", name], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass
class Rig:
    hive: Hive
    disk: DiskQuotas

    def fill(self, script: str) -> "asyncio.Task[None]":
        """Runs a script in alice's container for as long as that lasts."""
        return asyncio.create_task(self._run(script))

    async def _run(self, script: str) -> None:
        with contextlib.suppress(HiveError):
            await self.hive.honest.exec(container_name("alice"), ("sh", "-c", script), 60)

    def free_bytes(self) -> int:
        room = os.statvfs(self.hive.roots.data)
        return room.f_bavail * room.f_frsize

    @property
    def state(self) -> Path:
        return self.hive.roots.state_folder("alice")

    def remove_fills(self) -> None:
        for path in self.state.glob("fill*"):
            path.unlink()


@asynccontextmanager
async def open_rig(place: Path, limit_bytes: int | None = None, round_every_s: float = 600.0) -> AsyncGenerator[Rig]:
    async with open_hive(place=place, look_every_s=0.2) as hive:
        settings = DiskSettings(limit_bytes, RESERVE_BYTES, look_every_s=0.1, round_every_s=round_every_s)
        parts = hive.parts
        disk = DiskQuotas(parts.store, hive.roots, parts.configs, parts.lifecycle, parts.roster.list_running, settings)
        parts.agents.guard_starts(disk.check_start)
        watching = asyncio.create_task(disk.watch_forever())
        try:
            await hive.agents.spawn("alice")
            await hive.wait_state("idle")
            yield Rig(hive, disk)
            assert not watching.done(), "the watch over the disk has ended"
        finally:
            watching.cancel()
            await asyncio.wait({watching})
            await disk.close()
            await hive.agents.destroy("alice")


async def wait_stopped(rig: Rig, reason: str, timeout_s: float = 20) -> AgentRow:
    """Its container is gone a moment before it is written down why."""
    return await rig.hive.wait_row(lambda row: row.state == "stopped" and reason in row.reason, timeout_s)


async def test_an_agent_over_its_limit_is_stopped_and_starts_again_once_it_is_below(small_disk: Path) -> None:
    async with open_rig(small_disk, limit_bytes=30 * MIB, round_every_s=0.3) as rig:
        filling = rig.fill(FILL)
        row = await wait_stopped(rig, "its folders hold", 30)
        assert "of 30.0 MiB" in row.reason
        assert "hive quota alice --allow SIZE" in row.reason
        await filling
        event = await rig.hive.wait_event(EventName.AGENT_OVER_QUOTA)
        assert (event.body["quota"], event.body["limit_bytes"]) == ("disk", 30 * MIB)
        [need] = [need for need in await rig.hive.parts.needs.list_needs() if need.agent == "alice"]
        assert (need.acts, "too much of the disk" in need.title) == (("start",), True)

        with pytest.raises(ConflictError, match="its folders hold"):
            await rig.hive.agents.start("alice", OPERATOR)
        assert (await rig.hive.row()).state == "stopped"
        # It was told why, for when it runs again; and so was the manager.
        assert "over_quota" in (await rig.hive.list_kicks())[-1].body
        told = await rig.hive.parts.broker.list_messages(MANAGER, 2**53, 50)
        assert any("over_quota" in message.body for message in told)

        rig.remove_fills()
        await rig.hive.agents.start("alice", OPERATOR)
        await rig.hive.wait_state("idle", "thinking")


async def test_one_that_is_near_its_limit_is_warned_once(small_disk: Path) -> None:
    async with open_rig(small_disk, limit_bytes=30 * MIB, round_every_s=0.2) as rig:
        (rig.state / "large").write_bytes(b"x" * 26 * MIB)
        event = await rig.hive.wait_event(EventName.QUOTA_WARNED)
        assert event.body["limit_bytes"] == 30 * MIB
        warning = (await rig.hive.list_kicks())[-1].body
        assert "26." in warning and "30.0 MiB" in warning
        used = rig.disk.find_used_bytes("alice")
        (rig.state / "more").write_bytes(b"x" * MIB)
        await wait_for(lambda: _is_another(rig.disk, used), 20, rig.hive)
        assert len(rig.hive.list_events(EventName.QUOTA_WARNED)) == 1


async def _is_another(disk: DiskQuotas, used: int | None) -> bool | None:
    return True if disk.find_used_bytes("alice") != used else None


@pytest.mark.parametrize("script", [FILL, FILL_UNLINKED], ids=["files", "files without a name"])
async def test_a_disk_filler_is_stopped_before_the_disk_is_full_and_messages_go_on(
    small_disk: Path, script: str
) -> None:
    async with open_rig(small_disk) as rig:
        await rig.disk.view("alice")
        filling = rig.fill(script)
        lowest = rig.free_bytes()
        worst_s = 0.0
        while not rig.hive.list_events(EventName.AGENT_OVER_QUOTA):
            began_s = time.monotonic()
            await rig.hive.parts.broker.send(MANAGER, OPERATOR, "still here")
            worst_s = max(worst_s, time.monotonic() - began_s)
            lowest = min(lowest, rig.free_bytes())
            assert lowest > 0, "the disk was full"
            await asyncio.sleep(0.02)
        await filling
        await wait_stopped(rig, "free of the 64.0 MiB that agents leave, and its folders grew most")
        assert lowest > RESERVE_BYTES / 4
        # Whatever else this machine does.
        assert worst_s < 2.0
        if script == FILL:
            with pytest.raises(ConflictError, match="the disk has"):
                await rig.hive.agents.start("alice", OPERATOR)
            rig.remove_fills()
        await rig.hive.agents.start("alice", OPERATOR)
        await rig.hive.wait_state("idle", "thinking")


async def test_a_disk_that_others_filled_stops_nobody_and_the_rest_of_it_is_the_operators(small_disk: Path) -> None:
    async with open_rig(small_disk) as rig:
        await rig.disk.view("alice")
        filler = small_disk / "of-the-operator"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, rig.free_bytes() - RESERVE_BYTES // 8)
        event = await _wait_hive_event(rig.hive, EventName.DISK_LOW)
        assert event.body["reserve_bytes"] == RESERVE_BYTES
        assert any("disk is nearly full" in need.title for need in rig.disk.list_needs())
        with pytest.raises(StorageError, match="nearly full"):
            rig.disk.check_room()
        await rig.hive.parts.broker.send(OPERATOR, "alice", "what takes the room?")
        assert not rig.hive.list_events(EventName.AGENT_OVER_QUOTA)
        filler.unlink()
        await _wait_hive_event(rig.hive, EventName.DISK_FREED)
        rig.disk.check_room()
        assert not rig.hive.list_events(EventName.AGENT_OVER_QUOTA)


async def _wait_hive_event(hive: Hive, name: EventName) -> Event:
    async def seen() -> Event | None:
        return next((event for event in hive.events if event.name is name), None)

    return await wait_for(seen, 20, hive)


async def test_more_may_be_allowed_for_a_while_and_starts_what_was_stopped(small_disk: Path) -> None:
    async with open_rig(small_disk, limit_bytes=10 * MIB, round_every_s=0.2) as rig:
        (rig.state / "large").write_bytes(b"x" * 20 * MIB)
        await rig.hive.wait_state("stopped")
        with pytest.raises(ConflictError, match="hold"):
            await rig.disk.allow("alice", 15 * MIB, 3600)
        with pytest.raises(InvalidInputError):
            await rig.disk.allow("alice", 15 * MIB, 3600 * 24 * 365)
        await rig.disk.allow("alice", 40 * MIB, 3600)
        await rig.hive.wait_state("idle", "thinking")
        view = await rig.disk.view("alice")
        assert view.limit_bytes == 40 * MIB
        assert view.allowed_until is not None


async def test_one_that_was_stopped_stays_so_for_the_next_daemon(small_disk: Path) -> None:
    async with open_rig(small_disk, limit_bytes=10 * MIB, round_every_s=0.2) as rig:
        (rig.state / "large").write_bytes(b"x" * 20 * MIB)
        await rig.hive.wait_state("stopped")
        await rig.hive.parts.lifecycle.reconcile()
        await rig.hive.send("wake up")
        await rig.hive.parts.lifecycle.converge("alice", NEEDED)
        assert (await rig.hive.row()).state == "stopped"
        assert await rig.hive.list_processes() == []


async def test_a_log_flooder_is_told_of_shortened_and_stopped_and_costs_its_neighbours_nothing(
    small_disk: Path,
) -> None:
    async with open_rig(small_disk) as rig:
        parts = rig.hive.parts
        throttles = Throttles(parts.store, parts.background)
        watch = LogWatch(rig.hive.honest, rig.hive.roots.run, parts.lifecycle, throttles, parts.roster.list_running)
        watching = asyncio.create_task(watch.watch_forever())
        log = rig.hive.roots.containers_folder / container_name("alice") / "log"
        flood = f"import sys,time\nf = open({str(log)!r}, 'ab', 0)\nwhile True: f.write(b'x' * 2**20); time.sleep(0.01)"
        flooder = await asyncio.create_subprocess_exec(sys.executable, "-c", flood)
        lowest = rig.free_bytes()
        worst_s = 0.0
        try:
            while not rig.hive.list_events(EventName.AGENT_OVER_QUOTA):
                began_s = time.monotonic()
                await parts.broker.send(MANAGER, OPERATOR, "still here")
                worst_s = max(worst_s, time.monotonic() - began_s)
                lowest = min(lowest, rig.free_bytes())
                assert flooder.returncode is None, "the disk was full"
                await asyncio.sleep(0.02)
        finally:
            flooder.kill()
            await flooder.wait()
            watching.cancel()
            await asyncio.wait({watching})
        assert [event.body["quota"] for event in rig.hive.list_events(EventName.AGENT_THROTTLED)] == ["log"]
        await wait_stopped(rig, "it floods its log")
        assert lowest > DISK_BYTES * 0.1
        assert worst_s < 2.0
        await rig.hive.agents.start("alice", OPERATOR)
        await rig.hive.wait_state("idle", "thinking")
