"""The words of a command, from what tree-sitter-bash made of them: what the program gets, where that can be told."""

import itertools
import re
from dataclasses import dataclass, field

from tree_sitter import Node

from hyperhive.core.bash_line import Word

_LEADING_SPACE = re.compile(rb"(?:[ \t\n]|\\\n)*")
_PLAIN_WORD = re.compile(r"(?:[^ \t\n'\"$`|&;()<>\\]|\\[^\n])+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_EXPANDED_CHARS = re.compile(r"[*?\[{]")
_RAW_STRING = re.compile(r"'[^']*'")
_STRING_TEXT = re.compile(r"(?:[^\"\\$`]|\\.)*", re.DOTALL)
_ANSI_C_STRING = re.compile(r"\$'(?:[^'\\]|\\.)*'", re.DOTALL)
_EXPANSION = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9?#$@*!_-])|\$\{[A-Za-z_][A-Za-z0-9_]*\}")
# In double quotes; before anything else bash would expand something.
_AFTER_LONE_DOLLAR = re.compile(rb"[ \t\n.,;:/)%=+|&\"]")


@dataclass(slots=True)
class Findings:
    """What speaks against a line, in the order it was found; see `CommandLine`."""

    beyond: list[str] = field(default_factory=list[str])
    broken: str = ""


@dataclass(frozen=True, slots=True)
class WordReader:
    """Reads words of one line. What is not as bash would read it goes into `findings`."""

    source: bytes
    findings: Findings

    def text_of(self, node: Node) -> str:
        return self._slice(self.start_of(node), node.end_byte)

    def start_of(self, node: Node) -> int:
        """Where `node` begins. The parser takes the space before some pieces for a part of them."""
        space = _LEADING_SPACE.match(self.source, node.start_byte, node.end_byte)
        return space.end() if space else node.start_byte

    def read(self, node: Node, *, first: bool = True) -> Word:
        """The word that `node` is. `first`: it does not follow another piece of the same word."""
        text = self.text_of(node)
        match node.type:
            case "command_name":
                return self.read(node.children[0]) if node.child_count == 1 else Word(None)
            case "word" | "number" | "test_operator":
                return self._read_plain(text, first=first)
            case "raw_string" if _RAW_STRING.fullmatch(text):
                return Word(text[1:-1])
            case "string":
                return self._read_string(node)
            case "concatenation":
                return self._read_concatenation(node)
            case "simple_expansion" | "expansion":
                return self._read_expansion(text)
            case "command_substitution" | "process_substitution":
                return Word(None, substitutes=True)
            case "brace_expression":
                return Word(None)
            case "ansi_c_string" if _ANSI_C_STRING.fullmatch(text):
                return Word(None)
            case _:
                return self._refuse("a word of an unknown kind")

    def _refuse(self, finding: str) -> Word:
        self.findings.beyond.append(finding)
        return Word(None, substitutes=True)

    def _read_plain(self, text: str, *, first: bool) -> Word:
        if not _PLAIN_WORD.fullmatch(text) or (first and text.startswith("#")):
            return self._refuse("an odd word")
        if _EXPANDED_CHARS.search(_ESCAPED.sub("", text)) or (first and text.startswith("~")):
            return Word(None)
        return Word(_ESCAPED.sub(r"\1", text))

    def _read_string(self, node: Node) -> Word:
        """What is between double quotes. The parser leaves some spaces out of its pieces: they count all the same."""
        pieces = [child for child in node.children if child.type not in {"string_content", '"'}]
        position, literal, words = node.start_byte + 1, "", list[Word]()
        for piece in pieces:
            literal += self._slice(position, self.start_of(piece))
            position = piece.end_byte
            words.append(self._read_piece(piece))
        literal += self._slice(position, node.end_byte - 1)
        if not _STRING_TEXT.fullmatch(literal) or node.children[0].type != '"' or node.children[-1].type != '"':
            return self._refuse("an odd string")
        if words:
            return Word(None, any(word.substitutes for word in words))
        return Word(re.sub(r"\\([$`\"\\])", r"\1", literal.replace("\\\n", "")))

    def _read_piece(self, piece: Node) -> Word:
        """An expansion or substitution in a string, or a `$` that stands for itself."""
        if piece.is_named:
            return self.read(piece)
        follower = self.source[piece.end_byte : piece.end_byte + 1]
        if piece.type != "$" or not _AFTER_LONE_DOLLAR.fullmatch(follower):
            return self._refuse("an odd string")
        return Word(None)

    def _read_concatenation(self, node: Node) -> Word:
        children = node.children
        if any(before.end_byte != self.start_of(after) for before, after in itertools.pairwise(children)):
            self.findings.broken = "a line that ends or goes on in an odd place"
        words = [self.read(child, first=index == 0) for index, child in enumerate(children)]
        texts = [word.text for word in words if word.text is not None]
        text = "".join(texts) if len(texts) == len(words) else None
        return Word(text, any(word.substitutes for word in words))

    def _read_expansion(self, text: str) -> Word:
        if _EXPANSION.fullmatch(text):
            return Word(None)
        if "@P" in text:
            self.findings.broken = "an expansion that runs what it finds"
        return self._refuse("an expansion other than $name or ${name}")

    def _slice(self, start: int, end: int) -> str:
        return self.source[start:end].decode(errors="replace")
