"""Bundles are bytes from an agent: what is not right about one is said, and nothing of it remains."""

import hashlib
import random
import resource
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from git_rig import (
    FILE,
    FILES,
    FOLDER,
    KINDS,
    LINK,
    MODULE,
    OFS_DELTA,
    REF_DELTA,
    SCRIPT,
    Object,
    blob,
    bundle,
    bundle_of,
    commit,
    copy_delta,
    make_entry,
    make_head,
    make_pack,
    make_repository,
    pack,
    plain_tree,
    read_folder,
    run_git,
    tree,
)
from hyperhive.core.errors import HiveError, InvalidInputError, TooLargeError
from hyperhive.host.configs.bundles import parse_bundle
from hyperhive.host.configs.repository import IMPORT_LIMITS, ConfigRepository
from hyperhive.wire.agent_link import BUNDLE_LIMIT_BYTES, COMMIT_REF, NOTES_REF

MIB = 1024 * 1024


@dataclass
class Rig:
    """An applied repo whose main is `first`."""

    folder: Path
    repository: ConfigRepository
    first: str

    def state(self) -> dict[str, bytes]:
        """All bytes that the daemon keeps: of the applied repo, and of what is staged."""
        return read_folder(self.folder / "applied") | read_folder(self.folder / "staging")

    async def refuse(self, content: bytes, name: str, notes: str = "") -> HiveError:
        """The error that a bundle is refused with, also if it is only to be read; nothing of it is left."""
        before = self.state()
        with pytest.raises((InvalidInputError, TooLargeError)) as read:
            await self.repository.read_bundle(content, name, notes)
        with pytest.raises((InvalidInputError, TooLargeError)) as caught:
            await self.repository.import_bundle(content, name, notes)
        assert read.value.message == caught.value.message
        assert self.state() == before
        assert str(self.folder) not in caught.value.message + caught.value.hint
        assert caught.value.hint
        return caught.value

    async def refuse_tree(self, root: Object, *others: Object) -> HiveError:
        tip = commit(root, [self.first])
        return await self.refuse(bundle_of(tip, [root, *others], [self.first]), tip.oid)


@pytest.fixture
async def rig(tmp_path: Path) -> Rig:
    repository, first = await make_repository(tmp_path)
    return Rig(tmp_path, repository, first)


# -- what is taken -----------------------------------------------------------------------------------------


async def test_a_commit_on_main_is_imported_with_what_it_needs(rig: Rig) -> None:
    root, *blobs = plain_tree({"agent.toml": b"warm_s = 3\n"})
    tip = commit(root, [rig.first])
    imported = await rig.repository.import_bundle(bundle_of(tip, [root, *blobs], [rig.first]), tip.oid)
    assert (imported.commit, imported.tree, imported.notes) == (tip.oid, root.oid, None)
    assert await rig.repository.read_files(tip.oid) == {"agent.toml": b"warm_s = 3\n"}
    assert await rig.repository.is_ancestor(rig.first, tip.oid)
    assert (await rig.repository.find_main()) == rig.first
    assert not list((rig.folder / "staging").iterdir())


async def test_a_bundle_is_read_without_a_trace(rig: Rig) -> None:
    root, *blobs = plain_tree({"agent.nix": b"{ }", "more.nix": b"1"})
    tip = commit(root, [rig.first])
    content = bundle_of(tip, [root, *blobs], [rig.first])
    before = rig.state()
    files = await rig.repository.read_bundle(content, tip.oid, base=rig.first)
    assert files == {"agent.nix": b"{ }", "more.nix": b"1"}
    assert rig.state() == before
    with pytest.raises(InvalidInputError, match="does not descend"):
        await rig.repository.read_bundle(bundle_of(stray := commit(root), [root, *blobs]), stray.oid, base=rig.first)
    assert rig.state() == before


async def test_the_same_bundle_again_is_no_error(rig: Rig) -> None:
    root, *blobs = plain_tree({"agent.toml": b"warm_s = 3\n"})
    tip = commit(root, [rig.first])
    content = bundle_of(tip, [root, *blobs], [rig.first])
    once = await rig.repository.import_bundle(content, tip.oid)
    state = rig.state()
    assert await rig.repository.import_bundle(content, tip.oid) == once
    assert rig.state() == state


