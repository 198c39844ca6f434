"""What plays the side session that shortens an agent's notes (`harness.notes`). A pure rule.

It drops what is done, the lines with `- [x]`, and keeps all else as it is.
"""

import re

from hyperhive.testing.messages_api.reply import Reply
from hyperhive.testing.messages_api.request import ParsedRequest
from hyperhive.testing.steps import Text

_NOTES = re.compile(
    r"^The notes:\n(?P<begin>===== notes [0-9a-f]{16} =====)\n(?P<text>.*)\n"
    r"(?P<end>===== end of notes [0-9a-f]{16} =====)",
    re.MULTILINE | re.DOTALL,
)


def answer_notes(request: ParsedRequest) -> Reply | None:
    """The notes without what is done, between the lines that they came between; None for any other request."""
    match = _NOTES.search(request.user_text)
    # An agent has tools: what it is told is not a side session's prompt, whatever it looks like.
    if match is None or request.tools:
        return None
    kept = [line for line in match["text"].split("\n") if not line.lstrip().startswith("- [x]")]
    return Reply([Text("\n".join([match["begin"], *kept, match["end"]]))])
