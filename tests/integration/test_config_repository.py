"""The applied repo keeps what it was told, whatever dies in between, and others can read it."""

import asyncio
import os
import stat
import subprocess
import tempfile
from collections.abc import Awaitable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from git_rig import AT, FILES, Object, as_user, bundle_of, commit, make_repository, plain_tree, read_folder, run_git
from hyperhive.core.errors import ConflictError, HiveError, InvalidInputError, NotFoundError
from hyperhive.host.configs.repository import MESSAGE_LIMIT_CHARS, ConfigRepository
from hyperhive.system.git import GitError

# Only root can be somebody else.
STRANGER = 54321 if os.geteuid() == 0 else None


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can walk to."""
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@dataclass
class Rig:
    folder: Path
    repository: ConfigRepository
    first: str

    @property
    def path(self) -> Path:
        return self.folder / "applied/worker"

    async def submit(self, text: str = "warm_s = 3\n", parent: str | None = None) -> str:
        """A commit on `parent`, on main if none is given, imported."""
        tip, others = make_change(text, parent or self.first)
        await self.repository.import_bundle(bundle_of(tip, others), tip.oid)
        return tip.oid

    def refs(self) -> dict[str, str]:
        lines = run_git(self.path, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split(" ") for line in lines)


def make_change(text: str, parent: str) -> tuple[Object, list[Object]]:
    root, *blobs = plain_tree({"agent.toml": text.encode()})
    return commit(root, [parent], text), [root, *blobs]


@pytest.fixture
async def rig(folder: Path) -> Rig:
    repository, first = await make_repository(folder)
    return Rig(folder, repository, first)


# -- the first config --------------------------------------------------------------------------------------


async def test_the_first_config_is_deployed_0_and_main(rig: Rig) -> None:
    assert await rig.repository.list_tags() == {"deployed/0": rig.first}
    assert await rig.repository.find_main() == rig.first
    assert await rig.repository.read_files(rig.first) == FILES


async def test_the_same_files_make_the_same_first_commit(rig: Rig, tmp_path: Path) -> None:
    _, other = await make_repository(tmp_path)
    assert other == rig.first


async def test_a_repository_that_is_there_is_left_as_it_is(rig: Rig) -> None:
    state = read_folder(rig.path)
    assert await rig.repository.ensure({"agent.toml": b"other\n"}, AT) == rig.first
    assert read_folder(rig.path) == state


async def test_nothing_is_there_before(folder: Path) -> None:
    repository = ConfigRepository(folder / "applied/x", folder / "staging")
    assert not await repository.exists()
    with pytest.raises(GitError):
        await repository.list_tags()


async def test_two_that_make_it_at_once_make_one(folder: Path) -> None:
    both = [ConfigRepository(folder / "applied/x", folder / "staging") for _ in range(2)]
    # Not gather: it would leave the slower one behind when the other fails, and asyncio waits for ever at its end
    # for a program whose start and whose pipes are cancelled in one step.
    async with asyncio.TaskGroup() as group:
        one, other = [group.create_task(repository.ensure(FILES, AT)) for repository in both]
    assert one.result() == other.result()
    assert not list((folder / "staging").iterdir())


async def test_hostile_names_do_not_get_into_the_first_config(folder: Path) -> None:
    repository = ConfigRepository(folder / "applied/x", folder / "staging")
    for name in ("../x", ".git/config", 'a"\nM 100644 inline b', "-x", ""):
        with pytest.raises(InvalidInputError):
            await repository.ensure({name: b""}, AT)
    assert not (folder / "applied/x").exists()


async def test_a_quote_in_a_name_is_a_quote(folder: Path) -> None:
    repository = ConfigRepository(folder / "applied/x", folder / "staging")
    first = await repository.ensure({'"quoted" name': b"x"}, AT)
    assert await repository.read_files(first) == {'"quoted" name': b"x"}


# -- refs and tags -----------------------------------------------------------------------------------------


async def test_an_imported_commit_is_kept_until_it_is_pinned(rig: Rig) -> None:
    name = await rig.submit()
    assert rig.refs()[f"refs/incoming/{name}"] == name
    await rig.repository.pin(7, name, None, {}, AT)
    refs = rig.refs()
    assert refs["refs/proposals/7"] == name
    assert not any(ref.startswith("refs/incoming") for ref in refs)


async def test_a_pinned_approval_never_gets_another_commit(rig: Rig) -> None:
    one, other = await rig.submit("a"), await rig.submit("b")
    await rig.repository.pin(7, one, None, {}, AT)
    await rig.repository.pin(7, one, None, {}, AT)
    with pytest.raises(ConflictError):
        await rig.repository.pin(7, other, None, {}, AT)
    assert rig.refs()["refs/proposals/7"] == one


async def test_notes_are_pinned_beside_the_commit(rig: Rig) -> None:
    name, notes = await rig.submit("a"), await rig.submit("b")
    await rig.repository.pin(7, name, notes, {}, AT)
    assert rig.refs()["refs/proposal-notes/7"] == notes


async def test_submissions_of_a_crashed_daemon_are_dropped(rig: Rig) -> None:
    kept, lost = await rig.submit("a"), await rig.submit("b")
    await rig.repository.pin(1, kept, None, {}, AT)
    await rig.repository.drop_incoming()
    assert lost not in rig.refs().values()
    assert rig.refs()["refs/proposals/1"] == kept
    await rig.repository.drop_incoming()


async def test_a_tag_has_its_message_and_its_date(rig: Rig) -> None:
    reason = "no: \x1b[2J \u202e -----BEGIN\r\n# not a comment\n\n\nsecond paragraph"
    await rig.repository.pin(3, rig.first, None, {"denied": reason}, AT)
    tag = run_git(rig.path, "cat-file", "tag", "denied/3")
    assert tag.split("\n\n", 1)[1] == reason
    assert f"tagger hyperhive <hyperhive@localhost> {int(AT.timestamp())} +0000" in tag
    assert (await rig.repository.list_tags())["denied/3"] == rig.first


async def test_a_tag_is_never_moved(rig: Rig) -> None:
    name = await rig.submit()
    await rig.repository.pin(3, name, None, {"deployed": "x"}, AT)
    refs = rig.refs()
    await rig.repository.pin(3, name, None, {"deployed": "another message"}, AT)
    with pytest.raises(ConflictError):
        await rig.repository.pin(3, rig.first, None, {"deployed": "x"}, AT)
    assert rig.refs() == refs


async def test_where_one_tag_is_in_the_way_nothing_of_an_approval_is_made(rig: Rig) -> None:
    name = await rig.submit()
    run_git(rig.path, "tag", "approved/3", rig.first)
    refs = rig.refs()
    with pytest.raises(ConflictError):
        await rig.repository.pin(3, name, None, {"proposal": "x", "approved": "x"}, AT)
    assert rig.refs() == refs


async def test_the_tags_of_an_approval_are_made_with_its_pin(rig: Rig) -> None:
    name = await rig.submit()
    await rig.repository.pin(3, name, None, {"proposal": "a", "denied": "b"}, AT)
    assert await rig.repository.list_tags() == {"deployed/0": rig.first, "proposal/3": name, "denied/3": name}
    for tag, message in {"proposal/3": "a", "denied/3": "b"}.items():
        assert run_git(rig.path, "cat-file", "tag", tag).endswith(f"\n\n{message}")


@pytest.mark.parametrize("status", ["x", "deployed/1", "deployed\n", "../deployed", "-d", ""])
async def test_only_a_status_with_a_number_is_a_tag(rig: Rig, status: str) -> None:
    with pytest.raises(InvalidInputError):
        await rig.repository.pin(1, rig.first, None, {status: "x"}, AT)


@pytest.mark.parametrize("message", ["\0", "\ud800", "x" * 100_000, ""])
async def test_any_message_makes_a_tag(rig: Rig, message: str) -> None:
    await rig.repository.pin(1, rig.first, None, {"failed": message}, AT)
    content = run_git(rig.path, "cat-file", "tag", "failed/1").partition("\n\n")[2]
    assert len(content) <= MESSAGE_LIMIT_CHARS


async def test_a_tag_on_nothing_is_not_made(rig: Rig) -> None:
    with pytest.raises(GitError):
        await rig.repository.pin(1, "1" * 40, None, {"failed": "x"}, AT)
    assert "failed/1" not in await rig.repository.list_tags()


# -- main --------------------------------------------------------------------------------------------------


async def test_main_goes_forward_only(rig: Rig) -> None:
    next_one = await rig.submit("a")
    sibling = await rig.submit("b")
    await rig.repository.advance_main(next_one)
    await rig.repository.advance_main(next_one)
    with pytest.raises(ConflictError):
        await rig.repository.advance_main(sibling)
    # An approval that was deployed before is told again after a crash.
    await rig.repository.advance_main(rig.first)
    assert await rig.repository.find_main() == next_one
    assert await rig.repository.is_ancestor(rig.first, next_one)
    assert not await rig.repository.is_ancestor(sibling, next_one)


async def test_a_commit_that_is_not_there_is_not_found(rig: Rig) -> None:
    for call in (
        rig.repository.is_ancestor("1" * 40, rig.first),
        rig.repository.advance_main("1" * 40),
        rig.repository.list_files("1" * 40),
        rig.repository.read_files("1" * 40),
        rig.repository.make_revert(rig.first, "1" * 40, "x", AT),
        rig.repository.write_files("1" * 40, rig.folder / "out"),
    ):
        with pytest.raises(NotFoundError):
            await call


@pytest.mark.parametrize(
    "name", ["HEAD", "--all", "-x", "main", "deadbeef", "", "1" * 41, f"{'1' * 40}^", "1" * 39 + "\n"]
)
async def test_no_argument_can_be_an_option_or_a_ref(rig: Rig, name: str) -> None:
    calls: list[Awaitable[object]] = [
        rig.repository.is_ancestor(name, rig.first),
        rig.repository.advance_main(name),
        rig.repository.list_files(name),
        rig.repository.diff(rig.first, name),
        rig.repository.make_revert(rig.first, name, "x", AT),
        rig.repository.pin(1, name, None, {"deployed": "x"}, AT),
        rig.repository.pin(1, rig.first, name or "-", {}, AT),
        rig.repository.write_files(name, rig.folder / "out"),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError):
            await call


async def test_a_revert_has_the_files_of_then_and_follows_from_now(rig: Rig) -> None:
    now = await rig.submit("a")
    made = await rig.repository.make_revert(now, rig.first, "back\nto 0", AT)
    assert await rig.repository.read_files(made) == FILES
    assert await rig.repository.is_ancestor(now, made)
    assert rig.refs()[f"refs/incoming/{made}"] == made
    assert await rig.repository.make_revert(now, rig.first, "back\nto 0", AT) == made
    assert "back\nto 0" in run_git(rig.path, "cat-file", "commit", made)


# -- files -------------------------------------------------------------------------------------------------


async def test_the_files_of_a_commit_are_written_for_everybody_to_read(rig: Rig) -> None:
    with umask(0o077):
        await rig.repository.write_files(rig.first, rig.folder / "out")
    assert read_folder(rig.folder / "out") == FILES
    assert stat.S_IMODE((rig.folder / "out").stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in (rig.folder / "out").iterdir()} == {0o644}
    assert not list((rig.folder / "staging").iterdir())


async def test_files_that_are_there_stay(rig: Rig) -> None:
    (rig.folder / "out").mkdir()
    (rig.folder / "out/mine").write_text("x")
    await rig.repository.write_files(rig.first, rig.folder / "out")
    assert read_folder(rig.folder / "out") == {"mine": b"x"}


# -- the manager's view ------------------------------------------------------------------------------------


@contextmanager
def umask(mask: int) -> Generator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def give(folder: Path) -> None:
    if STRANGER is not None:
        os.chown(folder, STRANGER, STRANGER)


def stranger_git(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **environment}
    return subprocess.run(
        [*as_user(STRANGER), "git", *arguments], env=env, cwd="/", capture_output=True, text=True, check=False
    )


async def test_another_user_can_read_it_whatever_the_umask(folder: Path) -> None:
    with umask(0o077):
        repository, first = await make_repository(folder)
        rig = Rig(folder, repository, first)
        name = await rig.submit()
        await repository.pin(1, name, None, {"denied": "no"}, AT)
    path = str(rig.path)
    safe = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": path}
    if STRANGER is not None:
        assert stranger_git("-C", path, "log", "--oneline").returncode == 128
        # What it fetches with does not get that environment: it needs a file.
        assert stranger_git("clone", path, str(folder / "x"), **safe).returncode == 128
    assert "first config" in stranger_git("-C", path, "log", "--oneline", **safe).stdout
    (folder / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
    (folder / "theirs").mkdir()
    give(folder / "theirs")
    done = stranger_git("clone", path, str(folder / "theirs/x"), GIT_CONFIG_GLOBAL=str(folder / "gitconfig"))
    assert done.returncode == 0, done.stderr


async def test_the_managers_copy_is_its_own_and_fetches_every_tag_without_more_settings(rig: Rig) -> None:
    proposed = rig.folder / "proposed"
    (proposed / "worker").mkdir(parents=True)
    copy = proposed / "worker/config"
    give(proposed)
    give(copy.parent)
    with umask(0o077):
        assert await rig.repository.make_working_copy(copy, str(rig.path), STRANGER)
    assert {path.lstat().st_uid for path in [copy, *copy.rglob("*")]} == {proposed.stat().st_uid}
    assert {name for name in read_folder(copy) if not name.startswith(".git/")} == set(FILES)
    assert stranger_git("-C", str(copy), "status", "--porcelain").stdout == ""
    name = await rig.submit()
    await rig.repository.pin(1, name, None, {"denied": "too much"}, AT)
    fetched = stranger_git("-C", str(copy), "fetch", "applied")
    assert fetched.returncode == 0, fetched.stderr
    assert stranger_git("-C", str(copy), "log", "-1", "--format=%H", "denied/1").stdout.strip() == name
    assert stranger_git("-C", str(copy), "rev-parse", "applied/main").stdout.strip() == rig.first
    assert stranger_git("-C", str(copy), "commit", "--allow-empty", "-m", "mine").returncode == 0
    # The host's folders are not told.
    told = [name for name, content in read_folder(copy / ".git").items() if str(rig.folder).encode() in content]
    assert set(told) <= {"config", "FETCH_HEAD"}


async def test_a_copy_takes_the_place_of_an_empty_folder_only(rig: Rig) -> None:
    empty, used = rig.folder / "proposed/a/config", rig.folder / "proposed/b/config"
    empty.mkdir(parents=True)
    used.mkdir(parents=True)
    (used / "mine").write_text("x")
    assert await rig.repository.make_working_copy(empty, "/applied/worker")
    assert not await rig.repository.make_working_copy(empty, "/applied/worker")
    assert not await rig.repository.make_working_copy(used, "/applied/worker")
    assert read_folder(used) == {"mine": b"x"}
    assert not list((rig.folder / "staging").iterdir())


async def test_no_link_leads_the_copy_elsewhere(rig: Rig) -> None:
    elsewhere = rig.folder / "elsewhere"
    (elsewhere / "config").mkdir(parents=True)
    proposed = rig.folder / "proposed"
    proposed.mkdir()
    (proposed / "a").symlink_to(elsewhere)
    with pytest.raises(OSError):
        await rig.repository.make_working_copy(proposed / "a/config", "/applied/worker")
    (proposed / "b").mkdir()
    (proposed / "b/config").symlink_to(elsewhere / "config")
    assert not await rig.repository.make_working_copy(proposed / "b/config", "/applied/worker")
    assert read_folder(elsewhere) == {}
    assert not list((rig.folder / "staging").iterdir())


@pytest.mark.parametrize("remote", ["ext::sh -c id", "/a\n[core]", "/a b", "-x", "", '/a"', "/a;id", "/$(id)"])
async def test_only_a_plain_path_is_a_remote(rig: Rig, remote: str) -> None:
    with pytest.raises(InvalidInputError):
        await rig.repository.make_working_copy(rig.folder / "p/config", remote)


# -- crashes -----------------------------------------------------------------------------------------------

WRAPPER = """\
#!/bin/sh
# git, killed at its {k}-th call: before it begins, or just after, with a lock left behind.
echo x >> {count}
[ "$(wc -l < {count})" -eq {k} ] || exec git "$@"
{before}
kill -9 $$
"""


def make_wrapper(folder: Path, k: int, *, done: bool) -> str:
    program = folder / "git-wrapper"
    (folder / "count").unlink(missing_ok=True)
    before = f'git "$@"; touch {folder}/applied/worker/refs/heads/main.lock {folder}/applied/worker/packed-refs.lock'
    program.write_text(WRAPPER.format(k=k, count=folder / "count", before=before if done else ":"))
    program.chmod(0o755)
    return str(program)


async def live(repository: ConfigRepository, folder: Path) -> str:
    """Everything once that is done for one approval, and for its revert."""
    first = await repository.ensure(FILES, AT)
    tip, others = make_change("warm_s = 3\n", first)
    await repository.import_bundle(bundle_of(tip, others), tip.oid)
    tags: dict[str, str] = {}
    for status in ("proposal", "approved", "building"):
        tags[status] = "x"
        await repository.pin(1, tip.oid, None, tags, AT)
    await repository.write_files(tip.oid, folder / "out")
    await repository.pin(1, tip.oid, None, {**tags, "deployed": "x"}, AT)
    await repository.advance_main(tip.oid)
    back = await repository.make_revert(tip.oid, first, "back", AT)
    await repository.pin(2, back, None, {}, AT)
    await repository.advance_main(back)
    (folder / "proposed/worker").mkdir(parents=True, exist_ok=True)
    await repository.make_working_copy(folder / "proposed/worker/config", "/applied/worker")
    await repository.drop_incoming()
    return back


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True])
async def test_all_can_be_repeated_after_a_kill_at_any_call_of_git(done: bool) -> None:
    refs: list[dict[str, str]] = []
    k = 0
    died = True
    while died:
        k += 1
        with tempfile.TemporaryDirectory(prefix="hive-") as name:
            died = await die_and_live(Path(name), k, done=done, refs=refs)
    # The last round went through without a kill; all others ended in the same state as that one.
    assert k > 30
    assert all(found == refs[-1] for found in refs)


async def die_and_live(folder: Path, k: int, *, done: bool, refs: list[dict[str, str]]) -> bool:
    """Whether the k-th call of git was there to be killed. Afterwards all was done again."""
    path, staging = folder / "applied/worker", folder / "staging"
    program = make_wrapper(folder, k, done=done)
    died = False
    try:
        await live(ConfigRepository(path, staging, program=program), folder)
    except HiveError:
        died = True
    main = await live(ConfigRepository(path, staging), folder)
    assert read_folder(folder / "out") == {"agent.toml": b"warm_s = 3\n"}
    assert run_git(path, "fsck", "--full", "--strict", "--no-dangling") == ""
    found = Rig(folder, ConfigRepository(path, staging), main).refs()
    assert found["refs/heads/main"] == main
    refs.append(found)
    return died


async def test_it_is_read_and_written_at_the_same_time(rig: Rig) -> None:
    names = [await rig.submit(f"{number}") for number in range(6)]

    async def finish(number: int, name: str) -> None:
        await rig.repository.pin(number, name, None, {"denied": "x"}, AT)

    await asyncio.gather(*(finish(number, name) for number, name in enumerate(names, 1)))
    tags = await rig.repository.list_tags()
    assert [tags[f"denied/{number}"] for number in range(1, 7)] == names
