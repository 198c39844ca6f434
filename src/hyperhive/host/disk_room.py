"""How much room the hive's disk has, how fast that goes, and whether it is time to look for who takes it."""

from datetime import datetime
from pathlib import Path

from hyperhive.core.quotas import FLOOR_PART, MIB, plan_reserve_bytes, render_bytes
from hyperhive.system.clock import now
from hyperhive.system.disk_usage import Room, observe_room

# If the disk would be at its reserve within so long, that is urgent.
AHEAD_S = 20.0
# What a disk may lose in that time before it is looked at more closely.
SLACK_BYTES = 8 * MIB
# Of the last fall, what is left of it at the next look: a disk that is filled in bursts is filled all the same.
_FALL_KEPT_PART = 0.8
# Above the reserve by that part, a disk that was low is so no more.
_FREED_PART = 1.1


class DiskRoom:
    """The file system that `folder` is on. `wanted_bytes` is its reserve: None for what fits it, 0 for none.

    All that looks at it anew raises OSError.
    """

    def __init__(self, folder: Path, wanted_bytes: int | None) -> None:
        self._folder = folder
        self._wanted_bytes = wanted_bytes
        self._room: Room | None = None
        self._fall_bytes_per_s = 0.0
        # What was free after the last search for who takes it, as long as it was urgent since.
        self._searched_free_bytes: int | None = None
        self.is_low = False
        self.low_since: datetime = now()

    def observe(self) -> Room:
        self._room = observe_room(self._folder)
        return self._room

    def look(self, passed_s: float) -> Room:
        """The same, so long after the last look: from that it is known how fast the room goes."""
        before, room = self._room, self.observe()
        if before is not None:
            fall = max(0.0, (before.free_bytes - room.free_bytes) / max(passed_s, 0.001))
            self._fall_bytes_per_s = max(fall, self._fall_bytes_per_s * _FALL_KEPT_PART)
        return room

    @property
    def reserve_bytes(self) -> int:
        """What agents are to leave free."""
        room = self._room or self.observe()
        return plan_reserve_bytes(room.total_bytes, self._wanted_bytes)

    def find_rest_bytes(self) -> int | None:
        """What is free, by the last look, if that is so little that it is the operator's alone; else None."""
        room = self._room
        return room.free_bytes if room is not None and room.free_bytes < self.reserve_bytes * FLOOR_PART else None

    def is_urgent(self, room: Room) -> bool:
        """Whether it is time to search for who takes the room, by what was just seen."""
        reserve_bytes = self.reserve_bytes
        if not reserve_bytes or room.free_bytes - reserve_bytes > max(SLACK_BYTES, self._fall_bytes_per_s * AHEAD_S):
            self._searched_free_bytes = None
            return False
        if self._searched_free_bytes is None:
            return True
        # One that was full at the last search, and has not become fuller since, is nobody's doing now. What was freed
        # since then somebody may be filling again.
        self._searched_free_bytes = max(self._searched_free_bytes, room.free_bytes)
        return room.free_bytes < self._searched_free_bytes - min(SLACK_BYTES, reserve_bytes // 16)

    def note_searched(self) -> None:
        """It was urgent, and who takes the room was searched for."""
        self._searched_free_bytes = self.observe().free_bytes

    def note_low(self, room: Room) -> bool:
        """Notes whether the disk is at its reserve; whether that is news."""
        is_low = room.free_bytes < self.reserve_bytes
        is_between = not is_low and room.free_bytes < self.reserve_bytes * _FREED_PART
        if is_low is self.is_low or is_between:
            return False
        self.is_low, self.low_since = is_low, now()
        return True

    def render(self, room: Room) -> str:
        return (
            f"the disk has {render_bytes(room.free_bytes)} free of the "
            f"{render_bytes(self.reserve_bytes)} that agents leave"
        )
