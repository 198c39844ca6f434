"""Configs read in the driver's language: which file counts, what is evaluated, and what is kept of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from hyperhive.core.errors import InvalidInputError, TooLargeError
from hyperhive.core.paths import Roots
from hyperhive.host.configs.configs import Configs
from hyperhive.host.configs.defaults import plan_default_files
from hyperhive.host.configs.evaluations import Evaluations, make_key
from hyperhive.host.configs.reading import PROPOSED_LIMIT, NixReader, TomlReader, make_reader
from hyperhive.host.drivers.protocol import BuildsSystems, DriverError
from hyperhive.host.drivers.registry import make_driver
from hyperhive.host.store.store import Store
from hyperhive.wire.agent_config import AgentConfig
from nix_driver_rig import Evaluator, NixDriver, make_evaluator, wrap

NIX = {"agent.nix": b'{ hyperhive.allowedRecipients = [ "bob" ]; }\n', "prompt.md": b"be good\n"}
ALLOWED = AgentConfig(allowed_recipients=["bob"])


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return make_evaluator(tmp_path_factory.mktemp("inputs"))


def make_nix_driver(folder: Path, evaluator: Evaluator) -> NixDriver:
    return wrap(make_driver("bubblewrap", Roots(folder / "data", folder / "run")), evaluator)


class Rig:
    """A driver and readers on the same folder: each is that of a daemon's start."""

    def __init__(self, folder: Path, evaluator: Evaluator) -> None:
        self.folder = folder / "evaluations"
        self.driver = make_nix_driver(folder, evaluator)

    def open(self) -> NixReader:
        reader = make_reader(self.driver, self.folder)
        assert isinstance(reader, NixReader)
        reader.prepare()
        return reader

    @property
    def count(self) -> int:
        return len(self.driver.evaluated)

    def file(self) -> Path:
        [path] = self.files()
        return path

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if not path.is_dir()]


@pytest.fixture
def rig(tmp_path: Path, evaluator: Evaluator) -> Rig:
    return Rig(tmp_path, evaluator)


class Gate:
    """Holds evaluations until it is opened."""

    def __init__(self, driver: NixDriver) -> None:
        self.held = 0
        self.most = 0
        self.opened = asyncio.Event()
        self.begun = asyncio.Event()
        self._inner = driver.evaluator
        driver.evaluator = self

    async def __call__(self, name: str, files: Mapping[str, bytes]) -> bytes:
        self.held += 1
        self.most = max(self.most, self.held)
        self.begun.set()
        try:
            await self.opened.wait()
            return await self._inner(name, files)
        finally:
            self.held -= 1


def replace_evaluator(driver: NixDriver, make: Callable[[str, Mapping[str, bytes]], Awaitable[bytes]]) -> None:
    driver.evaluator = make


# -- which file counts -------------------------------------------------------------------------------------


def test_the_driver_says_which_language_is_read(tmp_path: Path, evaluator: Evaluator) -> None:
    plain = make_driver("bubblewrap", Roots(tmp_path / "data", tmp_path / "run"))
    assert not isinstance(plain, BuildsSystems)
    assert isinstance(make_reader(plain, tmp_path), TomlReader)
    driver = make_nix_driver(tmp_path, evaluator)
    assert isinstance(driver, BuildsSystems)
    assert isinstance(make_reader(driver, tmp_path), NixReader)


