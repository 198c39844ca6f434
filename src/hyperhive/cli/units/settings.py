"""The file of the service's settings, which is the operator's: made once, and never written again."""

import re
from pathlib import Path

from hyperhive.cli.units.place import STORED_CREDENTIAL, Place
from hyperhive.core.errors import InvalidInputError

DEFAULT_PORT = 7000
SETTINGS_TEXT = """\
# Settings of the hive as a service, one HIVE_NAME=VALUE a line, as docs/reference/settings.md has them. Those that
# `hive` commands read, too (HIVE_DATA), do not belong here. After a change restart the service; agents go on meanwhile.
#HIVE_PORT=7000
#HIVE_PUBLIC_URL=https://hive.example.org
"""
_PORT = re.compile(r"^\s*HIVE_PORT\s*=\s*[\"']?([0-9]{1,5})[\"']?\s*$", re.MULTILINE)
_ACCOUNT = re.compile(
    r"^\s*(?:ANTHROPIC_API_KEY|CLAUDE_CODE_OAUTH_TOKEN|HIVE_CREDENTIAL|HIVE_REHEARSAL)\s*=", re.MULTILINE
)


def read_port(settings: Path) -> int:
    """The dashboard's port by that file; 0 means any. Raises InvalidInputError if it cannot be read."""
    try:
        found = _PORT.findall(settings.read_text("utf-8", "replace"))
    except FileNotFoundError:
        return DEFAULT_PORT
    except OSError as error:
        raise InvalidInputError(f"{settings} cannot be read: {error.strerror}") from error
    # As with systemd, the last one counts.
    port = int(found[-1]) if found else DEFAULT_PORT
    if port > 65535:
        raise InvalidInputError(f"{port} is no port", f"mend HIVE_PORT in {settings}")
    return port


def has_account(place: Place) -> bool:
    """Whether the service finds an account, or needs none; agents can log in by themselves where there is none."""
    stored = [place.roots.credential] if place.user else [place.roots.credential, STORED_CREDENTIAL]
    try:
        settings = place.settings.read_text("utf-8", "replace")
    except OSError:
        settings = ""
    return any(path.exists() for path in stored) or _ACCOUNT.search(settings) is not None
