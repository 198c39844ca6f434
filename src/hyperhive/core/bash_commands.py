"""Which simple commands a line of bash runs, found by a real parser (tree-sitter-bash).

A parser may see a line otherwise than bash does. So what it found is held against bash's own rules, piece by piece,
for the part of the language that a list of allowed commands follows: commands, their words, `;`, `&&`, `||`, `|`,
`!`, groups, subshells and substitutions. All else is named in `CommandLine.beyond`.

Heavy: the harness's own process never imports this, only its engine and the daemon do.
"""

import itertools
import re
from collections.abc import Iterator

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from hyperhive.core.bash_line import Command, CommandLine, Word
from hyperhive.core.bash_words import Findings, WordReader

# The parser takes time with the square of what it does not understand: about two seconds for this much.
LINE_LIMIT_BYTES = 16 * 1024
# Deeper than any line that is meant to be read.
_DEPTH_LIMIT = 100

# Also said of some lines that are well: the parser reads `a | b | c`, a line feed and `d && e` as if `d` were an
# argument of `c`.
ODD_LINE_END = "a line that ends or goes on in an odd place (write `;` between the commands)"

_LANGUAGE = Language(tree_sitter_bash.language())

# bash takes these for grammar where a command begins; a parser that saw a command there was wrong.
_GRAMMAR_WORDS = frozenset(
    ("if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "select", "function")
)
_NAME = re.compile(r"[A-Za-z0-9_./+:@,-]+")
# To bash a part of a word like any letter. The grammar's own C code looks characters up in a table that ends long
# before them: it reads past it, and crashes with some. So the parser gets a dot for each byte of theirs.
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# Between words, and between commands. A line continued in the middle of a word would be one word to bash.
_BLANK = re.compile(rb"(?:[ \t]|[ \t]\\\n)+")
_SPACE = re.compile(rb"(?:[ \t\n]|[ \t]\\\n)*")

# What an allow list follows: what holds commands, and what separates them there.
_STRUCTURE = frozenset(
    {
        "program",
        "list",
        "pipeline",
        "negated_command",
        "subshell",
        "compound_statement",
        "command_substitution",
        "process_substitution",
        "redirected_statement",
    }
)
_OPERATORS = frozenset({"&&", "||", "|", "|&", ";", "(", ")", "{", "}", "$(", "<(", ">(", "!"})
_CLOSERS = frozenset({")", "}"})
_AFTER_GROUP = (b"", b" ", b"\t", b"\n", b";", b"&", b"|", b")")
_REDIRECTS = frozenset({"file_redirect", "herestring_redirect", "heredoc_redirect"})
_NO_ARGUMENTS = _REDIRECTS | {"variable_assignment", "comment"}
_PARTS_OF_WORDS = frozenset(
    {
        "ansi_c_string",
        "brace_expression",
        "command_name",
        "concatenation",
        "expansion",
        "file_descriptor",
        "number",
        "raw_string",
        "simple_expansion",
        "special_variable_name",
        "string",
        "string_content",
        "test_operator",
        "variable_name",
        "word",
    }
)
# What an allow list does not follow, for people.
_BEYOND = {
    "&": "a command in the background",
    "`": "`…` (write $(…))",
    "arithmetic_expansion": "arithmetic",
    "c_style_for_statement": "a loop",
    "case_statement": "`case`",
    "declaration_command": "setting variables",
    "for_statement": "a loop",
    "function_definition": "a function",
    "heredoc_redirect": "a here-document (write the text in quotes)",
    "if_statement": "`if`",
    "test_command": "a test in brackets",
    "unset_command": "setting variables",
    "variable_assignment": "setting variables",
    "variable_assignments": "setting variables",
    "while_statement": "a loop",
}


def parse_command_line(text: str) -> CommandLine:
    """What a shell would run for `text`. Never raises: what is not understood is said in `broken`."""
    if _CONTROL.search(text):
        return CommandLine(broken="a control character")
    try:
        source = text.encode()
    except UnicodeEncodeError:
        return CommandLine(broken="a character that is none")
    if len(source) > LINE_LIMIT_BYTES:
        return CommandLine(broken=f"more than {LINE_LIMIT_BYTES} bytes")
    # The nodes are only looked at while the tree is held.
    tree = Parser(_LANGUAGE).parse(_NOT_ASCII.sub(b".", source))
    if tree.root_node.has_error:
        return CommandLine(broken="a syntax that the parser does not know")
    return _Reader(source).read(tree.root_node)


class _Reader:
    """Goes through one tree and collects."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._findings = Findings()
        self._words = WordReader(source, self._findings)
        self._commands: list[Command] = []

    def read(self, root: Node) -> CommandLine:
        source = self._source
        if not _SPACE.fullmatch(source[: root.start_byte]) or not _SPACE.fullmatch(source[root.end_byte :]):
            self._add_beyond("odd space around the line")
        pending = [(root, 0)]
        while pending:
            node, depth = pending.pop()
            if depth > _DEPTH_LIMIT:
                return CommandLine(broken="too much nesting")
            self._visit(node)
            pending.extend((child, depth + 1) for child in reversed(node.children))
        return CommandLine(tuple(self._commands), tuple(dict.fromkeys(self._findings.beyond)), self._findings.broken)

    def _visit(self, node: Node) -> None:
        match node.type:
            case "command":
                self._visit_command(node)
            case "comment":
                self._visit_comment(node)
            case "file_redirect":
                self._visit_file_redirect(node)
            case "herestring_redirect":
                self._visit_herestring(node)
            case "declaration_command" | "unset_command":
                self._visit_declaration(node)
            case kind if kind in _STRUCTURE:
                self._check_structure(node)
            case kind if node.is_named:
                if kind not in _PARTS_OF_WORDS:
                    self._add_beyond(_BEYOND.get(kind, f"`{self._show(node)}`"))
            case kind if node.parent is not None and node.parent.type in _STRUCTURE and kind not in _OPERATORS:
                self._add_beyond(_BEYOND.get(kind, f"`{kind}`"))
            case _:
                pass  # a token that is read with what it is part of

    def _add_beyond(self, finding: str) -> None:
        self._findings.beyond.append(finding)

    # -- what separates commands ---------------------------------------------------------------------------------

    def _check_structure(self, node: Node) -> None:
        """Is what separates the commands for the parser what separates them for bash?"""
        if not all(self._is_separated(before, after) for before, after in itertools.pairwise(node.children)):
            self._add_beyond("odd space between commands")
        text = self._words.text_of(node)
        if text.startswith(("((", "$((")):
            self._add_beyond("`((`")
        if text.startswith("`") and "\\" in text:
            self._findings.broken = "a backslash between backquotes"
        if node.type == "compound_statement" and not self._is_bash_group(node):
            self._add_beyond("odd space in `{ …; }`")

    def _is_separated(self, before: Node, after: Node) -> bool:
        gap = self._source[before.end_byte : self._words.start_of(after)]
        if not _SPACE.fullmatch(gap):
            return False
        newline = b"\n" in gap.replace(b"\\\n", b"")
        if after.type in _REDIRECTS:
            # Otherwise a number or `{name}` before it would be part of it.
            return bool(gap) and not newline
        if before.type == "!":
            return bool(gap)
        if after.is_named and before.is_named:
            return newline or after.type == "comment"
        return after.is_named or after.type in _CLOSERS or not newline

    def _is_bash_group(self, node: Node) -> bool:
        """`{` must stand alone and `}` where a command could begin: they are words to bash elsewhere."""
        opened, last, closed = node.children[0], node.children[-2], node.children[-1]
        if opened.type != "{" or self._byte_after(opened) not in (b" ", b"\t", b"\n"):
            return False
        ended = last.type == ";" or b"\n" in self._source[last.end_byte : closed.start_byte]
        return ended and self._byte_after(closed) in _AFTER_GROUP

    def _visit_comment(self, node: Node) -> None:
        before = self._source[max(0, node.start_byte - 1) : node.start_byte]
        is_whole_line = self._byte_after(node) in (b"", b"\n") and "\n" not in self._words.text_of(node)
        is_between = node.parent is not None and node.parent.type in _STRUCTURE
        if not is_whole_line or not is_between or before not in (b"", b" ", b"\t", b"\n", b";"):
            self._add_beyond("an odd comment")

    def _byte_after(self, node: Node) -> bytes:
        return self._source[node.end_byte : node.end_byte + 1]

    # -- commands ------------------------------------------------------------------------------------------------

    def _visit_command(self, node: Node) -> None:
        if any(gap == b"" for gap in self._check_gaps(node)):
            self._add_beyond("odd space in a command")
        words = [self._words.read(child) for child in node.children if child.type not in _NO_ARGUMENTS]
        self._add_command([*words, *self._words_behind_redirects(node)], node)

    def _check_gaps(self, node: Node) -> list[bytes]:
        """What is between the parts of a command or a redirection, which must be on one line."""
        gaps = [
            self._source[before.end_byte : self._words.start_of(after)]
            for before, after in itertools.pairwise(node.children)
        ]
        if any(gap and not _BLANK.fullmatch(gap) for gap in gaps):
            # The parser sees one command, bash two; or two words, and bash one.
            self._findings.broken = ODD_LINE_END
        return gaps

    def _words_behind_redirects(self, command: Node) -> Iterator[Word]:
        """The parser takes the words behind `> file` for more files; to bash they are arguments."""
        outer = command.parent
        siblings = outer.children if outer is not None and outer.type == "redirected_statement" else []
        for redirect in (child for child in (*command.children, *siblings) if child.type in _REDIRECTS):
            files = redirect.children_by_field_name("destination")[1:]
            for word in files + redirect.children_by_field_name("argument"):
                yield self._words.read(word)

    def _visit_declaration(self, node: Node) -> None:
        """`export`, `declare`, `unset` …: bash reads their arguments in a way of its own."""
        self._add_beyond(_BEYOND[node.type])
        name = Word(self._words.text_of(node.children[0]))
        self._add_command([name, *(Word(None) for _ in node.children[1:])], node)

    def _add_command(self, words: list[Word], node: Node) -> None:
        if not words:
            return
        name = words[0].text
        if name is None:
            self._findings.broken = "the name of a command is not written out"
        elif not _NAME.fullmatch(name):
            self._findings.broken = "the name of a command has characters that names do not have"
        elif name in _GRAMMAR_WORDS:
            self._findings.broken = f"`{name}` where a command begins"
        else:
            self._commands.append(Command(tuple(words), self._words.text_of(node)))

    # -- redirections --------------------------------------------------------------------------------------------

    def _visit_file_redirect(self, node: Node) -> None:
        self._check_gaps(node)
        files = node.children_by_field_name("destination")
        operator = next((child.type for child in node.children if not child.is_named), "")
        file = self._words.read(files[0]).text if len(files) == 1 else None
        text = self._words.text_of(node)
        if file is None or not _is_harmless(operator, file):
            self._add_beyond("writing to a file" if ">" in operator else "such a redirection")
        if "\n" in text or not re.match(rf"[0-9]*{re.escape(operator)}", text):
            self._add_beyond("an odd redirection")
        if len(files) > 1 and not _has_command(node):
            self._findings.broken = "words behind a redirection"

    def _visit_herestring(self, node: Node) -> None:
        self._check_gaps(node)
        words = [child for child in node.children if child.is_named and child.type != "file_descriptor"]
        if len(words) != 1 or not re.match(r"[0-9]*<<<[ \t]*[^ \t\n\\]", self._words.text_of(node)):
            self._add_beyond("such a here-string")
        for word in words:
            self._words.read(word)

    def _show(self, node: Node) -> str:
        return self._words.text_of(node)[:40]


def _is_harmless(operator: str, file: str) -> bool:
    if operator in {">", ">>", "&>", "&>>"}:
        return file == "/dev/null"
    if operator == ">&":
        return file in {"1", "2"}
    # bash opens network connections by names in /dev.
    return operator == "<" and (file == "/dev/null" or not file.startswith("/dev/"))


def _has_command(redirect: Node) -> bool:
    """Whether the words behind `redirect` are read as those of a command."""
    outer = redirect.parent
    if outer is None or outer.type == "command":
        return outer is not None
    return outer.type == "redirected_statement" and outer.children[0].type == "command"
