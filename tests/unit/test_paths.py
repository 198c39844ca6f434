"""The folders of a hive: which are meant, and that no name leaves them."""

from pathlib import Path

import pytest

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.paths import Roots, decide_roots

HERE = Path("/home/ada/work")
USER = {"HOME": "/home/ada"}


def roots(
    data: Path | None = None, environment: dict[str, str] | None = None, uid: int = 1000, rehearsal: bool = False
) -> Roots:
    return decide_roots(
        data,
        environment=USER if environment is None else environment,
        uid=uid,
        working_folder=HERE,
        rehearsal=rehearsal,
    )


def test_the_data_option_counts_more_than_the_environment() -> None:
    assert roots(Path("/a"), {"HIVE_DATA": "/b"}) == Roots(Path("/a"), Path("/a/run"))


def test_hive_data_counts_more_than_the_defaults_also_for_root() -> None:
    assert roots(environment={"HIVE_DATA": "/b"}, uid=0) == Roots(Path("/b"), Path("/b/run"))


def test_a_relative_folder_is_taken_from_the_working_folder() -> None:
    assert roots(Path("swarm")).data == HERE / "swarm"
    assert roots(environment={"HIVE_DATA": "swarm"}).run == HERE / "swarm/run"


def test_root_gets_the_system_folders() -> None:
    assert roots(uid=0) == Roots(Path("/var/lib/hyperhive"), Path("/run/hyperhive"))


def test_a_user_gets_the_xdg_folders() -> None:
    environment = USER | {"XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/run/user/1000"}
    assert roots(environment=environment) == Roots(Path("/d/hyperhive"), Path("/run/user/1000/hyperhive"))


def test_without_a_runtime_folder_the_sockets_are_below_the_data() -> None:
    data = Path("/home/ada/.local/share/hyperhive")
    assert roots() == Roots(data, data / "run")


def test_relative_xdg_folders_are_ignored() -> None:
    assert roots(environment=USER | {"XDG_DATA_HOME": "d", "XDG_RUNTIME_DIR": "r"}) == roots()


def test_a_rehearsal_shares_no_folder_with_a_hive() -> None:
    for uid in (0, 1000):
        environment = USER | {"XDG_RUNTIME_DIR": "/run/user/1000"}
        real, rehearsal = (roots(environment=environment, uid=uid, rehearsal=flag) for flag in (False, True))
        assert {real.data, real.run}.isdisjoint({rehearsal.data, rehearsal.run})
        assert rehearsal.data.name == "hyperhive-demo"


def test_without_any_home_the_error_says_what_to_set() -> None:
    with pytest.raises(InvalidInputError) as caught:
        roots(environment={})
    assert "HIVE_DATA" in caught.value.hint


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../../etc", "/etc", "A", "a\0b", "operator"])
def test_a_bad_name_reaches_no_path(name: str) -> None:
    hive = Roots(Path("/data"), Path("/run"))
    for folder in (
        hive.agent_folder,
        hive.state_folder,
        hive.claude_folder,
        hive.agent_sockets_folder,
    ):
        with pytest.raises(InvalidInputError):
            folder(name)


def test_every_agent_folder_is_below_the_agents_own() -> None:
    hive = Roots(Path("/data"), Path("/run"))
    assert hive.agent_folder("manager") == Path("/data/agents/manager")
    for folder in (hive.state_folder, hive.claude_folder):
        assert folder("alice").parent == hive.agent_folder("alice")


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("rehearsal", [False, True])
def test_who_names_the_folder_of_a_hive_without_a_name_means_that_hive(uid: int, rehearsal: bool) -> None:
    environment = {"HOME": "/home/ada", "XDG_RUNTIME_DIR": "/run/user/1000"}
    there = roots(environment=environment, uid=uid, rehearsal=rehearsal)
    assert roots(there.data, environment, uid) == there
    assert roots(None, {**environment, "HIVE_DATA": str(there.data)}, uid) == there
