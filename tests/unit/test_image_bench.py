"""Programs that build images run one after another in one group, which systemd may still take for busy."""

import os
from collections.abc import Sequence
from pathlib import Path

from hyperhive.host.drivers.image_bench import Bench
from hyperhive.system.cgroups import Group

SCOPE_IS_THERE = "Failed to start transient scope unit: Unit x-image.scope was already loaded or has a fragment file."


class BusyGroup(Group):
    """A group that says so of the first programs, in the place of running them."""

    def __init__(self, times: int) -> None:
        super().__init__("image", [])
        self.left = times

    def wrap(self, argv: Sequence[str], below: str = "") -> list[str]:
        self.left -= 1
        if self.left >= 0:
            return ["sh", "-c", f"echo '{SCOPE_IS_THERE}' >&2; exit 1"]
        # Without the room, which takes root.
        return list(argv)[-2:]


async def test_a_program_is_run_once_systemd_knows_that_the_last_one_ended(tmp_path: Path) -> None:
    lock = os.open(tmp_path, os.O_RDONLY)
    try:
        group = BusyGroup(2)
        done = await Bench(lock, group).run(["run"], ["echo", "well"], timeout_s=20)
        assert (done.status, done.stdout, group.left) == (0, b"well\n", -1)
    finally:
        os.close(lock)
