"""Commands that run other commands, or change what bash does with the next one: looked through, or not trusted.

What is looked through is only what is written out in the line. A script, an editor or a build tool runs what it
likes, and nobody can tell from the line: that is the container's to confine.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from hyperhive.core.bash_commands import parse_command_line
from hyperhive.core.bash_line import Command, CommandLine, Word

# They run their arguments.
# fmt: off
_WRAPPERS = frozenset((
    "builtin", "busybox", "chroot", "chrt", "command", "coproc", "doas", "env", "exec", "fd", "find", "firejail",
    "flock", "ionice", "jobs", "nice", "nohup", "nsenter", "numactl", "parallel", "prlimit", "runuser",
    "script", "setpriv", "setsid", "stdbuf", "strace", "su", "sudo", "systemd-run", "taskset", "time",
    "timeout", "toybox", "unbuffer", "unshare", "watch", "xargs",
))
# fmt: on
# A word of theirs that is not written out is usually no command.
_SEARCHERS = frozenset({"fd", "find"})
_SHELLS = frozenset({"ash", "bash", "csh", "dash", "fish", "ksh", "mksh", "rbash", "sh", "tcsh", "zsh"})
# They change what a name means, or run code at another time or in another way.
_CHANGERS = frozenset({"alias", "bind", "compgen", "complete", "enable", "fc", "hash", "mapfile", "readarray"})
_READERS = frozenset({".", "source"})
# Builtins that set variables or options, by which later commands of the line do something else.
_SETTERS = frozenset({"getopts", "let", "read", "set", "shopt", "trap", "unalias", "wait"})

GIVE_AWAY = _WRAPPERS | _SHELLS | _CHANGERS | _READERS | _SETTERS | {"eval"}
"""Commands by which another command can be run: a pattern allows them only if it writes their name out."""

# Builtins that evaluate the subscript of an array, with the substitutions in it.
_EVALUATORS = frozenset({"printf", "test"}) | _SETTERS
_SUBSTITUTION = re.compile(r"\$[({\[]|`")
_COMMAND_NAME = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+-]*")

_DEPTH_LIMIT = 5
_WORDS_LIMIT = 256
_COMMANDS_LIMIT = 10_000


@dataclass(slots=True)
class CommandsWithin:
    """All commands that are seen to run, those inside of others too; `unknown` says what was not seen, if anything."""

    commands: list[Command] = field(default_factory=list[Command])
    unknown: str = ""


def list_commands_within(line: CommandLine) -> CommandsWithin:
    """The commands of `line` and those that they run in turn, as far as they are written out."""
    within = CommandsWithin()
    _add_line(within, line, 0)
    return within


def find_misuse(command: Command) -> str:
    """Why an allowed command is refused for its arguments: it would set a variable or evaluate text. Empty if not."""
    name = command.words[0].text
    if name not in _EVALUATORS:
        return ""
    arguments = command.words[1:]
    if any(word.substitutes or _SUBSTITUTION.search(word.text or "") for word in arguments):
        return f"`{name}` may evaluate what stands in its arguments"
    if name == "printf" and arguments and (arguments[0].text or "-").startswith("-") and arguments[0].text != "--":
        return "`printf -v` sets a variable"
    return ""


def _add_line(within: CommandsWithin, line: CommandLine, depth: int) -> None:
    if line.broken:
        within.unknown = line.broken
    elif depth > _DEPTH_LIMIT or len(within.commands) > _COMMANDS_LIMIT:
        within.unknown = "too much inside of one another"
    else:
        for command in line.commands:
            _add_command(within, command, depth)


def _add_command(within: CommandsWithin, command: Command, depth: int) -> None:
    within.commands.append(command)
    name = _basename(command)
    if name in _WRAPPERS:
        _add_wrapped(within, command, depth)
    else:
        _add_run(within, command, name, depth)


def _add_wrapped(within: CommandsWithin, wrapper: Command, depth: int) -> None:
    """Which of its words begins the command differs by wrapper and option: each is taken for the beginning of one."""
    if len(wrapper.words) > _WORDS_LIMIT:
        within.unknown = f"more than {_WORDS_LIMIT} words after `{wrapper.words[0].text}`"
        return
    if _hides_command(wrapper):
        within.unknown = f"what `{wrapper.words[0].text}` runs is not written out"
    for index, word in enumerate(wrapper.words[1:], 1):
        if word.text is None:
            continue
        command = Command(wrapper.words[index:], wrapper.source)
        within.commands.append(command)
        if (name := _basename(command)) not in _WRAPPERS and _COMMAND_NAME.fullmatch(word.text):
            _add_run(within, command, name, depth)
        elif re.search(r"\s", word.text):
            inner = parse_command_line(word.text)
            # Most text is no command, and what is not understood here is none for bash either.
            _add_line(within, CommandLine(inner.commands), depth + 1)


def _hides_command(wrapper: Command) -> bool:
    """Whether a word that is not written out comes before any that may be the wrapped command's name."""
    if _basename(wrapper) in _SEARCHERS:
        return False
    for word in wrapper.words[1:]:
        if word.text is None:
            return True
        if _COMMAND_NAME.fullmatch(word.text) and _basename_of(word.text) not in _WRAPPERS:
            return False
    return False


def _add_run(within: CommandsWithin, command: Command, name: str, depth: int) -> None:
    """What a shell, `eval` or `trap` is given to run."""
    words = command.words[1:]
    if name in _SHELLS:
        _add_code(within, _find_shell_code(words), depth)
    elif name == "eval":
        _add_code(within, _join(words), depth)
    elif name == "trap" and words:
        _add_code(within, next((word for word in words if word.text != "--"), Word("")), depth)
    elif name in _CHANGERS and words:
        within.unknown = f"`{name}` changes what is run"
    elif name in _READERS and not _is_plain_file(words):
        within.unknown = f"what `{name}` reads is not a file that is named"


def _add_code(within: CommandsWithin, code: Word | None, depth: int) -> None:
    if code is None or code.text is None:
        within.unknown = "a shell is given code that is not written out"
    else:
        _add_line(within, parse_command_line(code.text), depth + 1)


def _find_shell_code(words: tuple[Word, ...]) -> Word | None:
    """The code in the arguments of a shell, empty if it runs a script that is named; None if neither is written out."""
    is_code = False
    for option, word in _pair_with_option(words):
        text = word.text
        if text is None:
            return None
        if text.startswith(("-", "+")) and len(text) > 1:
            is_code |= bool(re.fullmatch(r"-[A-Za-z]*c[A-Za-z]*", text))
            if re.fullmatch(r"-[A-Za-z]*s[A-Za-z]*", text):
                return None
        elif option not in {"-o", "+o", "-O", "+O", "--rcfile", "--init-file"}:
            if is_code:
                return word
            return Word("") if _is_plain_file((word,)) else None
    return None


def _pair_with_option(words: tuple[Word, ...]) -> Iterator[tuple[str, Word]]:
    """Each word with the one before it."""
    before = ""
    for word in words:
        yield before, word
        before = word.text or ""


def _is_plain_file(words: tuple[Word, ...]) -> bool:
    text = words[0].text if words else None
    return text is not None and text != "-" and not text.startswith(("/dev/", "/proc/"))


def _join(words: tuple[Word, ...]) -> Word | None:
    texts = [word.text for word in words if word.text is not None]
    return Word(" ".join(texts)) if len(texts) == len(words) else None


def _basename(command: Command) -> str:
    return _basename_of(command.words[0].text or "")


def _basename_of(name: str) -> str:
    return name.rpartition("/")[2]
