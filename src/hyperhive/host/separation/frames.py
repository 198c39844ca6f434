"""How the daemon and its root helper tell two messages apart: a length, then as many bytes of JSON."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import orjson

FRAME_LIMIT_BYTES = 8 * 1024 * 1024
_LENGTH_BYTES = 4


class FrameError(Exception):
    """What came is no message; what would follow cannot be told from it."""


def encode_frame(message: Mapping[str, Any]) -> bytes:
    """Raises FrameError for what is too long, or what JSON cannot say."""
    try:
        body = orjson.dumps(message)
    except TypeError as error:
        raise FrameError(f"it cannot be said in JSON: {error}") from error
    if len(body) > FRAME_LIMIT_BYTES:
        raise FrameError(f"it has more than {FRAME_LIMIT_BYTES // 1024**2} MiB")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None at the end. Raises FrameError, also for one that was cut off, and OSError."""
    try:
        head = await reader.readexactly(_LENGTH_BYTES)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise FrameError("it was cut off") from error
    length = int.from_bytes(head, "big")
    if length > FRAME_LIMIT_BYTES:
        raise FrameError(f"it has more than {FRAME_LIMIT_BYTES // 1024**2} MiB")
    try:
        # Ends at 1024 levels; takes neither NaN nor half surrogate pairs.
        message: Any = orjson.loads(await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        raise FrameError("it was cut off") from error
    except orjson.JSONDecodeError as error:
        raise FrameError("it is no JSON") from error
    if not isinstance(message, dict):
        raise FrameError("it is no object")
    return cast("dict[str, Any]", message)