async def test_staged_notes_come_with_their_commit(rig: Rig) -> None:
    notes_root, *notes_blobs = plain_tree({"task.md": b"Begin here.\n"})
    notes = commit(notes_root)
    root, *blobs = plain_tree(FILES)
    tip = commit(root, [rig.first])
    content = bundle(
        {COMMIT_REF: tip.oid, NOTES_REF: notes.oid}, pack([tip, root, *blobs, notes, notes_root, *notes_blobs])
    )
    imported = await rig.repository.import_bundle(content, tip.oid, notes.oid)
    assert imported.notes == notes.oid
    assert await rig.repository.read_files(notes.oid) == {"task.md": b"Begin here.\n"}


async def test_a_thin_bundle_of_git_itself_is_imported(rig: Rig) -> None:
    work = rig.folder / "work"
    run_git(rig.folder, "clone", "-q", str(rig.folder / "applied/worker"), str(work))
    # Large enough for git to send only how it differs.
    long = "".join(f"line {number}\n" for number in range(5000))
    name = rig.first
    for step in range(3):
        (work / "notes.md").write_text(long + f"{step}\n")
        run_git(work, "add", ".")
        run_git(work, "commit", "-qm", f"step {step}")
        name = run_git(work, "rev-parse", "HEAD")
        run_git(work, "update-ref", COMMIT_REF, name)
        run_git(work, "bundle", "create", "-q", str(rig.folder / "bundle"), COMMIT_REF, "--not", "HEAD^")
        await rig.repository.import_bundle((rig.folder / "bundle").read_bytes(), name)
    assert (await rig.repository.read_files(name))["notes.md"].decode() == long + "2\n"
    assert run_git(rig.folder / "applied/worker", "fsck", "--full", "--strict") == ""


async def test_what_a_bundle_has_beyond_the_commit_stays_out(rig: Rig) -> None:
    root, *blobs = plain_tree({"agent.toml": b"warm_s = 3\n"})
    tip, stowaway = commit(root, [rig.first]), blob(b"nobody asked for this\n")
    await rig.repository.import_bundle(bundle_of(tip, [root, *blobs, stowaway], [rig.first]), tip.oid)
    everything = run_git(rig.folder / "applied/worker", "cat-file", "--batch-all-objects", "--batch-check")
    assert tip.oid in everything
    assert stowaway.oid not in everything


async def test_a_commit_that_is_there_already_may_be_submitted_again(rig: Rig) -> None:
    imported = await rig.repository.import_bundle(bundle({COMMIT_REF: rig.first}, pack([]), [rig.first]), rig.first)
    assert imported.commit == rig.first


async def test_an_executable_file_stays_one(rig: Rig) -> None:
    script = blob(b"#!/bin/sh\n")
    root = tree([(SCRIPT, b"run", script)])
    tip = commit(root, [rig.first])
    await rig.repository.import_bundle(bundle_of(tip, [root, script], [rig.first]), tip.oid)
    [file] = await rig.repository.list_files(tip.oid)
    assert (file.path, file.size_bytes, file.executable, file.oid) == ("run", 10, True, script.oid)


# -- the bundle itself -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"# v2 git bundle\n", b"# v2 git bundle\n\n", b"PACK", b"#" * 5000, b"# v2 git bundle\n-\n"]
)
async def test_what_is_no_bundle_is_refused(rig: Rig, content: bytes) -> None:
    assert isinstance(await rig.refuse(content, rig.first), InvalidInputError)


async def test_a_bundle_cut_off_anywhere_is_refused(rig: Rig) -> None:
    root, *blobs = plain_tree(FILES | {"more": b"x" * 500})
    tip = commit(root, [rig.first])
    content = bundle_of(tip, [root, *blobs], [rig.first])
    for length in range(1, len(content), 29):
        await rig.refuse(content[:length], tip.oid)


async def test_a_damaged_bundle_is_refused_or_harmless(rig: Rig) -> None:
    root, *blobs = plain_tree({"agent.toml": b"warm_s = 3\n"})
    tip = commit(root, [rig.first])
    content = bundle_of(tip, [root, *blobs], [rig.first])
    dice = random.Random(1)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
        try:
            await rig.repository.import_bundle(bytes(damaged), tip.oid)
        except (InvalidInputError, TooLargeError):
            continue
        # A remark in the header: what counts is the same.
        assert await rig.repository.read_files(tip.oid) == {"agent.toml": b"warm_s = 3\n"}


