"""What a snapshot holds, and what it says of itself."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from hyperhive import __version__
from hyperhive.core.errors import ConflictError, InvalidInputError
from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.text import cut_text, render_safe_line
from hyperhive.system.archives import DamagedArchiveError
from hyperhive.system.git import parse_object_name

PROGRAM = "hyperhive"
KIND = "snapshot"
# Counts up when older versions could not restore what a newer one packs.
FORMAT = 1
# The first entry, and the last: an archive without it is not whole.
MANIFEST = b"manifest.json"
SUMMARY = b"summary.json"
CONFIG, STATE, CLAUDE = b"config", b"state", b"claude"
# The login of a claude that has one of its own (see harness/own_login.py), below its folder.
LOGIN = b".credentials.json"
LOGIN_LIMIT_BYTES = 64 * 1024
JSON_LIMIT_BYTES = 4 * 1024 * 1024
# Of what is in one: a snapshot is copied while its agent waits.
CONTENT_LIMIT_BYTES = 16 * 1024**3
ENTRIES_LIMIT = 1_000_000
# Of all of one agent.
EACH_LIMIT = 20
EACH_LIMIT_BYTES = 32 * 1024**3
NOTE_LIMIT_CHARS = 200
WAITING_LIMIT = 50_000

_SESSION = re.compile(r"[0-9a-fA-F-]{36}|")
_DAMAGED = "the manifest of the snapshot is damaged"
_ANOTHER = "take or export another one"


@dataclass(frozen=True, slots=True)
class Inbox:
    """What had come for the agent. `newest` is the newest message of the hive, `waiting` are those not handled yet."""

    newest: int
    waiting: Sequence[int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot says of itself. `session` is the conversation that is resumed, empty if there is none."""

    agent: str
    at: str
    commit: str
    note: str
    with_credentials: bool
    session: str
    turns: int
    inbox: Inbox
    version: str = __version__

    def render(self) -> bytes:
        fields = {"program": PROGRAM, "kind": KIND, "format": FORMAT, **asdict(self)}
        return json.dumps(fields, indent=1).encode()


def find_session(turn: object) -> str:
    """The conversation that a turn was of, by what its harness told of its end; empty if it told none."""
    fields = cast("dict[str, Any]", turn) if isinstance(turn, dict) else {}
    session = fields.get("session_id")
    return session if isinstance(session, str) and _SESSION.fullmatch(session) else ""


def clean_note(text: str) -> str:
    return cut_text(render_safe_line(text.strip()), NOTE_LIMIT_CHARS)


def parse_manifest(content: bytes) -> Manifest:
    """From a file of anybody. Raises DamagedArchiveError, ConflictError for one of a newer hyperhive."""
    fields = parse_object(content)
    if fields.get("program") != PROGRAM or fields.get("kind") != KIND:
        raise DamagedArchiveError("this is no snapshot of an agent", "`hive snapshot export` makes one")
    version = cut_text(render_safe_line(str(fields.get("version", "unknown"))), 40)
    if not isinstance(fields.get("format"), int) or fields["format"] > FORMAT:
        raise ConflictError(
            f"the snapshot was taken by a newer hyperhive ({version}; this is {__version__})", "use that version"
        )
    try:
        return _take_fields(fields, version)
    except InvalidInputError as error:
        raise DamagedArchiveError(f"{_DAMAGED}: {error.message}", _ANOTHER) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DamagedArchiveError(_DAMAGED, _ANOTHER) from error


def _take_fields(fields: Mapping[str, Any], version: str) -> Manifest:
    inbox = cast("dict[str, Any]", fields["inbox"])
    waiting = [_take_number(number) for number in cast("list[Any]", inbox["waiting"])]
    session = str(fields["session"])
    at = datetime.fromisoformat(fields["at"])
    if len(waiting) > WAITING_LIMIT or not _SESSION.fullmatch(session) or at.tzinfo is None:
        raise ValueError(_DAMAGED)
    return Manifest(
        agent=parse_known_agent_name(str(fields["agent"])),
        at=at.isoformat(),
        commit=parse_object_name(str(fields["commit"])),
        note=clean_note(str(fields["note"])),
        with_credentials=fields["with_credentials"] is True,
        session=session,
        turns=_take_number(fields["turns"]),
        inbox=Inbox(_take_number(inbox["newest"]), waiting),
        version=version,
    )


def _take_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(_DAMAGED)
    return value


def parse_object(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DamagedArchiveError(_DAMAGED, _ANOTHER) from error
    if not isinstance(parsed, dict):
        raise DamagedArchiveError(_DAMAGED, _ANOTHER)
    return cast("dict[str, Any]", parsed)
