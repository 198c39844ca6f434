"""What an exit status says, as shells and bubblewrap write it."""

import contextlib
import signal


def explain_end(code: int | None) -> str:
    if code is None:
        return "it was killed from outside"
    name = find_signal(code)
    return f"its command was ended by {name}" if name else f"its command ended with status {code}"


def find_signal(code: int) -> str:
    """The signal that an exit status tells of, as shells and bubblewrap write it; empty if it tells of none."""
    if code > 128:
        with contextlib.suppress(ValueError):
            return signal.Signals(code - 128).name
    return ""
