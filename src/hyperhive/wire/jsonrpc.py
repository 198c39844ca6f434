"""JSON-RPC 2.0, one object a line, in both directions on one stream. Pure: bytes in, values out.

Framing and limits are the same wherever the hive speaks lines: a line ends with a newline, is valid UTF-8 and
at most `LINE_LIMIT_BYTES` long, nested at most `DEPTH_LIMIT` deep.
"""

import json
from typing import Any, NamedTuple

import orjson

from hyperhive.core.errors import HiveError, parse_error

LINE_LIMIT_BYTES = 1024 * 1024
DEPTH_LIMIT = 64

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
# The range JSON-RPC leaves to applications: a HiveError, told whole in `data`.
HIVE_ERROR = -32000

RequestId = int | str | None
_ID_TYPES = (int, str, type(None))


class ProtocolError(Exception):
    """A line that is not JSON-RPC. The peer gets `code` and the text; the connection may go on."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Request(NamedTuple):
    """A call that wants a response (`id` is set) or a notification (`id` is None)."""

    method: str
    params: dict[str, Any]
    id: RequestId = None


class Response(NamedTuple):
    """The answer to the request of the same id: a result, or the error that was raised."""

    id: RequestId
    result: Any = None
    error: HiveError | None = None


def encode_request(request: Request) -> bytes:
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": request.method, "params": request.params}
    if request.id is not None:
        body["id"] = request.id
    return _encode(body)


def encode_result(request_id: RequestId, result: Any) -> bytes:
    return _encode({"jsonrpc": "2.0", "id": request_id, "result": result})


def encode_error(request_id: RequestId, error: Exception) -> bytes:
    """An error response. Only a HiveError or a ProtocolError tells what happened; anything else is internal."""
    if isinstance(error, HiveError):
        body = {"code": HIVE_ERROR, "message": error.message, "data": error.to_dict()}
    elif isinstance(error, ProtocolError):
        body = {"code": error.code, "message": str(error)}
    else:
        body = {"code": INTERNAL_ERROR, "message": "internal error"}
    return _encode({"jsonrpc": "2.0", "id": request_id, "error": body})


def decode_line(line: bytes) -> Request | Response:
    """One line as a request or a response. Raises ProtocolError for anything else."""
    if len(line) > LINE_LIMIT_BYTES:
        raise ProtocolError(INVALID_REQUEST, f"the line is over {LINE_LIMIT_BYTES} bytes")
    _check_depth(line)
    try:
        body = orjson.loads(line)
    except ValueError as error:
        raise ProtocolError(PARSE_ERROR, "the line is not JSON") from error
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":  # pyright: ignore[reportUnknownMemberType]
        raise ProtocolError(INVALID_REQUEST, "the line is not a JSON-RPC 2.0 object")
    return _read_message(body)  # pyright: ignore[reportUnknownArgumentType]


def _read_message(body: dict[str, Any]) -> Request | Response:
    request_id = body.get("id")
    if not isinstance(request_id, _ID_TYPES):
        raise ProtocolError(INVALID_REQUEST, "the id is neither a number nor a string")
    if "method" not in body:
        return _read_response(request_id, body)
    method, params = body["method"], body.get("params", {})
    if not isinstance(method, str):
        raise ProtocolError(INVALID_REQUEST, "the method is not a string")
    if not isinstance(params, dict):
        raise ProtocolError(INVALID_PARAMS, "params is not an object")
    return Request(method, params, request_id)  # pyright: ignore[reportUnknownArgumentType]


def _read_response(request_id: RequestId, body: dict[str, Any]) -> Response:
    if "result" in body:
        return Response(id=request_id, result=body["result"])
    error = body.get("error")
    if not isinstance(error, dict):
        raise ProtocolError(INVALID_REQUEST, "neither a method, a result nor an error")
    data: Any = error.get("data")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(data, dict):
        return Response(id=request_id, error=parse_error(data))  # pyright: ignore[reportUnknownArgumentType]
    return Response(id=request_id, error=HiveError(str(error.get("message"))))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _check_depth(line: bytes) -> None:
    """Refuses deep nesting before the parser recurses into it; brackets inside strings do not count."""
    # Splitting skips what is between much faster than counting does.
    brackets = len(line.split(b"[", DEPTH_LIMIT + 1)) + len(line.split(b"{", DEPTH_LIMIT + 1)) - 2
    if brackets <= DEPTH_LIMIT:
        return
    depth = deepest = 0
    in_string = escaped = False
    for byte in line:
        if in_string:
            in_string = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    if deepest > DEPTH_LIMIT:
        raise ProtocolError(INVALID_REQUEST, f"the line is nested over {DEPTH_LIMIT} deep")


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Half of a surrogate pair is no text: it becomes a question mark rather than no answer.
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