async def test_a_bundle_over_the_limit_is_not_even_looked_at(rig: Rig) -> None:
    error = await rig.refuse(b"x" * (BUNDLE_LIMIT_BYTES + 1), rig.first)
    assert isinstance(error, TooLargeError)


async def test_a_bundle_with_too_many_objects_is_not_unpacked(rig: Rig) -> None:
    content = bundle({COMMIT_REF: rig.first}, make_pack([], count=2**32 - 1))
    assert isinstance(await rig.refuse(content, rig.first), TooLargeError)


async def test_a_bundle_that_promises_more_objects_than_it_has_is_refused(rig: Rig) -> None:
    await rig.refuse(bundle({COMMIT_REF: rig.first}, make_pack([], count=3)), rig.first)


async def test_a_bundle_of_a_sha_256_repository_is_refused(rig: Rig) -> None:
    other = rig.folder / "other"
    run_git(rig.folder, "init", "-q", "--object-format=sha256", str(other))
    run_git(other, "commit", "-q", "--allow-empty", "-m", "x")
    run_git(other, "update-ref", COMMIT_REF, "HEAD")
    run_git(other, "bundle", "create", "-q", str(rig.folder / "bundle"), COMMIT_REF)
    error = await rig.refuse((rig.folder / "bundle").read_bytes(), rig.first)
    assert "SHA-1" in error.hint


async def test_a_header_without_end_is_refused(rig: Rig) -> None:
    lines = "".join(f"-{rig.first} x\n" for _ in range(10_000))
    error = await rig.refuse(b"# v2 git bundle\n" + lines.encode(), rig.first)
    assert "header" in error.message


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/tags/deployed/9", "HEAD", "--upload-pack=x", "../../x"])
async def test_a_bundle_with_another_ref_is_refused(rig: Rig, ref: str) -> None:
    error = await rig.refuse(bundle({COMMIT_REF: rig.first, ref: rig.first}, pack([])), rig.first)
    assert "other refs" in error.message


async def test_a_bundle_with_one_ref_twice_is_refused(rig: Rig) -> None:
    head = f"# v2 git bundle\n{rig.first} {COMMIT_REF}\n{rig.first} {COMMIT_REF}\n\n"
    assert "other refs" in (await rig.refuse(head.encode() + pack([]), rig.first)).message


async def test_a_bundle_without_the_commits_ref_is_refused(rig: Rig) -> None:
    assert "missing" in (await rig.refuse(bundle({}, pack([])), rig.first)).hint


async def test_a_bundle_whose_commit_is_another_than_the_named_one_is_refused(rig: Rig) -> None:
    root, *blobs = plain_tree(FILES)
    tip, other = commit(root, [rig.first]), commit(root, [rig.first], "another")
    error = await rig.refuse(bundle_of(tip, [root, *blobs, other], [rig.first]), other.oid)
    assert other.oid in error.message
    assert tip.oid in error.hint


async def test_notes_that_are_not_named_or_not_brought_are_refused(rig: Rig) -> None:
    root, *blobs = plain_tree(FILES)
    tip, notes = commit(root, [rig.first]), commit(root)
    await rig.refuse(bundle_of(tip, [root, *blobs]), tip.oid, notes.oid)
    both = bundle({COMMIT_REF: tip.oid, NOTES_REF: notes.oid}, pack([tip, root, *blobs, notes]))
    await rig.refuse(both, tip.oid)


async def test_notes_with_a_history_are_refused(rig: Rig) -> None:
    root, *blobs = plain_tree(FILES)
    tip, notes = commit(root, [rig.first]), commit(root, [rig.first], "notes")
    both = bundle({COMMIT_REF: tip.oid, NOTES_REF: notes.oid}, pack([tip, root, *blobs, notes]))
    assert "parents" in (await rig.refuse(both, tip.oid, notes.oid)).message


@pytest.mark.parametrize("name", ["HEAD", "refs/heads/main", "--all", "-x", "..", "abc123", "A" * 40, "a" * 64, "0\n"])
async def test_only_a_full_name_names_a_commit(rig: Rig, name: str) -> None:
    with pytest.raises(InvalidInputError):
        await rig.repository.import_bundle(bundle({COMMIT_REF: rig.first}, pack([])), name)


