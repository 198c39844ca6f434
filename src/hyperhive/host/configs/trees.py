"""What a tree of a config may hold: a few plain text-sized files under names that read as what they are."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyperhive.core.errors import InvalidInputError, TooLargeError
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.system.git import Git, ObjectInfo, TreeEntry, parse_tree

FILES_LIMIT = 200
FILE_LIMIT_BYTES = 256 * 1024
TREE_LIMIT_BYTES = 1024 * 1024
PATH_LIMIT_CHARS = 200
DEPTH_LIMIT = 8

_FOLDER = "40000"
_MODES = {"100644": False, "100755": True}
_REFUSED_MODES = {
    "120000": ("a symbolic link", "put a copy of the file in its place"),
    "160000": ("a submodule", "put its files in its place"),
}
_REFUSED_NAMES = {
    ".git": "such a folder is git's own",
    ".gitmodules": "submodules are not part of a config",
    ".gitattributes": "attributes can hide a change from whoever reviews it",
}
# What no letter is and takes no ink: characters that a terminal obeys, blanks other than the space, unassigned ones.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Letters and marks that show nothing all the same (Unicode, Default_Ignorable_Code_Point), and the empty Braille cell.
_HIDDEN_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_VARIATION_SELECTORS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))


@dataclass(frozen=True, slots=True)
class TreeFile:
    path: str
    size_bytes: int
    executable: bool
    oid: str


@dataclass(frozen=True, slots=True)
class PlainFile:
    """A file of a tree, as the tree tells it: its size is not in there."""

    path: str
    executable: bool
    oid: str


class _Tree:
    """What is found of one tree so far. Its methods raise InvalidInputError and TooLargeError."""

    def __init__(self, root: str) -> None:
        self.pending = [("", root)]
        self.files: list[PlainFile] = []
        self._spellings: dict[str, str] = {}

    def add(self, folder: str, entry: TreeEntry) -> None:
        path = parse_path(folder, entry.name)
        if refused := _REFUSED_MODES.get(entry.mode):
            what, hint = refused
            raise InvalidInputError(f"{show_path(path)} is {what}: a config holds plain files only", hint)
        self._add_spelling(path)
        if len(self._spellings) > 2 * FILES_LIMIT:
            raise TooLargeError(f"the commit has more than {FILES_LIMIT} files", "keep to what the agent needs")
        if entry.mode == _FOLDER:
            self.pending.append((f"{path}/", entry.oid))
            return
        if entry.mode not in _MODES:
            raise InvalidInputError(
                f"{show_path(path)} has the mode {render_safe_line(entry.mode)}", "only 100644 and 100755 are allowed"
            )
        self.files.append(PlainFile(path, _MODES[entry.mode], entry.oid))
        if len(self.files) > FILES_LIMIT:
            raise TooLargeError(f"the commit has more than {FILES_LIMIT} files", "keep to what the agent needs")

    def _add_spelling(self, path: str) -> None:
        plain = unicodedata.normalize("NFKC", path).casefold()
        if other := self._spellings.get(plain):
            raise InvalidInputError(
                f"{show_path(other)} and {show_path(path)} differ at most in their spelling", "rename one of them"
            )
        self._spellings[plain] = path


async def read_trees(git: Git, names: Sequence[str]) -> list[list[PlainFile]]:
    """The files of trees (or of commits, as `<commit>^{tree}`), each sorted by path.

    Level by level, so that a small tree that names itself a thousand times costs no more than its first page.
    Raises InvalidInputError and TooLargeError for what a config may not hold, and GitError.
    """
    trees = [_Tree(name) for name in names]
    while pending := [(tree, prefix, oid) for tree in trees for prefix, oid in tree.pending]:
        for tree in trees:
            tree.pending = []
        wanted = list(dict.fromkeys(oid for _, _, oid in pending))
        found = dict(zip(wanted, await git.read_objects(wanted), strict=True))
        for tree, prefix, oid in pending:
            content = found[oid]
            if content is None or content.kind != "tree":
                raise InvalidInputError("the commit is not whole: a folder of it is missing", "git fsck tells more")
            for entry in parse_tree(content.content):
                tree.add(prefix, entry)
    return [sorted(tree.files, key=lambda file: file.path) for tree in trees]


def check_sizes(files: Sequence[PlainFile], infos: Mapping[str, ObjectInfo]) -> list[TreeFile]:
    """The files with their sizes. Raises TooLargeError, and InvalidInputError for a file whose content is missing."""
    sized: list[TreeFile] = []
    for file in files:
        info = infos.get(file.oid)
        if info is None or info.kind != "blob":
            raise InvalidInputError(
                f"the commit is not whole: {show_path(file.path)} has no content", "git fsck tells more"
            )
        if info.size_bytes > FILE_LIMIT_BYTES:
            raise TooLargeError(
                f"{show_path(file.path)} is {info.size_bytes:,} bytes long",
                f"a file of a config has at most {FILE_LIMIT_BYTES:,}",
            )
        sized.append(TreeFile(file.path, info.size_bytes, file.executable, file.oid))
    if sum(file.size_bytes for file in sized) > TREE_LIMIT_BYTES:
        raise TooLargeError(f"the files are together more than {TREE_LIMIT_BYTES:,} bytes long", "leave some out")
    return sized


def parse_path(folder: str, name: bytes) -> str:
    """The path of the entry `name` in `folder`, which is empty or ends in '/'. Raises InvalidInputError."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        shown = show_path(folder + name.decode("utf-8", "backslashreplace"))
        raise InvalidInputError(f"the name {shown} is not UTF-8", "rename the file") from None
    path = folder + text
    if problem := _find_problem(text):
        raise InvalidInputError(f"{show_path(path)}: {problem}", "rename the file, or leave it out")
    if len(path) > PATH_LIMIT_CHARS:
        raise InvalidInputError(
            f"{show_path(path)} is too long", f"a path of a config has at most {PATH_LIMIT_CHARS} characters"
        )
    if path.count("/") >= DEPTH_LIMIT:
        raise InvalidInputError(f"{show_path(path)} is too deep", f"at most {DEPTH_LIMIT - 1} folders deep")
    return path


