"""From the manager's edit to the applied repo: what the harness makes is what the daemon takes, each by its code."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hyperhive.host.configs.defaults import plan_default_files
from hyperhive.host.configs.repository import ConfigRepository
from proposal_rig import ManagerView, commit, git

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def view(tmp_path: Path) -> ManagerView:
    return ManagerView(tmp_path)


async def make(view: ManagerView, name: str) -> tuple[ConfigRepository, Path]:
    repository = ConfigRepository(view.applied / name, view.scratch)
    await repository.ensure(plan_default_files(name), AT)
    config = view.agents / name / "config"
    config.parent.mkdir()
    await repository.make_working_copy(config, str(view.applied / name), None)
    return repository, config


async def test_a_proposed_change_is_imported_and_its_successor_after_it(view: ManagerView) -> None:
    repository, config = await make(view, "alice")
    for number, text in ((1, "one\n"), (2, "two\n")):
        wanted = commit(config, {"prompt.md": text})
        proposal = await view.proposals().make_apply("alice", "HEAD")
        imported = await repository.import_bundle(proposal.bundle, proposal.commit)
        assert (imported.commit, imported.notes) == (wanted, None)
        assert (await repository.read_files(wanted))["prompt.md"] == text.encode()
        await repository.pin(number, wanted, None, {}, datetime.now(UTC))
        await repository.advance_main(wanted)
        git(config, "fetch", "--quiet", "applied")
        assert git(config, "rev-parse", "applied/main") == wanted


@pytest.mark.parametrize("changed", [True, False])
async def test_a_draft_is_imported_with_its_staged_notes(view: ManagerView, changed: bool) -> None:
    repository, config = await make(view, "bob")
    if changed:
        commit(config, {"prompt.md": "be kind\n"})
    state = view.agents / "bob/state/sub"
    state.mkdir(parents=True)
    state.joinpath("more.md").write_text("more")
    state.parent.joinpath("notes.md").write_text("remember")
    proposal = await view.proposals().make_spawn("bob", "HEAD")
    imported = await repository.import_bundle(proposal.bundle, proposal.commit, proposal.notes)
    assert (imported.commit, imported.notes) == (proposal.commit, proposal.notes)
    assert await repository.read_files(proposal.notes) == {"notes.md": b"remember", "sub/more.md": b"more"}
