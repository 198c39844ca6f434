"""Everything by which a repository makes git run a program, armed in the manager's working copy: none of it goes off
in the daemon, whatever the daemon does with the configs."""

import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from git_rig import AT, FILES, make_repository, run_git
from hyperhive.core.errors import InvalidInputError
from hyperhive.host.configs.repository import ConfigRepository
from hyperhive.wire.agent_link import COMMIT_REF

MANAGER = 54321 if os.geteuid() == 0 else None
HOOKS = (
    "pre-commit",
    "post-commit",
    "post-checkout",
    "post-index-change",
    "reference-transaction",
    "pre-push",
    "update",
)


@dataclass(frozen=True)
class Vector:
    """One way to have a program run. `trap` is what goes into the config, with {mark} the program; `spring` is a call
    of git that runs it, to prove that it is armed: none where nothing runs, and the harm is another."""

    name: str
    trap: str
    spring: tuple[str, ...] = ()


VECTORS = [
    Vector("hooks", "", ("commit", "-q", "--allow-empty", "-m", "x")),
    Vector("hooks elsewhere", "[core]\nhooksPath = {folder}/hooks", ("commit", "-q", "--allow-empty", "-m", "x")),
    Vector("fsmonitor", "[core]\nfsmonitor = {mark}", ("status",)),
    Vector("clean filter", '[filter "evil"]\nclean = {mark}', ("add", "--renormalize", ".")),
    Vector("smudge filter", '[filter "evil"]\nsmudge = {mark}', ("checkout", "HEAD^", "--", ".")),
    Vector("process filter", '[filter "evil"]\nprocess = {mark}', ("checkout", "HEAD^", "--", ".")),
    Vector("textconv", '[diff "evil"]\ntextconv = {mark}', ("log", "-p")),
    Vector("diff driver", '[diff "evil"]\ncommand = {mark}', ("diff", "--ext-diff", "HEAD^", "HEAD")),
    Vector("external diff", "[diff]\nexternal = {mark}", ("diff", "HEAD^", "HEAD")),
    Vector("ssh", '[core]\nsshCommand = {mark}\n[remote "applied"]\nurl = ssh://x/y', ("fetch", "applied")),
    Vector("upload-pack", '[remote "applied"]\nurl = {folder}\nuploadpack = {mark}', ("fetch", "applied")),
    Vector("remote helper", '[protocol]\nallow = always\n[remote "applied"]\nurl = ext::{mark}', ("fetch", "applied")),
    Vector("gpg", "[gpg]\nprogram = {mark}\n[commit]\ngpgSign = true", ("commit", "-q", "--allow-empty", "-m", "x")),
    Vector("credential helper", "[credential]\nhelper = !{mark}", ("credential", "fill")),
    Vector("alias", "[alias]\nx = !{mark}", ("x",)),
    Vector("editor", "[core]\neditor = {mark}", ("commit", "-q", "--allow-empty")),
    Vector("include", "[include]\npath = {folder}/included", ("status",)),
    Vector("conditional include", '[includeIf "gitdir:/"]\npath = {folder}/included', ("status",)),
    Vector("worktree", "[core]\nworktree = /etc"),
    Vector("alternates", ""),
]


@dataclass
class Rig:
    folder: Path
    repository: ConfigRepository
    first: str
    copy: Path

    def marks(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "marks").iterdir())

    def forget_marks(self) -> None:
        for path in (self.folder / "marks").iterdir():
            path.unlink()

    def git(self, *arguments: str) -> str:
        """git inside the manager's copy, as the manager."""
        return run_git(self.copy, *arguments, uid=MANAGER)

    def spring(self, *arguments: str) -> None:
        """As `git`; whether it succeeds does not matter."""
        run_git_anyhow(self.copy, *arguments)

    def arm(self, vector: Vector, text: str | None = None, *, keep: bool = False) -> None:
        mark = self.folder / "mark"
        attributes = "* filter=evil diff=evil merge=evil\n"
        trap = (vector.trap if text is None else text).format(mark=mark, folder=self.folder)
        config = self.copy / ".git/config"
        # Of a remote the first line counts: what was there goes.
        before = config.read_text()
        config.write_text((before if keep else before.partition('[remote "applied"]')[0]) + f"{trap}\n")
        (self.copy / ".git/info").mkdir(exist_ok=True)
        (self.copy / ".git/info/attributes").write_text(attributes)
        if vector.name == "hooks":
            install_hooks(self.copy / ".git/hooks", mark)
        if vector.name == "alternates":
            alternates = self.folder / "applied/worker/objects"
            (self.copy / ".git/objects/info/alternates").write_text(f"{alternates}\n")


def install_hooks(folder: Path, mark: Path) -> None:
    folder.mkdir(exist_ok=True)
    for hook in HOOKS:
        (folder / hook).unlink(missing_ok=True)
        (folder / hook).symlink_to(mark)


