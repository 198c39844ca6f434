"""What fits into one prompt. Pure."""

from collections.abc import Iterable

from hyperhive.core.messages import Message, render_envelope

# A prompt travels to the engine as one line of at most 1 MiB, in which JSON may double what is written here.
# One message of the largest size and much more always fits; 400 KiB are about half of claude's context.
PROMPT_LIMIT_BYTES = 400 * 1024
# JSON writes a control character as six bytes: such a text counts as what it will be.
_CONTROL = str.maketrans(dict.fromkeys(range(32), "\\u0000"))


def plan_wake(messages: Iterable[Message]) -> tuple[list[Message], list[Message]]:
    """Splits `messages` in order into those that fit into one prompt, at least the first, and the rest."""
    fitting: list[Message] = []
    rest: list[Message] = []
    size = 0
    for message in messages:
        size += len(render_envelope(message).translate(_CONTROL).encode())
        if rest or (fitting and size > PROMPT_LIMIT_BYTES):
            rest.append(message)
        else:
            fitting.append(message)
    return fitting, rest