# -- its history -------------------------------------------------------------------------------------------


async def test_a_bundle_that_builds_on_an_unknown_commit_says_what_to_do(rig: Rig) -> None:
    root, *blobs = plain_tree(FILES)
    elsewhere = commit(root, [rig.first], "never submitted")
    tip = commit(root, [elsewhere.oid])
    error = await rig.refuse(bundle_of(tip, [root, *blobs], [elsewhere.oid]), tip.oid)
    assert elsewhere.oid in error.message
    assert "rebase on applied/main" in error.hint


async def test_a_parent_that_neither_side_has_is_refused(rig: Rig) -> None:
    root, *blobs = plain_tree(FILES)
    tip = commit(root, ["1" * 40])
    await rig.refuse(bundle_of(tip, [root, *blobs]), tip.oid)


async def test_a_thin_pack_without_its_base_says_what_to_do(rig: Rig) -> None:
    base = blob(b"x" * 100)
    delta = copy_delta(100, 1, 100)
    entry = make_entry(REF_DELTA, len(delta), delta, bytes.fromhex(base.oid))
    root = tree([(FILE, b"x", base)])
    tip = commit(root, [rig.first])
    entries = [entry, *(make_entry(KINDS[item.kind], len(item.content), item.content) for item in (tip, root))]
    error = await rig.refuse(bundle({COMMIT_REF: tip.oid}, make_pack(entries)), tip.oid)
    assert "rebase on applied/main" in error.hint


async def test_a_file_without_its_content_is_refused(rig: Rig) -> None:
    await rig.refuse_tree(tree([(FILE, b"x", blob(b"kept back"))]))


async def test_a_folder_that_is_a_file_is_refused(rig: Rig) -> None:
    item = blob(b"x")
    await rig.refuse_tree(tree([(FOLDER, b"x", item)]), item)


@pytest.mark.parametrize("kind", ["tag", "blob", "tree"])
async def test_what_is_no_commit_is_refused(rig: Rig, kind: str) -> None:
    root, *blobs = plain_tree(FILES)
    tip = commit(root, [rig.first])
    text = f"object {tip.oid}\ntype commit\ntag x\ntagger M <m@a> 1 +0000\n\nx\n"
    other = {"tag": Object("tag", text.encode()), "blob": blobs[0], "tree": root}[kind]
    content = bundle({COMMIT_REF: other.oid}, pack([tip, root, *blobs, other]))
    assert f"is a {kind}" in (await rig.refuse(content, other.oid)).message


async def test_a_broken_commit_is_refused(rig: Rig) -> None:
    broken = Object("commit", b"tree nothing\n\nx")
    await rig.refuse(bundle_of(broken, []), broken.oid)


async def test_a_message_as_long_as_a_book_is_refused(rig: Rig) -> None:
    root, *blobs = plain_tree(FILES)
    tip = commit(root, [rig.first], "x" * 100_000)
    assert "message" in (await rig.refuse(bundle_of(tip, [root, *blobs]), tip.oid)).message


async def test_a_large_file_in_a_commit_on_the_way_is_refused(rig: Rig) -> None:
    large_root, large = plain_tree({"large": b"x" * 300_000})
    root, *blobs = plain_tree(FILES)
    middle = commit(large_root, [rig.first])
    tip = commit(root, [middle.oid], "taken out again")
    error = await rig.refuse(bundle_of(tip, [root, *blobs, middle, large_root, large]), tip.oid)
    assert "history" in error.message


# -- the tree ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "said"), [(LINK, "symbolic link"), (MODULE, "submodule"), ("100664", "mode"), ("100600", "mode")]
)
async def test_only_plain_files_are_taken(rig: Rig, mode: str, said: str) -> None:
    target = blob(b"/agents/other/state")
    error = await rig.refuse_tree(tree([(mode, b"notes.md", target)]), target)
    assert said in error.message
    assert "notes.md" in error.message