@pytest.mark.parametrize("act", ["read", "check"])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"agent.toml": b""}, "there is agent.toml and no agent.nix"),
        ({"agent.toml": b"", **NIX}, "there is agent.toml beside agent.nix"),
        ({"prompt.md": b""}, "there is no agent.nix in it"),
        ({"sub/agent.nix": b"{ }"}, "there is no agent.nix in it"),
    ],
)
async def test_only_agent_nix_counts_where_systems_are_built(
    rig: Rig, act: str, files: dict[str, bytes], message: str
) -> None:
    reader = rig.open()
    with pytest.raises(InvalidInputError) as refused:
        await getattr(reader, act)("alice", files)
    assert refused.value.message == message
    assert refused.value.hint
    assert rig.count == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (NIX, "there is agent.nix and no agent.toml"),
        ({"agent.toml": b"", **NIX}, "there is agent.nix beside agent.toml"),
        ({}, "there is no agent.toml in it"),
    ],
)
async def test_only_agent_toml_counts_everywhere_else(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await TomlReader().read("alice", files)
    assert refused.value.message == message
    assert await TomlReader().read("alice", {"agent.toml": b'model = "a"'}) == AgentConfig(model="a")


async def test_an_agent_begins_with_a_config_of_its_language_and_all_defaults(rig: Rig) -> None:
    for name in ("alice", "manager"):
        files = plan_default_files(name, "agent.nix")
        assert sorted(files) == ["agent.nix", "prompt.md"]
        assert await rig.open().read(name, files) == AgentConfig()
    assert rig.driver.evaluated == ["alice", "hm1nd"]


async def test_the_manager_is_given_the_schema_of_the_language(tmp_path: Path, evaluator: Evaluator) -> None:
    roots = Roots(tmp_path / "data", tmp_path / "run")
    roots.data.mkdir()
    store = Store(roots.database, "hive", lambda events: None)
    try:
        await Configs(store, roots, make_nix_driver(tmp_path, evaluator)).prepare()
    finally:
        store.close()
    schema = json.loads((roots.applied_folder / "agent.schema.json").read_text())
    assert "allowedRecipients" in schema["properties"]
    assert roots.evaluations_folder.stat().st_mode & 0o777 == 0o700


# -- what is kept ------------------------------------------------------------------------------------------


async def test_what_was_evaluated_is_known_to_the_next_daemon(rig: Rig) -> None:
    assert await rig.open().read("alice", NIX) == ALLOWED
    assert await rig.open().read("alice", NIX) == ALLOWED
    assert rig.count == 1
    assert rig.file().stat().st_mode & 0o777 == 0o600


async def test_another_name_and_another_file_are_evaluated_by_themselves(rig: Rig) -> None:
    reader = rig.open()
    for name, files in (("alice", NIX), ("bob", NIX), ("alice", NIX | {"prompt.md": b"be better\n"})):
        assert await reader.read(name, files) == ALLOWED
    assert rig.count == 3
    assert len(rig.files()) == 3


def test_a_key_is_of_all_inputs_and_no_two_share_one() -> None:
    inputs: list[tuple[str, dict[str, bytes]]] = [
        ("alice", {"a": b"b"}),
        ("alic", {"ea": b"b"}),
        ("alice", {"ab": b""}),
        ("alice", {"a": b"", "b": b""}),
        ("alice", {"a": b"1:b"}),
        ("alice", {}),
    ]
    assert len({make_key(*parts) for parts in inputs}) == len(inputs)
    assert make_key("a", {"x": b"1", "y": b"2"}) == make_key("a", {"y": b"2", "x": b"1"})


async def test_what_a_config_comes_to_does_not_change_with_the_flake(rig: Rig) -> None:
    assert await rig.open().read("alice", NIX) == ALLOWED

    async def open_to_all(name: str, files: Mapping[str, bytes]) -> bytes:
        return await first(name, {"agent.nix": b"{ }"})

    first = rig.driver.evaluator
    replace_evaluator(rig.driver, open_to_all)
    rig.driver.revision = "2"
    reader = rig.open()
    assert await reader.read("alice", NIX) == ALLOWED
    assert await reader.check("alice", NIX) == ALLOWED
    # What was never looked at before is what the present flake says.
    assert await reader.read("alice", NIX | {"more": b""}) == AgentConfig()


async def test_of_what_is_only_proposed_nothing_is_kept_until_it_is_looked_at(rig: Rig) -> None:
    reader = rig.open()
    assert await reader.check("alice", NIX) == ALLOWED
    assert rig.files() == []
    assert await reader.read("alice", NIX) == ALLOWED
    assert (rig.count, len(rig.files())) == (1, 1)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "folder", "other"])