def run_git_anyhow(copy: Path, *arguments: str) -> None:
    try:
        run_git(copy, *arguments, stdin=b"protocol=https\nhost=x\n\n", uid=MANAGER)
    except AssertionError:
        return


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "marks").mkdir()
        (folder / "marks").chmod(0o777)
        (folder / "mark").write_text(f'#!/bin/sh\necho > {folder}/marks/"$(basename "$0")-$$-$(id -u)"\n')
        (folder / "mark").chmod(0o755)
        (folder / "included").write_text(f"[core]\nfsmonitor = {folder}/mark\n")
        install_hooks(folder / "hooks", folder / "mark")
        repository, first = await make_repository(folder)
        copy = folder / "proposed/worker/config"
        copy.parent.mkdir(parents=True)
        assert await repository.make_working_copy(copy, str(folder / "applied/worker"), MANAGER)
        rig = Rig(folder, repository, first, copy)
        (copy / "agent.toml").write_text("warm_s = 3\n")
        rig.git("commit", "-qam", "change")
        yield rig


def make_bundle(rig: Rig) -> tuple[bytes, str]:
    """What a harness that knows nothing of traps would send: traps go off, but as the manager."""
    name = rig.git("rev-parse", "HEAD")
    rig.git("update-ref", COMMIT_REF, name)
    rig.git("bundle", "create", "-q", ".git/out", COMMIT_REF, "--not", rig.first)
    return (rig.copy / ".git/out").read_bytes(), name


async def run_everything(rig: Rig, content: bytes, name: str) -> None:
    """All that the daemon does with configs, most of it twice."""
    repository = rig.repository
    await repository.ensure(FILES, AT)
    for _ in range(2):
        imported = await repository.import_bundle(content, name)
        assert imported.commit == name
        await repository.pin(1, name, None, {"proposal": "x"}, AT)
        assert (await repository.read_files(name))["agent.toml"] == b"warm_s = 3\n"
        assert [file.path for file in await repository.list_files(name)] == ["agent.toml", "prompt.md"]
        [change] = await repository.diff(rig.first, name)
        assert (change.path, change.binary, change.added, change.removed) == ("agent.toml", False, 1, 1)
        assert len(await repository.diff(None, name)) == 2
        await repository.write_files(name, rig.folder / "out")
        await repository.pin(1, name, None, {"proposal": "x", "deployed": "x"}, AT)
        await repository.advance_main(name)
        await repository.make_revert(name, rig.first, "back", AT)
        # The armed copy is in the way, and stays.
        assert not await repository.make_working_copy(rig.copy, "/applied/worker", MANAGER)
        await repository.list_tags()
        await repository.drop_incoming()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
async def test_no_trap_in_the_managers_copy_goes_off_in_the_daemon(rig: Rig, vector: Vector) -> None:
    content, name = make_bundle(rig)
    rig.arm(vector)
    if vector.spring:
        rig.spring(*vector.spring)
        assert rig.marks(), "the trap is not armed"
    rig.forget_marks()
    await run_everything(rig, content, name)
    assert rig.marks() == []


async def test_with_all_traps_at_once_they_go_off_as_the_manager_alone(rig: Rig) -> None:
    for vector in VECTORS:
        trap = vector.trap if vector.name not in {"worktree", "gpg"} else ""
        rig.arm(vector, trap, keep=True)
    content, name = make_bundle(rig)
    rig.spring("status")
    assert rig.marks()
    expected = str(os.geteuid() if MANAGER is None else MANAGER)
    assert {mark.rsplit("-", 1)[1] for mark in rig.marks()} == {expected}
    rig.forget_marks()
    await run_everything(rig, content, name)
    assert rig.marks() == []


async def test_attributes_do_not_come_in_with_a_commit(rig: Rig) -> None:
    (rig.copy / ".gitattributes").write_text("* -diff filter=evil\n")
    rig.git("add", ".gitattributes")
    rig.git("commit", "-qm", "hide")
    content, name = make_bundle(rig)
    with pytest.raises(InvalidInputError, match="gitattributes"):
        await rig.repository.import_bundle(content, name)


async def test_the_daemons_own_surroundings_do_not_matter(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    content, name = make_bundle(rig)
    home, mark = rig.folder / "home", rig.folder / "mark"
    (home / "bin").mkdir(parents=True)
    (home / "templates/hooks").mkdir(parents=True)
    install_hooks(home / "templates/hooks", mark)
    (home / ".gitconfig").write_text(
        f"[core]\nfsmonitor = {mark}\nhooksPath = {rig.folder}/hooks\n[diff]\nexternal = {mark}\n"
        f"[init]\ntemplateDir = {home}/templates\n[uploadpack]\npackObjectsHook = {mark}\n"
    )
    (home / "bin/git").symlink_to(mark)
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(home))
    for variable in ("GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_PAGER", "GIT_PROXY_COMMAND"):
        monkeypatch.setenv(variable, str(mark))
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_EXEC_PATH"):
        monkeypatch.setenv(variable, str(rig.copy / ".git"))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(home / "templates"))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'core.fsmonitor'='{mark}'")
    rig.forget_marks()
    await run_everything(rig, content, name)
    other, _ = await make_repository(rig.folder / "other")
    (rig.folder / "fresh").mkdir()
    assert await other.make_working_copy(rig.folder / "fresh/config", "/applied/worker")
    assert not (rig.folder / "fresh/config/.git/hooks").exists()
    assert rig.marks() == []