@pytest.mark.parametrize(
    "name",
    [
        *(b".git", b".GIT", b".git.", b"git~1", b".gitmodules", b".gitattributes", b".GitAttributes"),
        *(b"..", b".", b"-x", b"--upload-pack=x", b"a\\b", b" a", b"a ", b"a\nb", b"a\x1b[2J", b"a\x7f", b"\xff"),
        *("a\u202eb", "a\u200bb", "a\u00a0b", "a\u2066b", "a\u3164", "a\ufe0f", "\ufeffa", "a\u2028b", "a\u00adb"),
        *("\U000e0041", "a\u0085"),
    ],
)
async def test_a_name_that_misleads_is_refused(rig: Rig, name: bytes | str) -> None:
    item = blob()
    encoded = name if isinstance(name, bytes) else name.encode()
    error = await rig.refuse_tree(tree([(FILE, encoded, item)]), item)
    assert error.message.isprintable()


@pytest.mark.parametrize("name", [".git", "..", "-x", "\u202e"])
async def test_the_name_of_a_folder_is_no_exception(rig: Rig, name: str) -> None:
    item = blob()
    inner = tree([(FILE, b"x", item)])
    await rig.refuse_tree(tree([(FOLDER, name.encode(), inner)]), inner, item)


@pytest.mark.parametrize(("one", "other"), [("A.md", "a.md"), ("\u00e9", "e\u0301"), ("\u017f", "s"), ("x", "\uff58")])
async def test_two_names_that_look_the_same_are_refused(rig: Rig, one: str, other: str) -> None:
    item = blob()
    error = await rig.refuse_tree(tree([(FILE, one.encode(), item), (FILE, other.encode(), item)]), item)
    assert "spelling" in error.message


async def test_two_folders_that_differ_only_by_case_are_refused(rig: Rig) -> None:
    item = blob()
    one, other = tree([(FILE, b"x", item)]), tree([(FILE, b"y", item)])
    await rig.refuse_tree(tree([(FOLDER, b"Docs", one), (FOLDER, b"docs", other)]), one, other, item)


async def test_names_of_other_languages_are_taken(rig: Rig) -> None:
    root, *blobs = plain_tree({"résumé.md": b"1", "日本語.md": b"2", ".gitignore": b"3", "a b": b"4"})
    tip = commit(root, [rig.first])
    await rig.repository.import_bundle(bundle_of(tip, [root, *blobs]), tip.oid)
    assert set(await rig.repository.read_files(tip.oid)) == {"résumé.md", "日本語.md", ".gitignore", "a b"}


async def test_a_long_path_is_refused(rig: Rig) -> None:
    item = blob()
    assert "too long" in (await rig.refuse_tree(tree([(FILE, b"x" * 201, item)]), item)).message


async def test_a_deep_folder_is_refused(rig: Rig) -> None:
    item = blob()
    chain = [tree([(FILE, b"x", item)])]
    for _ in range(8):
        chain.insert(0, tree([(FOLDER, b"d", chain[0])]))
    assert "too deep" in (await rig.refuse_tree(*chain, item)).message


async def test_too_many_files_are_refused(rig: Rig) -> None:
    item = blob()
    root = tree([(FILE, f"{number:03}".encode(), item) for number in range(201)])
    assert isinstance(await rig.refuse_tree(root, item), TooLargeError)


async def test_a_large_file_is_refused(rig: Rig) -> None:
    root, item = plain_tree({"large": b"x" * (256 * 1024 + 1)})
    error = await rig.refuse_tree(root, item)
    assert "large" in error.message
    assert isinstance(error, TooLargeError)


async def test_files_too_large_together_are_refused(rig: Rig) -> None:
    item = blob(b"x" * 250_000)
    root = tree([(FILE, f"{number}".encode(), item) for number in range(5)])
    assert "together" in (await rig.refuse_tree(root, item)).message


# -- bombs: little to send, much to unpack -----------------------------------------------------------------


def make_zip_bomb(first: str) -> tuple[bytes, str]:
    """A file of 300 MiB in 300 KiB, made piece by piece: what a test has in memory counts as its children's, too."""
    size = 300 * MIB
    hashed, packer = hashlib.sha1(f"blob {size}\0".encode()), zlib.compressobj()
    packed = bytearray()
    for _ in range(300):
        hashed.update(bytes(MIB))
        packed += packer.compress(bytes(MIB))
    packed += packer.flush()
    root = tree([(FILE, b"zeros", hashed.hexdigest())])
    tip = commit(root, [first])
    plain = [make_entry(KINDS[item.kind], len(item.content), item.content) for item in (tip, root)]
    return bundle({COMMIT_REF: tip.oid}, make_pack([*plain, make_head(KINDS["blob"], size) + packed])), tip.oid


