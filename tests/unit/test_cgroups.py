"""Control groups: real ones where this machine lets us make them, and folders laid out like those of other machines."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cgroup_fakes import Machine
from hyperhive.core.limits import Limits
from hyperhive.system.cgroup_places import Place
from hyperhive.system.cgroup_scopes import Manager, Scope
from hyperhive.system.cgroup_trees import GroupError, Tree, observe_memory_bytes, observe_trees
from hyperhive.system.cgroups import Group, Groups

MIB = 1024 * 1024
LIMITS = Limits(64 * MIB, 1.5, 100)
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Groups]:
    opened = Groups.observe(tmp_path, as_root=AS_ROOT)
    yield opened
    opened.remove_others([])
    assert opened.list_names() == []


def has_limits(groups: Groups) -> bool:
    """Whether this machine lets us make groups with all limits; it says why not for those that are missing."""
    assert all(groups.unlimited.values())
    return not groups.unlimited


def run(group: Group, *argv: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(group.wrap(argv), stderr=subprocess.DEVNULL)


def end(group: Group, process: "subprocess.Popen[bytes]") -> None:
    """By the group, where there is one."""
    if group.places:
        group.kill()
    else:
        process.kill()
    assert process.wait(20) == -signal.SIGKILL


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


# -- on this machine ---------------------------------------------------------------------------------------


def test_what_is_wrapped_is_a_member_with_all_it_starts_and_counted(groups: Groups) -> None:
    group = groups.make("alice", LIMITS)
    process = run(group, "sh", "-c", "sleep 10 & exec sleep 100")
    if has_limits(groups):
        wait_until(lambda: group.observe().tasks == 2)
        usage = group.observe()
        assert usage.memory_bytes is not None and 0 < usage.memory_bytes < 64 * MIB and usage.memory_kills == 0
    end(group, process)
    assert group.is_empty()


def test_memory_tasks_and_kills_are_those_of_the_group(groups: Groups) -> None:
    group = groups.make("alice", Limits(64 * MIB, None, 20))
    if not has_limits(groups):
        return
    assert run(group, sys.executable, "-I", "-S", "-c", "bytearray(300 << 20)").wait(30) == -signal.SIGKILL
    assert group.observe().memory_kills == 1
    assert (group.observe().memory_limit_bytes, group.observe().tasks_limit) == (64 * MIB, 20)
    bomb = run(group, "sh", "-c", "while :; do sleep 100 & done")
    assert bomb.wait(30) == 2
    assert group.observe().tasks == 19
    group.kill()
    assert group.is_empty()
    # Another start counts from nothing.
    assert groups.make("alice", LIMITS).observe().memory_kills == 0


def test_a_bomb_that_never_holds_still_is_killed_also_without_the_kernels_own_means(groups: Groups) -> None:
    group = groups.make("alice", Limits(None, 0.5, 60))
    if not has_limits(groups):
        return
    one_by_one = Group("alice", [place for place in group.places if place.version == 1])
    for means in (group, one_by_one):
        if not means.places:
            continue
        group = groups.make("alice", Limits(None, 0.5, 60))
        with run(group, "sh", "-c", "bomb() { bomb | bomb & }; while :; do bomb; done"):
            wait_until(lambda group=group: (group.observe().tasks or 0) > 20)
            means.kill()
            assert group.is_empty()


def test_a_later_daemon_finds_the_groups_and_removes_those_of_nobody(groups: Groups, tmp_path: Path) -> None:
    group = groups.make("alice", LIMITS)
    process = run(group, "sleep", "100")
    groups.make("bob", LIMITS)
    later = Groups.observe(tmp_path, as_root=AS_ROOT)
    assert later.unlimited == groups.unlimited
    found = later.find("alice")
    assert (found is None) == (not group.places)
    assert later.list_names() == (["alice", "bob"] if found else [])
    assert later.remove_others({"alice"}) == (["bob"] if found else [])
    assert later.find("bob") is None
    if found is not None:
        wait_until(lambda: not found.is_empty())
    end(found or group, process)


def test_what_is_left_of_an_older_one_does_not_meet_the_next_of_its_name(groups: Groups) -> None:
    group = groups.make("alice", LIMITS)
    process = run(group, "sleep", "100")
    if group.places:
        wait_until(lambda: not group.is_empty())
        assert groups.make("alice", LIMITS).is_empty()
    else:
        process.kill()
    assert process.wait(20) == -signal.SIGKILL


def test_two_hives_do_not_meet(groups: Groups, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Groups.observe(tmp_path / "other", as_root=AS_ROOT)
    groups.make("alice", LIMITS)
    assert other.list_names() == [] and other.find("alice") is None
    other.make("alice", LIMITS).remove()
    assert groups.list_names() == (["alice"] if groups.find("alice") else [])


def test_what_cannot_join_says_so_and_does_not_run(groups: Groups, tmp_path: Path) -> None:
    group = groups.make("alice", LIMITS)
    if not has_limits(groups):
        return
    argv = group.wrap(["touch", str(tmp_path / "ran")])
    group.remove()
    done = subprocess.run(argv, check=False, capture_output=True)
    assert done.returncode == 125 and b"cgroup.procs" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_arguments_are_never_part_of_a_script(groups: Groups) -> None:
    odd = ["a b", "$(id)", "--", "'", '"', "*", "-e", ""]
    argv = groups.make("alice", LIMITS).wrap(["printf", "%s\\n", *odd])
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split("\n")[:-1] == odd


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-x", "x" * 64, "a.b", "a\0"])
def test_what_is_no_containers_name_is_refused(groups: Groups, name: str) -> None:
    for work in (lambda: groups.make(name, LIMITS), lambda: groups.find(name)):
        with pytest.raises(GroupError):
            work()


def test_a_container_may_be_called_as_a_file_of_the_kernels(groups: Groups) -> None:
    assert groups.make("tasks", LIMITS).is_empty()


def test_many_at_once_are_made_and_removed(groups: Groups) -> None:
    failures: list[Exception] = []

    def make_and_remove(name: str) -> None:
        try:
            for _ in range(20):
                groups.make(name, LIMITS).remove()
        except (GroupError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=make_and_remove, args=(f"agent{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# -- version 2, by its files alone ------------------------------------------------------------------------------


def open_fake(machine: Machine, *, as_root: bool = True) -> Groups:
    folder = machine.folder / "containers"
    folder.mkdir(exist_ok=True)
    return Groups.observe(folder, as_root=as_root, kernel=machine.kernel, running=machine.folder / "no-systemd")


def read(group: Group, name: str) -> str:
    [place] = group.places
    return (place.folder / name).read_text()


def test_all_limits_are_set_in_a_machine_of_version_2(tmp_path: Path) -> None:
    machine = Machine(tmp_path, pid=os.getpid())
    groups = open_fake(machine)
    assert groups.unlimited == {}
    group = groups.make("alice", LIMITS)
    assert read(group, "memory.max") == str(64 * MIB)
    assert read(group, "memory.swap.max").startswith("0")
    assert read(group, "cpu.max") == "150000 100000"
    assert read(group, "pids.max") == "100"
    parent = group.places[0].folder.parent
    assert parent.parent == machine.mount
    # All containers leave room for what is beside them.
    assert int((parent / "memory.max").read_text()) == 1_000_000 * 1024 * 9 // 10
    assert (parent / "pids.max").read_text() == "30000"
    assert int((parent / "cpu.weight").read_text()) == min(10_000, 50 * (os.cpu_count() or 1))
    assert group.observe().memory_bytes == 4096
    group.remove()
    assert list(machine.mount.glob("hyperhive-*")) == []


def test_a_daemon_that_has_a_group_to_itself_moves_into_a_leaf_of_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "/unit", pid=os.getpid(), parents={os.getpid() + 1: os.getpid()})
    groups = open_fake(machine, as_root=False)
    assert groups.unlimited == {}
    assert (machine.base / "hyperhive-daemon/cgroup.procs").exists()
    group = groups.make("alice", LIMITS)
    assert group.places[0].folder.parent.parent == machine.base
    # A daemon that is started in the leaf makes no leaf of the leaf.
    (machine.proc / "self/cgroup").write_text("0::/unit/hyperhive-daemon\n")
    again = open_fake(machine, as_root=False).find("alice")
    assert again is not None and again.places[0].folder == group.places[0].folder


def test_other_programs_are_not_moved_and_the_reason_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "/session", pid=os.getpid(), parents={7: 1})
    groups = open_fake(machine)
    assert set(groups.unlimited) == {"memory", "cpu", "tasks"}
    assert all("other programs share the control group" in reason for reason in groups.unlimited.values())
    assert not (machine.base / "hyperhive-daemon").exists()
    # A container starts all the same.
    assert groups.make("alice", LIMITS).wrap(["true"]) == ["true"]


def test_the_controllers_that_are_missing_are_told_one_by_one(tmp_path: Path) -> None:
    groups = open_fake(Machine(tmp_path, controllers="pids hugetlb", pid=os.getpid()))
    assert set(groups.unlimited) == {"memory", "cpu"}
    group = groups.make("alice", LIMITS)
    assert read(group, "pids.max") == "100"
    assert group.observe().memory_bytes is None


def test_a_group_of_an_earlier_daemon_elsewhere_is_found_and_new_ones_are_made_here(tmp_path: Path) -> None:
    machine = Machine(tmp_path, pid=os.getpid())
    groups = open_fake(machine)
    old = groups.make("alice", LIMITS).places[0].folder
    machine.make_group(machine.mount / "session", machine.controllers)
    (machine.mount / "session/cgroup.type").unlink()
    (machine.proc / "self/cgroup").write_text("0::/session\n")
    later = open_fake(machine)
    found = later.find("alice")
    assert found is not None and found.places[0].folder == old
    assert later.list_names() == ["alice"]
    new = later.make("alice", LIMITS).places[0].folder
    assert new.is_relative_to(machine.mount / "session") and not old.exists()


def test_what_bounds_the_daemon_bounds_what_there_is(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "/slice/unit", pid=os.getpid())
    assert observe_memory_bytes(machine.proc) == 1_000_000 * 1024
    (machine.mount / "slice/memory.max").write_text("50000000\n")
    assert observe_memory_bytes(machine.proc) == 50_000_000


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("0::/../../outside", 0),
        ("0::/unit", 1),
        ("3:memory:/elsewhere", 0),
    ],
)
def test_a_hierarchy_in_which_we_are_nowhere_is_not_used(tmp_path: Path, line: str, places: int) -> None:
    machine = Machine(tmp_path, "/unit")
    (machine.proc / "self/cgroup").write_text(line + "\n")
    assert len(observe_trees(machine.proc)) == places


def test_a_container_that_sees_a_part_of_the_hierarchy_finds_itself_in_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    info = f"31 23 0:27 /docker/abc {machine.mount} rw - cgroup cgroup rw,memory\n"
    (machine.proc / "self/mountinfo").write_text(info)
    (machine.proc / "self/cgroup").write_text("4:memory:/docker/abc\n3:cpuset:/\n")
    assert observe_trees(machine.proc) == (Tree(machine.mount, machine.mount, 1, frozenset({"memory"})),)


def test_what_the_kernel_could_drop_is_not_in_use(tmp_path: Path) -> None:
    (tmp_path / "memory.usage_in_bytes").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("cache 5\ninactive_file 1\ntotal_inactive_file 300\n")
    assert Place(tmp_path, 1, frozenset({"memory"})).observe_memory() == 700
    (tmp_path / "memory.stat").write_text("total_inactive_file 3000\n")
    assert Place(tmp_path, 1, frozenset({"memory"})).observe_memory() == 0


def test_what_no_limit_was_set_for_has_none(tmp_path: Path) -> None:
    for version, memory, none in ((1, "memory.limit_in_bytes", "9223372036854771712"), (2, "memory.max", "max")):
        place = Place(tmp_path, version, frozenset({"memory", "pids"}))
        assert (place.observe_memory_limit(), place.observe_tasks_limit()) == (None, None)
        (tmp_path / memory).write_text(none + "\n")
        (tmp_path / "pids.max").write_text("max\n")
        assert (place.observe_memory_limit(), place.observe_tasks_limit()) == (None, None)
        (tmp_path / memory).write_text("1000\n")
        (tmp_path / "pids.max").write_text("20\n")
        assert (place.observe_memory_limit(), place.observe_tasks_limit()) == (1000, 20)
        (tmp_path / "pids.max").unlink()


def test_a_file_that_is_not_the_kernels_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Place(tmp_path, 2, frozenset()).limit_tasks(5)
    Place(tmp_path, 2, frozenset()).freeze(frozen=True)
    assert list(tmp_path.iterdir()) == []


# -- by way of systemd ------------------------------------------------------------------------------------------


def test_a_scope_is_in_the_hives_slice_with_its_limits_and_its_argv_untouched() -> None:
    argv = Scope(Manager("ab12", True, ""), "alice", LIMITS).wrap(["bwrap", "--", "-x"])
    assert argv[:5] == ["systemd-run", "--quiet", "--scope", "--collect", "--slice=hive-ab12.slice"]
    assert "--unit=hyperhive-ab12-alice.scope" in argv
    for setting in (f"MemoryMax={64 * MIB}", "MemorySwapMax=0", "CPUQuota=150%", "TasksMax=100", "Delegate=yes"):
        assert f"--property={setting}" in argv
    assert argv[argv.index("--") :] == ["--", "bwrap", "--", "-x"]
    # One more has no name of its own, and needs the user's own systemd to be told.
    more = Scope(Manager("ab12", False, "/user"), "alice", None).wrap(["true"])
    assert more[0] == "env" and more[1].startswith("XDG_RUNTIME_DIR=/") and "--user" in more
    assert not any(word.startswith("--unit") for word in more)


def open_scopes(machine: Machine, *, as_root: bool) -> Groups:
    manager = Manager("ab12", as_root, machine.place)
    trees = manager.plan_trees(observe_trees(machine.proc))
    return Groups(trees, manager.slice, {}, manager=manager, kernel=machine.kernel)


def test_scopes_are_found_where_systemd_makes_them(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    groups = open_scopes(machine, as_root=True)
    assert groups.find("alice") is None
    assert groups.make("alice", LIMITS).wrap(["true"])[0] == "systemd-run"
    scope = machine.mount / "hive.slice/hive-ab12.slice/hyperhive-ab12-alice.scope"
    machine.make_group(scope, machine.controllers)
    machine.make_group(scope.with_name("other.scope"), "")
    assert groups.list_names() == ["alice"]
    group = groups.find("alice")
    assert group is not None
    assert group.observe().tasks == 0 and group.observe().memory_bytes == 4096
    # What is there already is joined, not made anew.
    assert str(scope) in group.wrap(["true"])
    machine.remove(scope)
    group.remove()
    assert groups.find("alice") is None


def test_a_users_systemd_that_was_not_given_a_controller_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "/user.slice", controllers="memory pids")
    manager = Manager("ab12", False, "/user.slice")
    [tree] = manager.plan_trees(observe_trees(machine.proc))
    assert tree.controllers == {"memory", "pids"} and tree.base == machine.base
    assert manager.explain(observe_trees(machine.proc))["cpu"] == "the user's systemd was not given this controller"


def test_a_systemd_that_does_not_answer_is_the_reason_for_no_limits(tmp_path: Path) -> None:
    if Path("/run/systemd/system").exists():
        return
    # As if it were pid 1, which it is not.
    groups = Groups.observe(tmp_path, as_root=True, running=tmp_path)
    for reason in groups.unlimited.values():
        assert reason
    with contextlib.suppress(GroupError):
        groups.make("alice", LIMITS).remove()
