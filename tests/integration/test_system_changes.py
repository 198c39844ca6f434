"""What an approval changes of an agent's system, with real evaluations and a real store."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.approvals import Approval, ApprovalStatus
from hyperhive.core.errors import InvalidInputError, NotFoundError
from hyperhive.core.names import MANAGER
from hyperhive.host.drivers.protocol import Driver, DriverError, Package, SizeDifference
from hyperhive.host.system_changes import AT_ONCE, LISTED_LIMIT, NAME_LIMIT_CHARS, SystemChanges
from hyperhive.wire.operator.configs import SystemChange
from nix_driver_rig import Evaluator, NixDriver, make_evaluator, wrap
from nix_machines import NixMachine

# What the machine can build and its cache can hold: the same derivation wherever it is written down.
TOOLS = """\
{{
  tools = derivation {{
    name = "tools-{version}";
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" "/usr/bin/head -c {size} /dev/urandom > $out" ];
  }};
}}
"""
SIZE_BYTES = 1_000_000
HELLO = "{ pkgs, ... }: { environment.systemPackages = [ pkgs.hello ]; }\n"
MORE = "{ pkgs, ... }: { environment.systemPackages = [ pkgs.jq pkgs.ripgrep ]; }\n"


@dataclass
class Gate:
    """Between the service and real evaluations: counts them, and holds them while it is closed."""

    evaluator: Evaluator
    open: asyncio.Event = field(default_factory=asyncio.Event)
    listed: list[str] = field(default_factory=list[str])
    # Who works for all that ask.
    workers: list[asyncio.Task[Any] | None] = field(default_factory=list[asyncio.Task[Any] | None])
    # How many are under way, and how many were at once.
    now: int = 0
    most: int = 0
    compared: int = 0
    broken: bool = False

    async def list_packages(self, name: str, files: Mapping[str, bytes]) -> list[Package]:
        self.listed.append(files["agent.nix"].decode())
        self.workers.append(asyncio.current_task())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
            return await self.evaluator.list_packages(name, files)
        finally:
            self.now -= 1

    async def compare_packages(self, before: Sequence[str], after: Sequence[str]) -> SizeDifference:
        self.compared += 1
        if self.broken:
            raise DriverError("the store is away", "look for it")
        return await self.evaluator.compare_packages(before, after)


@dataclass
class Desk:
    """The services around configs, on a driver of Nix."""

    rig: ConfigRig
    driver: NixDriver
    gate: Gate
    changes: SystemChanges

    async def find(self, approval: Approval) -> SystemChange:
        async with asyncio.timeout(60):
            return await self.changes.find(approval.id)

    async def wait_listed(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.gate.listed) < count:
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> NixMachine:
    """With tools 1.0 in its store, and tools 2.0 in its cache alone."""
    machine = NixMachine(tmp_path_factory.mktemp("machine"))
    (machine.folder / "store").mkdir()
    file = tmp_path_factory.mktemp("files") / "tools.nix"
    file.write_text(TOOLS.format(version="1.0", size=SIZE_BYTES))
    machine.build(file, "tools")
    file.write_text(TOOLS.format(version="2.0", size=3 * SIZE_BYTES))
    built = machine.build(file, "tools")
    machine.publish(built)
    machine.delete(built)
    return machine


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory, machine: NixMachine) -> Evaluator:
    return make_evaluator(tmp_path_factory.mktemp("inputs"), machine)


@pytest.fixture
async def desk(tmp_path: Path, evaluator: Evaluator) -> AsyncIterator[Desk]:
    gate = Gate(evaluator)
    gate.open.set()
    drivers: list[NixDriver] = []

    def make(driver: Driver) -> Driver:
        wrapped = wrap(driver, evaluator)
        wrapped.lister, wrapped.comparer = gate.list_packages, gate.compare_packages
        drivers.append(wrapped)
        return wrapped

    async with open_config_rig(tmp_path, make) as rig:
        await rig.spawn("alice", {"agent.nix": HELLO})
        yield Desk(rig, drivers[0], gate, SystemChanges(rig.reviews, rig.configs, drivers[0]))


def list_rows(change: SystemChange) -> list[tuple[str, str, str, str]]:
    return [(row.change, row.name, row.before, row.after) for row in change.packages]


def write_tools(version: str, size_bytes: int) -> str:
    tools = TOOLS.format(version=version, size=size_bytes)
    return f"{{ environment.systemPackages = [ ({tools}).tools ]; }}\n"


# -- what is compared --------------------------------------------------------------------------------------


async def test_a_change_is_compared_with_what_is_deployed(desk: Desk) -> None:
    approval = await desk.rig.propose("alice", {"agent.nix": MORE})
    assert (await desk.rig.reviews.review(approval.id)).system
    change = await desk.find(approval)
    assert list_rows(change) == [
        ("removed", "hello", "1.0", ""),
        ("added", "jq", "", "1.0"),
        ("added", "ripgrep", "", "1.0"),
    ]
    assert change.base == (await desk.rig.configs.get_deployed_commit("alice"))
    # Nothing of them is in the store or its cache.
    assert (change.built, change.added_bytes, change.problem) == (["jq", "ripgrep"], 0, "")


async def test_a_change_of_nothing_of_the_system_asks_no_store(desk: Desk) -> None:
    change = await desk.find(await desk.rig.propose("alice", {"prompt.md": "be good\n"}))
    assert (change.packages, change.problem, desk.gate.compared) == ([], "", 0)


async def test_sizes_are_those_of_the_store_and_its_cache(desk: Desk) -> None:
    rig = desk.rig
    await rig.spawn("bob", {"agent.nix": write_tools("1.0", SIZE_BYTES)})
    change = await desk.find(await rig.propose("bob", {"agent.nix": write_tools("2.0", 3 * SIZE_BYTES)}))
    assert list_rows(change) == [("changed", "tools", "1.0", "2.0")]
    assert (change.fetched, change.built, change.problem) == (1, [], "")
    # nix tells what is fetched in hundredths of a MiB, and archives have a little head.
    assert change.added_bytes == pytest.approx(3 * SIZE_BYTES, rel=0.01)
    assert change.download_bytes == pytest.approx(3 * SIZE_BYTES, rel=0.01)
    assert change.removed_bytes == pytest.approx(SIZE_BYTES, rel=0.01)


async def test_a_new_agent_is_compared_with_one_of_which_nothing_is_said(desk: Desk) -> None:
    rig = desk.rig
    await rig.drafts.create("carol", MANAGER)
    approval = await rig.propose_spawn("carol", {"agent.nix": MORE}, {})
    change = await desk.find(approval)
    assert list_rows(change) == [("added", "jq", "", "1.0"), ("added", "ripgrep", "", "1.0")]
    assert change.base == ""
    assert desk.gate.listed[-1] == "{ }\n"


async def test_a_decided_one_is_compared_with_what_it_was_made_for(desk: Desk) -> None:
    base = await desk.rig.configs.get_deployed_commit("alice")
    approval = await desk.rig.deploy(await desk.rig.propose("alice", {"agent.nix": MORE}))
    change = await desk.find(approval)
    assert (change.base, len(change.packages)) == (base, 3)


# -- what cannot be told -----------------------------------------------------------------------------------


async def test_where_there_is_nothing_to_ask_for_it_is_not_found(desk: Desk, tmp_path: Path) -> None:
    await desk.rig.approvals.request_spawn("dave", "a new one", MANAGER)
    [plain] = await desk.rig.approvals.list_approvals(ApprovalStatus.PENDING)
    assert not (await desk.rig.reviews.review(plain.id)).system
    with pytest.raises(NotFoundError, match="has no commit"):
        await desk.find(plain)
    with pytest.raises(NotFoundError):
        await desk.changes.find(99)
    (tmp_path / "plain").mkdir()
    async with open_config_rig(tmp_path / "plain") as rig:
        await rig.spawn("alice")
        approval = await rig.propose("alice", {"prompt.md": "be good\n"})
        assert not (await rig.reviews.review(approval.id)).system
        honest = desk.driver.inner
        with pytest.raises(NotFoundError, match="no systems of their own"):
            await SystemChanges(rig.reviews, rig.configs, honest).find(approval.id)


async def test_a_machine_that_cannot_tell_sizes_still_tells_packages_and_is_asked_again(desk: Desk) -> None:
    desk.changes = SystemChanges(desk.rig.reviews, desk.rig.configs, desk.driver, kept_s=0)
    approval = await desk.rig.propose("alice", {"agent.nix": MORE})
    desk.gate.broken = True
    change = await desk.find(approval)
    assert len(change.packages) == 3
    assert change.problem == "the store is away (look for it)"
    assert (change.added_bytes, change.download_bytes, change.built) == (0, 0, [])
    desk.gate.broken = False
    assert (await desk.find(approval)).problem == ""


async def test_what_cannot_be_evaluated_says_why_and_is_not_evaluated_at_each_look(desk: Desk) -> None:
    # The options say nothing of packages, so that it could be proposed.
    wrong = '{ environment.systemPackages = [ (throw "none") ]; }\n'
    approval = await desk.rig.propose("alice", {"agent.nix": wrong})
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"^agent\.nix: none$"):
            await desk.find(approval)
    assert len(desk.gate.listed) == 1
    # The review does not need it.
    assert (await desk.rig.reviews.review(approval.id)).warnings == []


async def test_what_is_wrong_with_the_base_is_not_taken_for_the_proposal(desk: Desk) -> None:
    await desk.rig.spawn("bob", {"agent.nix": '{ environment.systemPackages = [ (throw "old") ]; }\n'})
    approval = await desk.rig.propose("bob", {"agent.nix": MORE})
    with pytest.raises(InvalidInputError, match=r"^what it is compared with: agent\.nix: old$"):
        await desk.find(approval)


async def test_names_may_be_anything_and_too_many_are_counted(desk: Desk) -> None:
    hostile = """\
    {
      environment.systemPackages = builtins.genList (n: {
        type = "derivation";
        name = "x";
        pname = "<b>@" + toString n + builtins.concatStringsSep "" (builtins.genList (_: "y") 150);
        version = "1\\n2";
        outPath = "/nix/store/00000000000000000000000000000000-x";
      }) 700;
    }
    """.replace("@", "\u202e")
    change = await desk.find(await desk.rig.propose("alice", {"agent.nix": hostile}))
    # hello is gone, too.
    assert (len(change.packages), change.left_out) == (LISTED_LIMIT, 201)
    assert all(len(row.name) <= NAME_LIMIT_CHARS for row in change.packages)
    assert change.packages[0].name.startswith("<b>\u202e0y")


# -- how often, and how many at once -----------------------------------------------------------------------


async def test_whoever_asks_second_waits_for_the_first(desk: Desk) -> None:
    approval = await desk.rig.propose("alice", {"agent.nix": MORE})
    desk.gate.open.clear()
    asks = [asyncio.create_task(desk.find(approval)) for _ in range(5)]
    await desk.wait_listed(1)
    desk.gate.open.set()
    answers = await asyncio.gather(*asks)
    assert len(desk.gate.listed) == 2
    assert all(answer == answers[0] for answer in answers)


async def test_one_that_gives_up_leaves_the_work_to_the_next(desk: Desk) -> None:
    approval = await desk.rig.propose("alice", {"agent.nix": MORE})
    desk.gate.open.clear()
    asks = [asyncio.create_task(desk.find(approval)) for _ in range(2)]
    await desk.wait_listed(1)
    [first] = [ask for ask in asks if ask in desk.gate.workers]
    [second] = [ask for ask in asks if ask is not first]
    first.cancel()
    await desk.wait_listed(2)
    desk.gate.open.set()
    assert len((await second).packages) == 3


async def test_no_more_than_two_are_worked_out_at_once_and_reviews_go_on(desk: Desk) -> None:
    rig = desk.rig
    proposed = [await rig.propose("alice", {"agent.nix": HELLO + f"# {n}\n"}) for n in range(4)]
    desk.gate.open.clear()
    asks = [asyncio.create_task(desk.find(approval)) for approval in proposed]
    await desk.wait_listed(AT_ONCE)
    async with asyncio.timeout(20):
        assert (await rig.reviews.review(proposed[3].id)).comparison is not None
    assert desk.gate.now == AT_ONCE
    desk.gate.open.set()
    await asyncio.gather(*asks)
    assert (len(desk.gate.listed), desk.gate.most) == (8, AT_ONCE)


async def test_what_is_known_is_not_worked_out_again_until_it_is_old_or_the_flake_moved(desk: Desk) -> None:
    approval = await desk.rig.propose("alice", {"agent.nix": MORE})
    await desk.find(approval)
    again = await desk.rig.propose("alice", {"agent.nix": MORE})
    await desk.find(again)
    assert len(desk.gate.listed) == 2
    desk.driver.revision = "moved"
    await desk.find(approval)
    assert len(desk.gate.listed) == 4
    forgetful = SystemChanges(desk.rig.reviews, desk.rig.configs, desk.driver, kept_s=0)
    await forgetful.find(approval.id)
    await forgetful.find(approval.id)
    assert len(desk.gate.listed) == 8
