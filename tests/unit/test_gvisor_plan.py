"""What a container of gVisor is made of, and which runsc will do."""

import json
from pathlib import Path

import pytest

from hyperhive.core.uids import FIRST_RANGED_UID, RANGE_WIDTH, range_start
from hyperhive.host.drivers.gvisor import parse_version
from hyperhive.host.drivers.gvisor_plan import name_sandbox, plan_sandbox, render_bundle
from hyperhive.host.drivers.nspawn_plan import Program
from hyperhive.host.drivers.protocol import ContainerSpec, Mount

SPEC = ContainerSpec(
    "alice",
    ("harness", "--flag"),
    {"SECRET": "canary", "HOME": "/home/agent"},
    (Mount(Path("/data/state"), Path("/state"), writable=True), Mount(Path("/data/hive"), Path("/run/hive"))),
    FIRST_RANGED_UID,
)
PLACE = Path("/run/containers/alice")


def plan(spec: ContainerSpec = SPEC) -> dict[str, object]:
    program = Program("/usr/bin/python3", ())
    return plan_sandbox(spec, [Path("/layer")], program, place=PLACE, output=5, path="/usr/bin", resolver="")


def test_a_secret_is_in_the_bundle_and_in_no_argv() -> None:
    assert "canary" in json.dumps(render_bundle(SPEC, ()))
    assert "canary" not in json.dumps(plan())


def test_the_container_is_of_the_range_of_its_uid_and_has_no_capability() -> None:
    bundle = render_bundle(SPEC, ())
    mapping = [{"containerID": 0, "hostID": range_start(FIRST_RANGED_UID), "size": RANGE_WIDTH}]
    assert bundle["linux"]["uidMappings"] == bundle["linux"]["gidMappings"] == mapping
    assert {"type": "user"} in bundle["linux"]["namespaces"]
    assert set(map(len, bundle["process"]["capabilities"].values())) == {0}
    assert bundle["process"]["user"] == {"uid": 1000, "gid": 1000}


def test_each_mount_is_one_of_its_own_and_only_what_may_be_written_can_be() -> None:
    options = {
        mount["destination"]: mount["options"] for mount in render_bundle(SPEC, ())["mounts"] if "options" in mount
    }
    assert options["/state"] == ["rbind", "nosuid", "nodev", "rw"]
    assert options["/run/hive"] == ["rbind", "nosuid", "nodev", "ro"]
    assert "size=1073741824" in options["/tmp"] and "mode=0700" in options["/home/agent"]


def test_a_program_that_is_among_temporary_files_is_seen_and_the_rest_of_them_is_not() -> None:
    program = (Mount(Path("/tmp/hive/.venv"), Path("/tmp/hive/.venv")), Mount(Path("/opt/hive"), Path("/opt/hive")))
    targets = [mount["destination"] for mount in render_bundle(SPEC, program)["mounts"]]
    assert targets.index("/tmp") < targets.index("/tmp/hive/.venv")
    assert "/opt/hive" not in targets


def test_the_places_of_its_mounts_are_in_its_root() -> None:
    planned = plan()
    assert isinstance(planned["folders"], list) and "/run" in planned["folders"]
    assert planned["stage"] == "/run/systemd/hyperhive" and planned["gated"] is False


def test_only_a_container_that_is_to_be_in_the_hosts_network_is() -> None:
    shared = ContainerSpec("alice", ("true",), {}, uid=FIRST_RANGED_UID, host_network=True)
    assert "--network=none" in str(plan()["nspawn"]) and "--network=host" in str(plan(shared)["nspawn"])
    assert {"type": "network"} not in render_bundle(shared, ())["linux"]["namespaces"]


def test_hives_have_different_names_for_containers_of_the_same_name() -> None:
    assert name_sandbox("alice", PLACE) != name_sandbox("alice", Path("/other/containers/alice"))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (b"runsc version 0.0~20221219.0\nspec: 1.0.2-dev\n", 20221219),
        (b"runsc version release-20240729.0\nspec: 1.1.0-rc.1\n", 20240729),
        (b"runsc version VERSION_MISSING\n", 0),
    ],
)
def test_the_version_of_runsc_is_a_date(text: bytes, version: int) -> None:
    assert parse_version(text) == version
