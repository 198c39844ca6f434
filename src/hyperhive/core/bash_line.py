"""What a line of bash was found to run: its simple commands and their words."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command. `text` is what the program gets, None if only bash could tell.

    `substitutes` says that the output of a command is part of it.
    """

    text: str | None
    substitutes: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command, its name first. `source` is how it stands in the line."""

    words: tuple[Word, ...]
    source: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`commands` are all simple commands in the line, at any depth, each with a name that is known.

    `broken` says what keeps the line from being understood at all, empty if nothing does: what bash would run is
    then not known. `beyond` names what was parsed but is not followed closely enough for a list of allowed commands.
    """

    commands: tuple[Command, ...] = ()
    beyond: tuple[str, ...] = ()
    broken: str = ""