async def test_a_file_that_is_not_what_was_written_is_evaluated_anew(rig: Rig, damage: str) -> None:
    await rig.open().read("alice", NIX)
    path = rig.file()
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "other":
        # A right one, of another config, that may write to anyone.
        open_to_all = {"agent.nix": b"{ }"}
        await rig.open().read("alice", open_to_all)
        [other] = (rig.folder / "alice" / make_key("alice", open_to_all)).iterdir()
        other.rename(path.with_name(other.name))
        path.unlink()
    else:
        path.write_bytes({"cut": content[:-2], "changed": content.replace(b"bob", b"eve"), "empty": b""}[damage])
    before = rig.count
    assert await rig.open().read("alice", NIX) == ALLOWED
    assert rig.count == before + 1


async def find_other_options(rig: Rig, **changes: object) -> bytes:
    """What `NIX` came to for a version of the hive that knew no schedules."""
    options = json.loads(await rig.driver.evaluator("alice", NIX))
    del options["schedule"]
    return json.dumps(options | changes).encode()


async def test_a_config_that_was_approved_with_other_options_of_the_hive_stays_the_same(rig: Rig) -> None:
    reader, kept, key = rig.open(), Evaluations(rig.folder), make_key("alice", NIX)
    old = await find_other_options(rig, gone=1)
    kept.save("alice", key, old)
    assert await reader.read("alice", NIX) == ALLOWED
    assert rig.count == 1
    # Both are there: one for the version before, should it come back.
    assert old in kept.find("alice", key)
    assert len(kept.find("alice", key)) == 2
    assert await rig.open().read("alice", NIX) == ALLOWED
    assert rig.count == 1


async def test_a_config_that_has_become_another_with_other_options_of_the_hive_is_refused(rig: Rig) -> None:
    kept, key = Evaluations(rig.folder), make_key("alice", NIX)
    rig.open()
    network: dict[str, object] = {"mode": "none", "allow": []}
    kept.save("alice", key, await find_other_options(rig, allowedRecipients=["bob", "carol"], network=network))
    for _ in range(2):
        with pytest.raises(InvalidInputError, match="something else than when it was first read") as refused:
            await rig.open().read("alice", NIX)
        assert refused.value.message.endswith(": hyperhive.allowedRecipients, hyperhive.network.mode")
        assert "propose it again" in refused.value.hint
    assert len(rig.files()) == 1


async def test_a_hive_whose_evaluations_cannot_be_kept_goes_on_and_tries_again(rig: Rig) -> None:
    reader = rig.open()
    rig.folder.rmdir()
    rig.folder.write_text("in the way")
    assert await reader.read("alice", NIX) == ALLOWED
    rig.folder.unlink()
    rig.folder.mkdir()
    assert await reader.read("alice", NIX) == ALLOWED
    assert (rig.count, len(rig.files())) == (1, 1)


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    kept = Evaluations(tmp_path)
    kept.save("alice", "a" * 64, b"{}")
    half = tmp_path / "alice" / ("a" * 64) / f".{'b' * 64}.x1"
    half.write_bytes(b"half")
    kept.prepare()
    assert not half.exists()
    assert kept.find("alice", "a" * 64) == [b"{}"]


# -- what is wrong -----------------------------------------------------------------------------------------


async def test_a_config_that_is_wrong_is_told_with_file_and_line_and_not_looked_at_again(rig: Rig) -> None:
    reader = rig.open()
    wrong = {"agent.nix": b"{\n  hyperhive.model = modell;\n}\n"}
    for _ in range(3):
        with pytest.raises(InvalidInputError, match=r"agent\.nix line 2: undefined variable 'modell'"):
            await reader.read("alice", wrong)
    assert rig.count == 1
    assert rig.files() == []


