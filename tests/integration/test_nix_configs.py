"""Configs that are agent.nix, from the proposal to the agent that runs with it, evaluated as the nixos driver does.

The containers are bubblewrap's: what is evaluated here is real, what would be built of it is not.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from config_rig import ConfigRig, open_config_rig
from hyperhive.core.approvals import Approval, ApprovalStatus
from hyperhive.core.effects import Effect
from hyperhive.core.errors import ConflictError, InvalidInputError, TooLargeError
from hyperhive.core.names import MANAGER
from hyperhive.host import folders
from hyperhive.host.configs.reading import PROPOSED_LIMIT
from hyperhive.host.drivers.protocol import ContainerState, Driver
from hyperhive.host.egress_proposals import EgressProposals
from hyperhive.wire.operator.configs import MeaningRow, PolicyCheckRequest
from lifecycle_rig import Hive, make_place, open_hive, wait_for
from nix_driver_rig import Evaluator, NixDriver, make_evaluator, wrap
from proposer import commit_files, git, make_bundle

FULL = """\
{ lib, ... }:
{
  hyperhive = {
    allowedRecipients = [ "bob" ];
    bash.allow = [ "git *" ] ++ lib.optional true "ls";
    mcpServers.github = {
      command = "/bin/github-mcp";
      allowedTools = [ "get_*" ];
    };
    network.allow = [ "example.org" ];
    budget.usdPerDay = 2.5;
  };
}
"""


# A text that waits for another nixpkgs to mean something else.
WAITING = """\
{ lib, ... }:
{
  hyperhive.bash.allow = if lib ? later then [ ] else [ "git *" ];
}
"""


def make_later_evaluator(folder: Path) -> Evaluator:
    """With the nixpkgs that WAITING waits for."""
    moved = make_evaluator(folder)
    lib = moved.inputs.nixpkgs / "lib/default.nix"
    lib.write_text(lib.read_text().replace("  lib = {", "  lib = {\n    later = true;", 1))
    return moved


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    return make_evaluator(tmp_path_factory.mktemp("inputs"))


@dataclass
class Services:
    """The services around configs, on a driver of Nix."""

    rig: ConfigRig
    driver: NixDriver


@pytest.fixture
async def services(tmp_path: Path, evaluator: Evaluator) -> AsyncIterator[Services]:
    drivers: list[NixDriver] = []

    def make(driver: Driver) -> Driver:
        drivers.append(wrap(driver, evaluator))
        return drivers[-1]

    async with open_config_rig(tmp_path, make) as rig:
        yield Services(rig, drivers[0])


def list_rows(rows: list[MeaningRow]) -> set[tuple[str, str, str, str]]:
    return {(row.area, row.change, row.subject, row.after) for row in rows}


def list_incoming(rig: ConfigRig, name: str) -> str:
    return git(rig.roots.applied_repo(name), "for-each-ref", "refs/incoming", "refs/proposals").decode()


# -- what is proposed --------------------------------------------------------------------------------------


async def test_the_review_of_an_agent_nix_says_what_it_means(services: Services) -> None:
    rig = services.rig
    await rig.spawn("alice")
    approval = await rig.propose("alice", {"agent.nix": FULL, "prompt.md": "be good\n"})
    review = await rig.reviews.review(approval.id)
    assert review.warnings == []
    assert review.comparison is not None
    rows = list_rows(review.comparison.meaning)
    assert rows >= {
        ("allowed_recipients", "changed", "allowed_recipients", "(only what is listed)"),
        ("allowed_recipients", "added", "bob", "bob"),
        ("bash", "added", "allow: git *", "git *"),
        ("bash", "added", "allow: ls", "ls"),
        ("mcp_servers", "added", "github.command", "/bin/github-mcp"),
        ("network", "added", "allow: example.org", "example.org"),
        ("budget", "changed", "usd_per_day", "2.5"),
    }
    # What it says beside that is to be read.
    [own] = [row for row in review.comparison.meaning if row.subject == "agent.nix"]
    assert own.after.endswith("with its system: see the diff")
    assert (own.effect, review.comparison.effect) == (Effect.REBUILD, Effect.REBUILD)
    assert [file.path for file in review.comparison.files] == ["agent.nix", "prompt.md"]


async def test_what_is_in_force_is_shown_as_evaluated(services: Services) -> None:
    rig = services.rig
    await rig.spawn("alice", {"agent.nix": FULL})
    view = await rig.views.view("alice")
    assert view.problem == ""
    assert view.config is not None
    assert view.config["bash"]["allow"] == ["git *", "ls"]
    assert [file.path for file in view.files] == ["agent.nix", "prompt.md"]
    allowed = await rig.views.check("alice", PolicyCheckRequest(bash="rm -rf /"))
    assert allowed.verdict == "deny"
    assert "allowedRecipients" in rig.views.render_schema()["properties"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"agent.nix": "{\n  hyperhive.model = modell;\n}\n"}, "agent.nix line 2: undefined variable 'modell'"),
        ({"agent.nix": "{ imports = [ ./more.nix ]; }\n", "more.nix": "{\n\n  a = ;\n}\n"}, "more.nix line 3: "),
        ({"agent.nix": "{\n  hyperhive.modle = 1;\n}\n"}, "hyperhive.modle"),
        ({"agent.nix": '{ hyperhive.network.allow = [ "a b" ]; }\n'}, "agent.nix: hyperhive.network.allow[0]: 'a b'"),
        ({"agent.nix": "{ hyperhive.notesLimit = -1; }\n"}, "notesLimit"),
        ({"agent.nix": '{ x = builtins.readFile "/etc/passwd"; }\n'}, "agent.nix line 1: "),
        ({"agent.toml": 'model = "a"\n'}, "there is agent.toml beside agent.nix"),
    ],
)
async def test_what_cannot_be_used_is_refused_when_it_is_proposed(
    services: Services, files: Mapping[str, str], message: str
) -> None:
    rig = services.rig
    await rig.spawn("alice")
    with pytest.raises(InvalidInputError) as refused:
        await rig.propose("alice", files)
    assert message in refused.value.message
    assert str(rig.roots.data) not in refused.value.message + refused.value.hint
    assert list_incoming(rig, "alice") == ""
    # It took nothing that the next one would need.
    assert (await rig.propose("alice", {"agent.nix": FULL})).status is ApprovalStatus.PENDING


async def test_an_agent_toml_in_the_place_of_agent_nix_is_refused_with_what_to_do(services: Services) -> None:
    await services.rig.spawn("alice")
    with pytest.raises(InvalidInputError) as refused:
        await services.rig.propose("alice", {"agent.toml": ""}, remove=("agent.nix",))
    assert refused.value.message == "there is agent.toml and no agent.nix"
    assert refused.value.hint.endswith("write agent.nix in place of agent.toml")


async def test_an_agent_nix_is_refused_where_containers_are_not_built_with_nix(tmp_path: Path) -> None:
    async with open_config_rig(tmp_path) as rig:
        await rig.spawn("alice")
        with pytest.raises(InvalidInputError, match=r"there is agent\.nix beside agent\.toml"):
            await rig.propose("alice", {"agent.nix": "{ }"})
        with pytest.raises(InvalidInputError, match=r"there is agent\.nix and no agent\.toml"):
            await rig.propose("alice", {"agent.nix": "{ }"}, remove=("agent.toml",))
        assert list_incoming(rig, "alice") == ""


async def test_a_proposal_is_evaluated_once_and_only_if_it_can_be_applied(services: Services) -> None:
    rig = services.rig
    await rig.spawn("alice")
    count = len(services.driver.evaluated)
    folder = rig.clone("alice")
    approval = await rig.propose_folder("alice", folder, {"agent.nix": FULL})
    again = await rig.propose_folder("alice", folder)
    assert again.id != approval.id or again.commit == approval.commit
    await rig.reviews.review(approval.id)
    assert approval.commit is not None
    await rig.configs.load("alice", approval.commit)
    # What is deployed, for the review, and what is proposed.
    assert len(services.driver.evaluated) == count + 2
    await rig.deploy(approval)
    stray = rig.clone("alice", approval.base or "")
    with pytest.raises(InvalidInputError, match="does not descend from what is deployed"):
        await rig.propose_folder("alice", stray, {"agent.nix": "{ hyperhive.model = nowhere; }"})
    assert len(services.driver.evaluated) == count + 2


async def test_while_one_is_evaluated_others_work_on_the_repository_and_few_wait(services: Services) -> None:
    rig, driver = services.rig, services.driver
    await rig.spawn("alice")
    evaluate = driver.evaluator
    begun, opened = asyncio.Event(), asyncio.Event()

    async def hold(name: str, files: Mapping[str, bytes]) -> bytes:
        begun.set()
        await opened.wait()
        return await evaluate(name, files)

    driver.evaluator = hold
    folders = [rig.clone("alice") for _ in range(PROPOSED_LIMIT + 1)]
    texts = [{"agent.nix": f"{{ hyperhive.notesLimit = {number}; }}"} for number in range(PROPOSED_LIMIT + 1)]
    ended: set[asyncio.Task[Approval]] = set()
    tasks = [
        asyncio.create_task(rig.propose_folder("alice", folder, files))
        for folder, files in zip(folders, texts, strict=True)
    ]
    await begun.wait()
    async with asyncio.timeout(10):
        async with rig.configs.lock("alice"):
            assert not opened.is_set()
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    [refused] = ended
    assert isinstance(refused.exception(), TooLargeError)
    opened.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, Approval) for result in done) == PROPOSED_LIMIT


async def test_the_hive_changes_no_agent_nix_by_itself_and_says_what_to_ask_for(services: Services) -> None:
    rig = services.rig
    await rig.spawn("alice", {"agent.nix": FULL})
    with pytest.raises(ConflictError) as refused:
        await EgressProposals(rig.store, rig.configs).propose("alice", "example.com:8443")
    assert refused.value.message == "the hive does not change the agent.nix of an agent by itself"
    assert '"example.com:8443" to hyperhive.network.allow of alice' in refused.value.hint


async def test_the_next_daemon_evaluates_nothing_again(tmp_path: Path, evaluator: Evaluator) -> None:
    async with open_config_rig(tmp_path, lambda driver: wrap(driver, evaluator)) as rig:
        await rig.spawn("alice", {"agent.nix": FULL})
        before = await rig.configs.get_deployed("alice")
    drivers: list[NixDriver] = []

    def make(driver: Driver) -> Driver:
        drivers.append(wrap(driver, evaluator))
        return drivers[-1]

    async with open_config_rig(tmp_path, make) as rig:
        assert await rig.configs.get_deployed("alice") == before
    assert drivers[0].evaluated == []


# -- a whole hive ------------------------------------------------------------------------------------------


async def propose(hive: Hive, work: Path, files: Mapping[str, str]) -> Approval:
    """What the manager of a hive would propose for alice."""
    folder = work / f"copy-{len(list(work.iterdir()))}"
    git(work, "clone", "-q", str(hive.roots.applied_repo("alice")), str(folder))
    commit = commit_files(folder, files)
    return await hive.parts.approvals.request_apply(
        "alice", commit, make_bundle(folder, commit), "a change", MANAGER, f"key-{folder.name}"
    )


async def carry_out(hive: Hive, approval: Approval) -> Approval:
    """Approves, and waits for the end of it."""

    async def find_ended() -> Approval | None:
        found = await hive.parts.approvals.get_approval(approval.id)
        main = await hive.parts.configs.repository("alice").find_main()
        deployed = found.status is ApprovalStatus.DEPLOYED and main == found.commit
        return found if deployed or found.status is ApprovalStatus.FAILED else None

    await hive.parts.approvals.approve(approval.id)
    running = asyncio.create_task(hive.parts.applies.run_forever())
    try:
        return await wait_for(find_ended, 60, hive)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def read_in_container(hive: Hive, path: str) -> bytes:
    done = await hive.honest.exec("alice", ("cat", path), 10)
    assert done.ok, done.error_text
    return done.stdout


async def test_an_approved_agent_nix_is_deployed_and_goes_on_where_the_flake_has_no_such_option_any_more(
    tmp_path: Path, evaluator: Evaluator
) -> None:
    drivers: list[NixDriver] = []

    def make(driver: Driver) -> Driver:
        drivers.append(wrap(driver, evaluator))
        return drivers[-1]

    async with make_place() as place:
        async with open_hive(make, place=place) as hive:
            await hive.agents.spawn("alice")
            await hive.wait_state("idle")
            assert drivers[0].built == ["alice"]
            approval = await propose(hive, tmp_path, {"agent.nix": FULL})
            ended = await carry_out(hive, approval)
            assert (ended.status, ended.reason) == (ApprovalStatus.DEPLOYED, None)
            await hive.wait_state("idle")
            assert set(drivers[0].built) == {"alice"}
            assert (await read_in_container(hive, "/config/agent.nix")).decode() == FULL
            policy = await hive.parts.configs.get_policy("alice")
            assert (policy.allowed_recipients, policy.bash_allow) == (("bob",), ("git *", "ls"))
            assert policy.mcp_tools == {"github": ("get_*",)}
            # A bad one leaves all that as it is.
            with pytest.raises(InvalidInputError, match=r"^agent\.nix line 1: "):
                await propose(hive, tmp_path, {"agent.nix": "{ hyperhive.model = nothing; }"})
            await hive.wait_state("idle")

        # The flake has moved to a hyperhive that has no such option any more.
        moved = make_evaluator(tmp_path / "moved")
        options = moved.inputs.hyperhive / "nix/agent-options.nix"
        options.write_text(options.read_text().replace("usdPerDay", "eurPerDay"))
        async with open_hive(lambda driver: wrap(driver, moved), place=place, reconcile=True, look_every_s=0.2) as hive:
            await hive.wait_state("idle", timeout_s=60)
            assert (await hive.parts.configs.get_policy("alice")).allowed_recipients == ("bob",)
            # What has to be built anew cannot be, and what is proposed now is what the new one makes of it.
            await hive.agents.stop("alice", "operator")
            await hive.wait_state("stopped")
            await hive.agents.start("alice", "operator")
            row = await hive.wait_state("failed")
            assert "agent.nix line" in row.reason
            assert "usdPerDay" in row.reason
            assert (await hive.honest.observe("alice")).state is not ContainerState.RUNNING
            with pytest.raises(InvalidInputError, match="usdPerDay"):
                await propose(hive, tmp_path, {"prompt.md": "be better"})

        # And back again.
        async with open_hive(make, place=place, reconcile=True) as hive:
            await hive.agents.start("alice", "operator")
            await hive.wait_state("idle", timeout_s=60)
            assert (await hive.parts.configs.get_policy("alice")).allowed_recipients == ("bob",)
    assert drivers[1].evaluated == []


async def test_what_was_approved_stays_what_it_was_when_the_flake_moves(tmp_path: Path, evaluator: Evaluator) -> None:
    moved = make_later_evaluator(tmp_path / "moved")
    drivers: list[NixDriver] = []

    def make(driver: Driver) -> Driver:
        drivers.append(wrap(driver, moved))
        return drivers[-1]

    async with open_config_rig(tmp_path, lambda driver: wrap(driver, evaluator)) as rig:
        await rig.spawn("alice", {"agent.nix": WAITING})
        assert (await rig.configs.get_policy("alice")).bash_allow == ("git *",)
        pending = await rig.propose("alice", {"prompt.md": "be good\n"})
        # The operator looks at it, and then the flake moves.
        seen = await rig.reviews.review(pending.id)
    async with open_config_rig(tmp_path, make) as rig:
        assert (await rig.configs.get_policy("alice")).bash_allow == ("git *",)
        assert await rig.reviews.review(pending.id) == seen
        await rig.deploy(pending)
        assert (await rig.configs.get_policy("alice")).bash_allow == ("git *",)
        assert drivers[0].evaluated == []
        # What the moved one makes of it is seen with the next proposal, before it counts.
        opened = await rig.reviews.review((await rig.propose("alice", {"prompt.md": "be better\n"})).id)
        assert opened.comparison is not None
        assert ("bash", "removed", "allow: git *", "") in list_rows(opened.comparison.meaning)
        assert "bash.allow becomes empty: it may run any command" in opened.warnings
        assert len(drivers[0].evaluated) == 1


async def test_a_purge_leaves_nothing_of_what_was_evaluated(services: Services) -> None:
    rig = services.rig
    await rig.spawn("alice", {"agent.nix": FULL})
    await rig.configs.get_deployed("alice")
    assert (rig.roots.evaluations_folder / "alice").is_dir()
    await folders.remove(rig.roots, "alice")
    assert not (rig.roots.evaluations_folder / "alice").exists()


async def test_what_was_approved_stays_what_it_was_in_a_snapshot_of_a_purged_agent(
    tmp_path: Path, evaluator: Evaluator
) -> None:
    moved = make_later_evaluator(tmp_path / "moved")
    (tmp_path / "work").mkdir()
    async with make_place() as place:
        async with open_hive(lambda driver: wrap(driver, evaluator), place=place) as hive:
            await hive.agents.spawn("alice")
            await hive.wait_state("idle")
            await carry_out(hive, await propose(hive, tmp_path / "work", {"agent.nix": WAITING}))
            await hive.wait_state("idle")
            snapshot = await hive.parts.takes.take("alice", "", with_credentials=False, wait_s=30)
            await hive.agents.destroy("alice")
            await hive.parts.kept.purge("alice")
        async with open_hive(lambda driver: wrap(driver, moved), place=place) as hive:
            await hive.parts.restores.restore(snapshot.id, replay=False, with_credentials=False, wait_s=30)
            assert (await hive.parts.configs.get_policy("alice")).bash_allow == ("git *",)
            await hive.agents.destroy("alice")
            await hive.parts.kept.purge("alice")
            assert (hive.roots.evaluations_folder / "alice").is_dir()
            for row in await hive.parts.takes.list_snapshots("alice"):
                await hive.parts.takes.remove(row.id)
        # Nobody is left who could be meant.
        async with open_hive(lambda driver: wrap(driver, moved), place=place) as hive:
            assert not (hive.roots.evaluations_folder / "alice").exists()


async def test_a_snapshot_is_read_for_the_agent_that_it_is_to_become(tmp_path: Path, evaluator: Evaluator) -> None:
    for_alice = '{ hive, ... }: { hyperhive.model = if hive.identity.name == "alice" then "a" else throw "hers"; }'
    async with open_hive(lambda driver: wrap(driver, evaluator)) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        ended = await carry_out(hive, await propose(hive, tmp_path, {"agent.nix": for_alice}))
        assert (ended.status, ended.reason) == (ApprovalStatus.DEPLOYED, None)
        await hive.wait_state("idle")
        snapshot = await hive.parts.takes.take("alice", "", with_credentials=False, wait_s=30)
        with pytest.raises(InvalidInputError, match=r"agent\.nix.*hers"):
            await hive.parts.restores.fork(snapshot.id, "carol", with_credentials=False)
        restored = await hive.parts.restores.restore(snapshot.id, replay=False, with_credentials=False, wait_s=30)
        assert restored.agent == "alice"
        assert (await hive.parts.configs.get_deployed("alice")).config.model == "a"


async def test_a_fork_may_nothing_that_the_operator_did_not_approve_for_the_agent_it_is_of(
    tmp_path: Path, evaluator: Evaluator
) -> None:
    sly = """\
{ hive, lib, ... }:
{
  hyperhive.bash.allow = lib.optional (hive.identity.name == "alice") "git *";
}
"""
    async with open_hive(lambda driver: wrap(driver, evaluator)) as hive:
        await hive.agents.spawn("alice")
        await hive.wait_state("idle")
        assert (await carry_out(hive, await propose(hive, tmp_path, {"agent.nix": sly}))).reason is None
        await hive.wait_state("idle")
        snapshot = await hive.parts.takes.take("alice", "", with_credentials=False, wait_s=30)
        with pytest.raises(InvalidInputError, match=r"comes to something else for carol: bash$") as refused:
            await hive.parts.restores.fork(snapshot.id, "carol", with_credentials=False)
        assert refused.value.hint.startswith("have the manager draft carol with it")
        assert not hive.roots.applied_repo("carol").exists()
        # For the agent itself nothing has changed.
        await hive.parts.restores.restore(snapshot.id, replay=False, with_credentials=False, wait_s=30)
        assert (await hive.parts.configs.get_policy("alice")).bash_allow == ("git *",)
