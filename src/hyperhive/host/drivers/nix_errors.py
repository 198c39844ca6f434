"""What nix says when it cannot evaluate an agent's flake, in the words of the agent's files. Pure.

nix 2.8 tells the error first and then where it came from, the nearest place first; newer ones tell the farthest place
first and the error last. Either way, what counts is the place in the agent's own files that is nearest to the error.
Parts of the text are the agent's own choice: it can lead to another line of its own files, and to nothing else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.host.configs.trees import PATH_LIMIT_CHARS
from hyperhive.host.drivers.nixos_flake import CONFIG_FOLDER
from hyperhive.wire.agent_nix import NIX_FILE

TEXT_LIMIT_CHARS = 600
# More of a message is not looked at.
_MESSAGE_LIMIT_CHARS = 8192
# Where the sandbox has a store of its own.
PRIVATE_STORE = Path("/run/evaluation/scratch/store")

# What a terminal would obey: colours, and titles with what ends them.
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_ERROR_AT_MARGIN = re.compile(r"^error:", re.MULTILINE)
_NESTED_ERROR = re.compile(r"^ {7}error: ", re.MULTILINE)
# What follows a message: where it was, on the way to what, the code there, and advice that is not for an agent.
_MESSAGE_END = re.compile(r"^ *(?:at .*:\d+:\d+:?|… .*|\d+\|.*|\(use '--.*|\(stack trace .*)$")
_ADVICE = re.compile(r" ?\(use '?--[^)]{0,100}\)")
# A file of the flake as nix names it: in its store, or as newer ones write what was never copied there.
_STORE = rf"(?:{re.escape(str(PRIVATE_STORE))})?/nix/store/[a-z0-9]{{32}}-"
_OWN = rf"(?:{_STORE}source|«[^»\n]{{1,300}}»)/{CONFIG_FOLDER}/"
_PLACE = rf"{_OWN}(?P<file>[^\n:'`]{{1,{PATH_LIMIT_CHARS}}}):(?P<line>\d{{1,9}}):\d{{1,9}}"
_PLACE_LINE = re.compile(rf"^ *at {_PLACE}:? *$", re.MULTILINE)
_PLACE_WITHIN = re.compile(_PLACE)
_OWN_FILE = re.compile(rf"[`']{_OWN}(?P<file>[^\n'`]{{1,{PATH_LIMIT_CHARS}}})'")
_OWN_FOLDER = re.compile(_OWN)
# The last one may be cut off.
_STORE_PATH = re.compile(rf"{_STORE}(?:source(?:/|(?![\w.-])))?|/nix/store/[a-z0-9]{{0,32}}$")
_OPTION = re.compile(r"option `([^'`\n]{1,300})'")
# The parts of an option's name that a file has as they are.
_NAME = re.compile(r"(?<![\w\"\[<-])[A-Za-z_][\w-]*(?![\w\"\]>-])")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nix failed. `file` is one of the agent's, with `line` (from 1) if that is known; None: no word of one."""

    text: str
    file: str | None = None
    line: int | None = None

    def render(self) -> str:
        """Such as `agent.nix line 12: attribute 'foo' missing`."""
        place = f" line {self.line}" if self.line else ""
        return f"{render_safe_line(self.file or NIX_FILE)}{place}: {self.text}"


def parse_failure(stderr: bytes, files: Mapping[str, bytes], folders: Mapping[Path, str]) -> Failure:
    """The failure that nix told on its standard error.

    `files` are those of the config. `folders` have what to call places that are the machine's or the sandbox's own;
    the text never names them.
    """
    said = _ESCAPES.sub("", stderr.decode("utf-8", "replace"))
    margins = [found.start() for found in _ERROR_AT_MARGIN.finditer(said)]
    # What comes before is what the agent had traced.
    said = said[margins[-1] :] if margins else said
    nested = [found.end() for found in _NESTED_ERROR.finditer(said)]
    start = nested[-1] if nested else len("error:") if margins else 0
    message = _take_message(said[start:])
    text = cut_text(render_safe_line(_shorten(message, folders)), TEXT_LIMIT_CHARS) or "it cannot be evaluated"
    file, line = _find_place(said, start, message, files)
    return Failure(text, file, line)


def _take_message(said: str) -> str:
    lines: list[str] = []
    for line in said.splitlines():
        if _MESSAGE_END.match(line):
            break
        if line.strip():
            lines.append(line.strip())
    return " ".join(lines)[:_MESSAGE_LIMIT_CHARS]


def _find_place(said: str, start: int, message: str, files: Mapping[str, bytes]) -> tuple[str | None, int | None]:
    before = list(_PLACE_LINE.finditer(said, 0, start))
    places = [*_PLACE_LINE.finditer(said, start), *reversed(before), *_PLACE_WITHIN.finditer(message)]
    for place in places:
        if place["file"] in files:
            return place["file"], int(place["line"])
    # The module system tells a definition's file and its option, and no line.
    for text, nearest in ((message, 0), (said[start:], 0), (said[:start], -1)):
        named = [found["file"] for found in _OWN_FILE.finditer(text) if found["file"] in files]
        if named:
            options = _OPTION.findall(message) or _OPTION.findall(text) or [""]
            return named[nearest], _find_option(options[nearest], files[named[nearest]])
    return None, None


def _find_option(option: str, content: bytes) -> int | None:
    """The line on which a file names an option, if there is just one."""
    # An entry of a list has a number there, and may be looked for by the list.
    for name in reversed(_NAME.findall(option)):
        word = re.compile(rb"(?<![\w'-])" + re.escape(name.encode()) + rb"(?![\w'-])")
        lines = [number for number, line in enumerate(content.split(b"\n"), 1) if word.search(line)]
        if lines:
            return lines[0] if len(lines) == 1 else None
    return None


def _shorten(message: str, folders: Mapping[Path, str]) -> str:
    """A message without paths of the machine: the agent's files by their names, the rest by where it comes from."""
    text = _ADVICE.sub("", _OWN_FOLDER.sub("", message))
    text = _STORE_PATH.sub("", text)
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        text = re.sub(rf"{re.escape(str(folder))}(?![\w.-])", lambda _, name=folders[folder]: name, text)
    return text