def make_tree_zip_bomb(first: str) -> tuple[bytes, str]:
    """A tree of 100 MiB, a million times the same entry but for its number."""
    item = blob()
    ending = b"\0" + bytes.fromhex(item.oid)
    root = Object("tree", b"".join(b"100644 %012d" % number + ending for number in range(100_000)))
    tip = commit(root, [first])
    return bundle_of(tip, [root, item]), tip.oid


def make_tree_bomb(first: str) -> tuple[bytes, str]:
    """Ten times the same folder, ten levels deep: ten thousand million files."""
    item = blob()
    trees = [tree([(FILE, b"%d" % number, item) for number in range(10)])]
    for _ in range(10):
        trees.append(tree([(FOLDER, b"%d" % number, trees[-1]) for number in range(10)]))
    tip = commit(trees[-1], [first])
    return bundle_of(tip, [*trees, item]), tip.oid


def make_delta_bomb(first: str) -> tuple[bytes, str]:
    """A delta that copies 64 KiB again and again, to 4 GiB."""
    base = blob(bytes(0xFFFF))
    delta = copy_delta(0xFFFF, 65_536, 0xFFFF)
    entry = make_entry(REF_DELTA, len(delta), delta, bytes.fromhex(base.oid))
    return bundle({COMMIT_REF: first}, make_pack([make_entry(KINDS["blob"], 0xFFFF, base.content), entry])), first


def make_delta_chain(first: str) -> tuple[bytes, str]:
    """Each object twenty times as large as the one before, up to 3 GiB."""
    entries, size = [make_entry(KINDS["blob"], 20, bytes(20))], 20
    for _ in range(6):
        # The base is the entry before: how far back that begins is one number of seven bits a byte, the highest first.
        delta = copy_delta(size, 20, min(size, 0xFFFFFF))
        back = len(entries[-1])
        entries.append(make_entry(OFS_DELTA, len(delta), delta, bytes([back])))
        size = 20 * min(size, 0xFFFFFF)
    return bundle({COMMIT_REF: first}, make_pack(entries)), first


def make_delta_flood(first: str) -> tuple[bytes, str]:
    """Four thousand deltas of 16 MiB each on one base: 64 GiB to hash."""
    base = blob(bytes(0xFFFF))
    entries = [make_entry(KINDS["blob"], 0xFFFF, base.content)]
    for number in range(4000):
        delta = copy_delta(0xFFFF, 256, 0xFFFF - number)
        entries.append(make_entry(REF_DELTA, len(delta), delta, bytes.fromhex(base.oid)))
    return bundle({COMMIT_REF: first}, make_pack(entries)), first


@pytest.mark.parametrize(
    "make",
    [make_zip_bomb, make_tree_zip_bomb, make_tree_bomb, make_delta_bomb, make_delta_chain, make_delta_flood],
)
async def test_a_bomb_costs_little_and_leaves_nothing(rig: Rig, make: Callable[[str], tuple[bytes, str]]) -> None:
    content, name = make(rig.first)
    assert len(content) <= BUNDLE_LIMIT_BYTES
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    await rig.refuse(content, name)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # It is unpacked twice: to be read, and to be imported.
    assert took_s < 2 * IMPORT_LIMITS.cpu_s + 5
    # A child counts what its parent had in memory when it forked: a bomb shows above both.
    own = resource.getrusage(resource.RUSAGE_SELF)
    if after.ru_maxrss > max(before.ru_maxrss, own.ru_maxrss):
        assert after.ru_maxrss * 1024 < IMPORT_LIMITS.memory_bytes + 64 * MIB


# -- the header alone --------------------------------------------------------------------------------------


def test_the_header_says_what_the_bundle_builds_on() -> None:
    parsed = parse_bundle(bundle({COMMIT_REF: "a" * 40}, pack([]), ["b" * 40, "c" * 40]))
    assert parsed.prerequisites == ("b" * 40, "c" * 40)
    assert parsed.refs == {COMMIT_REF: "a" * 40}
    assert parsed.objects == 0
