"""What can go wrong in a way the caller should hear about.

Every refusal in the hive is a `HiveError`: a stable `code` for programs, a `message` for people, a `hint`
that says what to do next. The HTTP status, the JSON-RPC error and the exit status all derive from it.
"""


class HiveError(Exception):
    """A refusal with a reason. `code` is stable; `message` and `hint` are for people and may change."""

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_dict(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


def render_error(error: HiveError) -> str:
    """On one line, for where there is no room of its own for the hint."""
    return f"{error.message} ({error.hint})" if error.hint else error.message


class InvalidInputError(HiveError):
    """The request itself is wrong: a bad name, a missing field, a value out of range."""

    code = "invalid_input"


class NotFoundError(HiveError):
    """What the request names does not exist."""

    code = "not_found"


class ConflictError(HiveError):
    """The request is well formed, but the current state does not allow it."""

    code = "conflict"


class RefusedError(HiveError):
    """The caller may not do this."""

    code = "refused"


class TooLargeError(HiveError):
    """A body, a line or a queue is over its limit."""

    code = "too_large"


class InboxFullError(TooLargeError):
    """So much waits for the recipient already that this sender may add nothing."""

    code = "inbox_full"


class TooManyError(HiveError):
    """The same was asked for too often: later it may be done."""

    code = "too_many"


class StorageError(HiveError):
    """The disk did not take a change: nothing of the request happened."""

    code = "storage_failed"


class UnavailableError(HiveError):
    """Something this needs is not there now: a driver, an agent that is not connected, a daemon."""

    code = "unavailable"


ERRORS_BY_CODE: dict[str, type[HiveError]] = {
    cls.code: cls
    for cls in (
        HiveError,
        InvalidInputError,
        NotFoundError,
        ConflictError,
        RefusedError,
        TooLargeError,
        InboxFullError,
        TooManyError,
        StorageError,
        UnavailableError,
    )
}


def parse_error(data: dict[str, object]) -> HiveError:
    """The error that `to_dict` described; an unknown code becomes a plain `HiveError`."""
    cls = ERRORS_BY_CODE.get(str(data.get("code")), HiveError)
    return cls(str(data.get("message", "unknown error")), str(data.get("hint", "")))
