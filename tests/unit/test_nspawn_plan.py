"""What a container of systemd-nspawn is made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperhive.core.uids import FIRST_RANGED_UID, INNER_UID
from hyperhive.host.drivers.nspawn_plan import Program, plan_launch, plan_program_mounts
from hyperhive.host.drivers.protocol import ContainerSpec, Mount

STATE = Mount(Path("/data/agents/alice/state"), Path("/state"), writable=True)
SOCKETS = Mount(Path("/run/hyper:hive/agents/alice"), Path("/run/hive"))
CLAUDE = Mount(Path("/data/agents/alice/claude"), Path("/home/agent/.claude"), writable=True)
PROGRAM = Program("/root/venv/bin/python", (Mount(Path("/root/venv"), Path("/root/venv")),))
SPEC = ContainerSpec(
    "alice",
    ("harness", "--token=in-the-argv"),
    {"PATH": "/usr/bin", "SECRET": "in-the-environment"},
    (STATE, SOCKETS, CLAUDE),
    FIRST_RANGED_UID,
)


def plan(spec: ContainerSpec = SPEC) -> dict[str, Any]:
    return plan_launch(
        spec,
        [Path("/images/layer"), Path("/images/base")],
        PROGRAM,
        place=Path("/run/containers/alice"),
        output=7,
        denied=b"\0",
        path="/usr/bin",
        managed=False,
        resolver="nameserver 192.0.2.1\n",
    )


def test_nothing_of_the_command_is_told_to_nspawn() -> None:
    told = plan()
    for text in (*told["nspawn"], *told["nspawn_environment"].values()):
        assert "in-the-" not in text
    assert told["inside"]["environment"] == SPEC.environment
    assert told["inside"]["command"] == list(SPEC.command)


def test_the_range_begins_below_the_agents_uid() -> None:
    told = plan()
    assert told["base"] == FIRST_RANGED_UID - INNER_UID
    assert f"--private-users={told['base']}:65536" in told["nspawn"]


def test_what_is_below_run_is_bound_by_nspawn_itself_and_all_else_before() -> None:
    told = plan()
    assert {mount["target"]: mount["late"] for mount in told["mounts"]} == {
        "/state": False,
        "/run/hive": True,
        "/root/venv": False,
        "/home/agent/.claude": False,
    }
    [number] = [number for number, mount in enumerate(told["mounts"]) if mount["late"]]
    assert f"--bind=/run/containers/alice/stage/mount{number}:/run/hive" in told["nspawn"]


def test_every_folder_above_a_mount_is_made_the_higher_first_and_none_where_memory_will_be() -> None:
    folders = [Path(folder) for folder in plan()["folders"]]
    assert {Path("/root"), Path("/home"), Path("/home/agent"), Path("/tmp"), Path("/etc")} <= set(folders)
    assert all(folders.index(folder) > folders.index(folder.parent) for folder in folders if folder.parent in folders)
    assert not any(folder.is_relative_to("/run") for folder in folders)
    assert [mount["target"] for mount in plan()["mounts"] if mount["in_scratch"]] == ["/home/agent/.claude"]


def test_the_home_is_the_agents_and_what_all_write_to_is_roots() -> None:
    owners = {scratch["target"]: scratch["uid"] for scratch in plan()["scratch"]}
    assert owners == {"/home/agent": FIRST_RANGED_UID, "/tmp": FIRST_RANGED_UID - INNER_UID}


def test_only_who_is_in_the_hosts_network_is_told_its_resolver() -> None:
    own, shared = plan(), plan(replace(SPEC, host_network=True))
    assert "--private-network" in own["nspawn"] and "--private-network" not in shared["nspawn"]
    assert own["files"]["/etc/resolv.conf"] == ""
    assert shared["files"]["/etc/resolv.conf"] == "nameserver 192.0.2.1\n"


def test_the_systems_own_python_is_the_images_and_any_other_is_brought() -> None:
    places = [Path("/usr"), Path("/usr/bin/python3.11"), Path("/opt/hive"), Path("/opt/hive/lib/x"), Path("/usr/local")]
    assert [mount.target for mount in plan_program_mounts(places)] == [Path("/opt/hive"), Path("/usr/local")]