def check_path(path: str) -> None:
    """Raises InvalidInputError for a path that no file of a config may have."""
    folder = ""
    for name in path.split("/"):
        parse_path(folder, name.encode("utf-8", "surrogatepass"))
        folder += f"{name}/"


def show_path(path: str) -> str:
    """A path of an agent for a message: in quotes, of a bounded length, and with what is hidden written out."""
    shown = "".join(char.encode("unicode_escape").decode() if is_hidden(char) else char for char in path)
    return f"'{cut_text(shown, PATH_LIMIT_CHARS)}'"


def _find_problem(name: str) -> str:
    """Why a file or folder may not be called `name`; empty if it may."""
    # What some file systems take for the same name as '.git'.
    plain = name.rstrip(" .").casefold()
    if name in {"", ".", ".."} or "/" in name or plain.startswith("git~"):
        return "no file may be called so"
    if reason := _REFUSED_NAMES.get(plain):
        return f"no file may be called so, {reason}"
    if name.startswith("-"):
        return "the name begins with '-', like an option"
    if name != name.strip():
        return "the name begins or ends with a blank"
    if "\\" in name:
        return "the name has a backslash"
    if any(is_hidden(char) for char in name):
        return "the name has a character that cannot be seen"
    return ""


def is_hidden(char: str) -> bool:
    """Whether a character of a name shows nothing, or is obeyed instead of shown."""
    if char == " ":
        return False
    if unicodedata.category(char) in _HIDDEN_CATEGORIES or char in _HIDDEN_LETTERS:
        return True
    return any(ord(char) in selectors for selectors in _VARIATION_SELECTORS)
