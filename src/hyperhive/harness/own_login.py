"""What login claude has in this container, as its files tell. The agent can write them: they are only ever shown."""

import json
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from hyperhive.core.login import PLACEHOLDER
from hyperhive.core.text import render_safe_line
from hyperhive.wire.agent_link import LoginFields

CREDENTIALS_FILE = ".credentials.json"
ACCOUNT_FILE = ".claude.json"
_CREDENTIALS_LIMIT_BYTES = 64 * 1024
# It holds more than the account, and grows with the projects.
_ACCOUNT_LIMIT_BYTES = 1024 * 1024
_ACCOUNT_LIMIT_CHARS = 200
_LATEST_S = 4_102_444_800  # the year 2100
_VARIABLES = ("ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN")

_NONE = LoginFields(kind="none", account="", expires_at="")


def find_claude_folder(environment: Mapping[str, str]) -> Path:
    """Where claude keeps its login."""
    return Path(environment.get("CLAUDE_CONFIG_DIR") or Path(environment.get("HOME") or "/") / ".claude")


def observe_login(claude_folder: Path, environment: Mapping[str, str]) -> LoginFields:
    """The login there is now: the hive's, claude's own, or none. What cannot be read counts as not there.

    `expires_at` is when the operator must log in again, if that is known; claude refreshes access tokens by itself.
    """
    if any(environment.get(name) == PLACEHOLDER for name in _VARIABLES):
        return LoginFields(kind="hive", account="", expires_at="")
    oauth = _get_object(_load(claude_folder / CREDENTIALS_FILE, _CREDENTIALS_LIMIT_BYTES), "claudeAiOauth")
    # A refresh that was refused leaves empty tokens behind.
    if not any(isinstance(oauth.get(name), str) and oauth[name] for name in ("accessToken", "refreshToken")):
        return _NONE
    expires_at = _render_instant(oauth.get("refreshTokenExpiresAt")) or _render_instant(oauth.get("expiresAt"))
    account = _get_object(_load(claude_folder / ACCOUNT_FILE, _ACCOUNT_LIMIT_BYTES), "oauthAccount")
    return LoginFields(kind="own", account=_render_account(account), expires_at=expires_at)


def _load(path: Path, limit_bytes: int) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none, or it is no plain file, or too large."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit_bytes:
            return {}
        value: object = json.loads(os.read(handle, limit_bytes))
    except (OSError, ValueError, RecursionError):
        return {}
    finally:
        os.close(handle)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _get_object(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _render_instant(millis: object) -> str:
    """An instant of claude's, milliseconds since the epoch, in RFC 3339; empty for anything odd."""
    if isinstance(millis, bool) or not isinstance(millis, int | float) or not 0 < millis < _LATEST_S * 1000:
        return ""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")


def _render_account(account: Mapping[str, Any]) -> str:
    for key in ("emailAddress", "displayName", "organizationName"):
        text = account.get(key)
        if isinstance(text, str) and text.strip():
            # Bytes that are no text would not pass the link.
            clean = text.encode("utf-8", "replace").decode("utf-8")
            return render_safe_line(clean.strip()[:_ACCOUNT_LIMIT_CHARS])[:_ACCOUNT_LIMIT_CHARS]
    return ""
