"""What a person types to `hive shell` itself rather than to the shell: as with ssh, a tilde at a line's start."""

from enum import Enum, auto

_TILDE = ord("~")
_LINE_ENDS = b"\r\n"
_INTERRUPT = ord("\x03")


class Act(Enum):
    """What the person wants of `hive shell`."""

    DETACH = auto()
    HELP = auto()


class Escapes:
    """Takes `~.` and `~?` out of what is typed; `~~` stands for one tilde. Any other tilde is typed as it is.

    With `only_looking` nothing is typed at all, and Ctrl-C detaches, too.
    """

    def __init__(self, *, only_looking: bool = False) -> None:
        self._only_looking = only_looking
        self._at_line_start = True
        self._after_tilde = False

    def feed(self, typed: bytes) -> tuple[bytes, list[Act]]:
        """What goes to the shell, and what is wanted of us; what follows a detach is dropped."""
        passed = bytearray()
        acts: list[Act] = []
        for byte in typed:
            act = self._take(byte, passed)
            if act is not None:
                acts.append(act)
            if act is Act.DETACH:
                break
        return b"" if self._only_looking else bytes(passed), acts

    def _take(self, byte: int, passed: bytearray) -> Act | None:
        if self._only_looking and byte == _INTERRUPT:
            return Act.DETACH
        if self._after_tilde:
            self._after_tilde = False
            return self._take_second(byte, passed)
        if self._at_line_start and byte == _TILDE:
            self._after_tilde = True
            return None
        self._pass(byte, passed)
        return None

    def _take_second(self, byte: int, passed: bytearray) -> Act | None:
        if byte == ord("."):
            return Act.DETACH
        if byte == ord("?"):
            return Act.HELP
        if byte != _TILDE:
            passed.append(_TILDE)
        self._pass(byte, passed)
        return None

    def _pass(self, byte: int, passed: bytearray) -> None:
        passed.append(byte)
        self._at_line_start = byte in _LINE_ENDS
