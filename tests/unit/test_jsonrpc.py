"""Lines from an adversary: every one is a request, a response or a clear refusal."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperhive.core.errors import ConflictError, HiveError
from hyperhive.wire.jsonrpc import (
    DEPTH_LIMIT,
    HIVE_ERROR,
    INTERNAL_ERROR,
    LINE_LIMIT_BYTES,
    ProtocolError,
    Request,
    Response,
    decode_line,
    encode_error,
    encode_request,
    encode_result,
)


def test_a_request_survives_the_wire() -> None:
    request = Request("send", {"to": "alice", "body": "ä\n\u2028"}, 7)
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert decode_line(line) == request


def test_a_result_and_an_error_survive_the_wire() -> None:
    assert decode_line(encode_result(3, {"id": 1})) == Response(3, {"id": 1})
    answer = decode_line(encode_error(3, ConflictError("taken", "choose another")))
    assert isinstance(answer, Response)
    assert isinstance(answer.error, ConflictError)
    assert (answer.error.message, answer.error.hint) == ("taken", "choose another")


def test_an_unknown_exception_tells_nothing() -> None:
    body = json.loads(encode_error(1, ValueError("/secret/path")))
    assert body["error"] == {"code": INTERNAL_ERROR, "message": "internal error"}


def test_our_errors_have_the_application_code() -> None:
    assert json.loads(encode_error(1, HiveError("no")))["error"]["code"] == HIVE_ERROR


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"1",
        b"{}",
        b'{"jsonrpc":"1.0","method":"x"}',
        b'{"jsonrpc":"2.0","method":1}',
        b'{"jsonrpc":"2.0","method":"x","params":[1]}',
        b'{"jsonrpc":"2.0","method":"x","id":{}}',
        b'{"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","method":"\xff"}',
        b'{"jsonrpc":"2.0","method":"x","params":' + b"[" * 100_000,
        b'{"jsonrpc":"2.0","method":"x","params":' + b'{"a":' * DEPTH_LIMIT + b"1" + b"}" * (DEPTH_LIMIT + 1),
        b" " * (LINE_LIMIT_BYTES + 1),
    ],
)
def test_a_malformed_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_line(line)


def test_brackets_inside_a_string_are_no_depth() -> None:
    line = encode_request(Request("send", {"body": '\\"[{' * 200}, 1))
    assert isinstance(decode_line(line), Request)


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_but_parse_or_be_refused(line: bytes) -> None:
    try:
        decode_line(line)
    except ProtocolError as error:
        assert str(error)
