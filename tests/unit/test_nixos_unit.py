"""The drop-in of a NixOS container's unit."""

from pathlib import Path

import pytest

from hyperhive.core.limits import UNLIMITED, Limits
from hyperhive.host.drivers.nixos_unit import find_unit, remove_drop_in, render_drop_in, write_drop_in
from hyperhive.host.drivers.protocol import DriverError

ALWAYS = """\
[Unit]
StartLimitIntervalSec=0

[Service]
EnvironmentFile=
EnvironmentFile=/etc/nixos-containers/%i.conf
Restart=no
RestartForceExitStatus=
OOMPolicy=continue
OOMScoreAdjust=300
SystemCallArchitectures=native
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""


def find_file(units: Path) -> Path:
    return units / "container@h-alice.service.d/50-hyperhive.conf"


def test_limits_are_the_units() -> None:
    limits = Limits(memory_bytes=512 * 1024**2, cpus=1.5, tasks=300)
    expected = ALWAYS + "MemoryMax=536870912\nMemorySwapMax=0\nCPUQuota=150%\nTasksMax=300\n"
    assert render_drop_in(limits) == expected


def test_a_limit_that_is_not_set_is_not_mentioned() -> None:
    assert render_drop_in(UNLIMITED) == ALWAYS
    assert render_drop_in(Limits(cpus=0.001)) == ALWAYS + "CPUQuota=1%\n"


def test_systemd_has_to_be_told_only_of_what_changed(tmp_path: Path) -> None:
    assert write_drop_in("h-alice", UNLIMITED, tmp_path)
    assert not write_drop_in("h-alice", UNLIMITED, tmp_path)
    assert write_drop_in("h-alice", Limits(tasks=5), tmp_path)
    file = find_file(tmp_path)
    assert file.read_text() == ALWAYS + "TasksMax=5\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_removing_it_leaves_what_is_not_ours(tmp_path: Path) -> None:
    assert not remove_drop_in("h-alice", tmp_path)
    write_drop_in("h-alice", UNLIMITED, tmp_path)
    assert remove_drop_in("h-alice", tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_drop_in("h-alice", UNLIMITED, tmp_path)
    other = find_file(tmp_path).with_name("60-operator.conf")
    other.write_text("[Service]\n")
    assert remove_drop_in("h-alice", tmp_path)
    assert list(other.parent.iterdir()) == [other]


def test_a_machine_without_systemd_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match=r"50-hyperhive\.conf cannot be written: No such file") as refused:
        write_drop_in("h-alice", UNLIMITED, tmp_path / "missing")
    assert "systemd" in refused.value.hint
    find_file(tmp_path).mkdir(parents=True)
    with pytest.raises(DriverError, match="cannot be removed"):
        remove_drop_in("h-alice", tmp_path)


@pytest.mark.parametrize("name", ["", "h-alice/..", "../x", "h-alice\n", "%i", "h-0123456789", "h alice"])
def test_what_cannot_be_a_containers_name_is_no_path(tmp_path: Path, name: str) -> None:
    assert find_unit("h-alice") == "container@h-alice.service"
    for act in (lambda: find_unit(name), lambda: write_drop_in(name, UNLIMITED, tmp_path)):
        with pytest.raises(DriverError, match="is not the name of a NixOS container"):
            act()
    assert list(tmp_path.iterdir()) == []
