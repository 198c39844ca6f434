"""What the kernel tells of memory that ran out, read from its own files, and what follows for a container's end."""

import os
from pathlib import Path

import pytest

from hyperhive.host.drivers import kill_watch
from hyperhive.host.drivers.kill_watch import KillWatch
from hyperhive.system.memory_kills import Kills, find_group_file, find_hierarchies, is_killed_since, read_count

MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
37 31 0:34 /docker/x /elsewhere rw,relatime - cgroup2 cgroup2 rw
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
"""


def test_the_hierarchies_are_found_by_where_they_are_mounted_whole(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert find_hierarchies(tmp_path / "mountinfo") == {
        "cgroup": Path("/sys/fs/cgroup/memory"),
        "cgroup2": Path("/sys/fs/cgroup/unified"),
    }
    assert find_hierarchies(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("low 0\noom 7\noom_kill 2\noom_group_kill 0\n", 2),
        ("low 0\n", None),
        ("oom_kill x\n", None),
    ],
)
def test_the_count_is_the_line_of_that_very_name(tmp_path: Path, text: str, count: int | None) -> None:
    (tmp_path / "counts").write_text(text)
    assert read_count(tmp_path / "counts") == count


def test_a_count_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_count(tmp_path / "absent") is None
    assert find_group_file(os.getpid(), {}) is None


def test_without_a_rise_on_the_machine_nothing_was_killed() -> None:
    machine = read_count(Path("/proc/vmstat"))
    assert machine is not None
    assert not is_killed_since(Kills(machine=machine))
    assert not is_killed_since(Kills())


def test_a_rise_on_the_machine_counts_unless_the_own_group_had_none(tmp_path: Path) -> None:
    file = tmp_path / "memory.events"
    file.write_text("oom_kill 5\n")
    assert is_killed_since(Kills(machine=-1))
    assert is_killed_since(Kills(machine=-1, group=4, file=file))
    assert not is_killed_since(Kills(machine=-1, group=5, file=file))
    # The group is gone with its container: then the machine's count is all there is.
    assert is_killed_since(Kills(machine=-1, group=5, file=tmp_path / "absent"))


def test_the_watch_knows_nothing_of_what_it_never_saw_and_keeps_to_what_it_said() -> None:
    watch = KillWatch()
    assert not watch.is_killed("alice")
    watch.look("alice", os.getpid())
    assert not watch.is_killed("alice")
    watch.forget("alice")
    assert not watch.is_killed("alice")


def test_the_watch_compares_with_what_stood_there_a_moment_ago() -> None:
    at_s = 0.0
    watch = KillWatch(lambda: at_s)
    watch.look("alice", os.getpid())
    first = watch.find_baseline("alice")
    at_s = kill_watch.SHIFT_S / 2
    watch.look("alice", os.getpid())
    # Too soon: a kill may be counted by now whose container is not yet seen to have ended.
    assert watch.find_baseline("alice") is first
    at_s = kill_watch.SHIFT_S
    watch.look("alice", os.getpid())
    assert watch.find_baseline("alice") is first
    at_s = 2 * kill_watch.SHIFT_S
    watch.look("alice", os.getpid())
    assert watch.find_baseline("alice") is not first