async def test_a_value_that_nix_does_not_mind_is_refused_in_the_words_of_agent_nix(rig: Rig) -> None:
    wrong = {"agent.nix": b'{ hyperhive.allowedRecipients = [ "Bob" ]; }'}
    with pytest.raises(InvalidInputError, match=r"^agent\.nix: hyperhive\.allowedRecipients\[0\]: 'Bob' is "):
        await rig.open().read("alice", wrong)
    assert rig.files() == []


async def test_a_machine_that_cannot_evaluate_is_asked_again(rig: Rig) -> None:
    reader = rig.open()
    good = rig.driver.evaluator

    async def fail(name: str, files: Mapping[str, bytes]) -> bytes:
        raise DriverError("no config can be evaluated")

    replace_evaluator(rig.driver, fail)
    with pytest.raises(DriverError):
        await reader.read("alice", NIX)
    replace_evaluator(rig.driver, good)
    assert await reader.read("alice", NIX) == ALLOWED


# -- many at once ------------------------------------------------------------------------------------------


async def test_the_same_config_is_evaluated_once_for_all_who_ask(rig: Rig) -> None:
    reader = rig.open()
    found = await asyncio.gather(*(reader.read("alice", NIX) for _ in range(10)), reader.check("alice", NIX))
    assert found == [ALLOWED] * 11
    assert rig.count == 1


async def test_whoever_asks_no_longer_takes_nothing_from_the_others(rig: Rig) -> None:
    reader = rig.open()
    gate = Gate(rig.driver)
    first, second = (asyncio.create_task(reader.read("alice", NIX)) for _ in range(2))
    await gate.begun.wait()
    first.cancel()
    gate.opened.set()
    assert await second == ALLOWED


async def test_proposals_are_evaluated_one_at_a_time_and_few_may_wait(rig: Rig) -> None:
    reader = rig.open()
    gate = Gate(rig.driver)
    proposed = [{"agent.nix": b"{ } # %d" % number} for number in range(PROPOSED_LIMIT)]
    waiting = [asyncio.create_task(reader.check("alice", files)) for files in proposed]
    await gate.begun.wait()
    for name in ("alice", "bob"):
        with pytest.raises(TooLargeError, match=f"{PROPOSED_LIMIT} proposals are being evaluated already"):
            await reader.check(name, {"agent.nix": b"{ } # one more"})
    gate.opened.set()
    assert await asyncio.gather(*waiting) == [AgentConfig()] * PROPOSED_LIMIT
    assert gate.most == 1
    # What has its answer makes room; and what is known needs none.
    assert await reader.check("bob", {"agent.nix": b"{ } # one more"}) == AgentConfig()
    assert rig.count == PROPOSED_LIMIT + 1


async def test_what_is_deployed_does_not_wait_for_what_is_proposed(rig: Rig) -> None:
    reader = rig.open()
    good = rig.driver.evaluator
    gate = Gate(rig.driver)
    proposed = [asyncio.create_task(reader.check("alice", {"agent.nix": b"{ } # %d" % n})) for n in range(2)]
    await gate.begun.wait()
    replace_evaluator(rig.driver, good)
    assert await reader.read("alice", NIX) == ALLOWED
    assert not any(task.done() for task in proposed)
    gate.opened.set()
    assert await asyncio.gather(*proposed) == [AgentConfig()] * 2


async def test_a_proposal_that_is_given_up_makes_room(rig: Rig) -> None:
    reader = rig.open()
    gate = Gate(rig.driver)
    proposed = [
        asyncio.create_task(reader.check("alice", {"agent.nix": b"{ } # %d" % n})) for n in range(PROPOSED_LIMIT)
    ]
    await gate.begun.wait()
    for task in proposed:
        task.cancel()
    await asyncio.gather(*proposed, return_exceptions=True)
    gate.opened.set()
    assert await reader.check("alice", NIX) == ALLOWED
