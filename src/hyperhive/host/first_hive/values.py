"""Values of the first hive's database as they may stand there: each is understood, or it is None. Pure."""

import json
import math
from datetime import UTC, datetime
from typing import cast

# From here to there an instant is believed to be one, in milliseconds: the years 2001 to 2200.
_FIRST_MS = 978_307_200_000
_END_MS = 7_258_118_400_000
# Seconds, milliseconds, microseconds, nanoseconds: in these years no number is an instant in two of them.
_PER_MS = (0.001, 1, 1_000, 1_000_000)
_TRUE = frozenset({"1", "true", "yes"})
_FALSE = frozenset({"0", "false", "no", ""})


def parse_instant(value: object) -> int | None:
    """An instant in milliseconds since the epoch: of a number, or of ISO text, which is UTC if it does not say."""
    if isinstance(value, bytes):
        text = parse_text(value)
        return None if text is None else _parse_instant_text(text.strip())
    if isinstance(value, int | float) and math.isfinite(value):
        return next((ms for per in _PER_MS if _FIRST_MS <= (ms := int(value / per)) < _END_MS), None)
    return None


def _parse_instant_text(text: str) -> int | None:
    try:
        return parse_instant(float(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None
    ms = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    return ms if _FIRST_MS <= ms < _END_MS else None


def parse_text(value: object) -> str | None:
    """Text of the database: valid UTF-8, which is not taken for granted."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return str(value) if isinstance(value, int | float) else None


def parse_flag(value: object) -> bool | None:
    """Yes or no; what is not there is a no."""
    if value is None:
        return False
    text = parse_text(value)
    word = None if text is None else text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def parse_options(value: object) -> tuple[str, ...] | None:
    """The options of a question: a JSON list of texts; what is not there is none."""
    if value is None or value == b"":
        return ()
    try:
        options: object = json.loads(parse_text(value) or "")
    except (ValueError, RecursionError):
        return None
    if options is None:
        return ()
    if not isinstance(options, list):
        return None
    texts = [option for option in cast("list[object]", options) if isinstance(option, str)]
    return tuple(texts) if len(texts) == len(cast("list[object]", options)) else None
