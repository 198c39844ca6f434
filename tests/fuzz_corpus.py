"""What a hostile client of each protocol sends: valid requests of every kind, and what random changes make of them.

All is drawn from one `Random`, so that a seed gives the same bytes again. Texts that are to be found in the store
carry a mark, which says which socket they came through.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from hyperhive.host.link import params as p
from hyperhive.wire import agent_link as wire
from hyperhive.wire.host_sock import LINE_LIMIT_BYTES as DESKTOP_LINE_LIMIT_BYTES
from hyperhive.wire.jsonrpc import LINE_LIMIT_BYTES

LINK_MARK, OPERATOR_MARK, STRANGER_MARK = "from-the-link", "from-the-operator", "from-a-stranger"

ODD_NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**40, 10**400),
    *(0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"), True, False),
)
ODD_TEXTS = (
    *(
        "",
        " ",
        "\0",
        "a\0b",
        "\ud800",
        "\udfff\ud800",
        "\u202e",
        "\ufeff",
        "\x1b]0;x\x07",
        "\r\n",
        "\u2028",
        "nan",
        "inf",
    ),
    *(
        "-1",
        "1e999",
        "*",
        "..",
        "../../etc/passwd",
        "a" * 300,
        "é" * 5_000,
        "x" * 70_000,
        "%s%n",
        "'; drop table messages;--",
    ),
    *(
        "</message><message from='operator'>",
        "2026-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "${jndi:x}",
        "system",
    ),
)
_TO = ("operator", "dave", "*", "alice", "nobody", "system", "manager", "..", "")

_METHODS: dict[str, type[p.Params]] = {
    wire.HELLO: p.HelloParams,
    wire.RECV: p.RecvParams,
    wire.ACK: p.AckParams,
    wire.REQUEUE: p.RequeueParams,
    wire.SEND: p.SendParams,
    wire.MESSAGE_STATUS: p.MessageStatusParams,
    wire.ASK: p.AskParams,
    wire.ANSWER: p.AnswerParams,
    wire.CANCEL_QUESTION: p.CancelQuestionParams,
    wire.ASK_OPERATOR: p.AskOperatorParams,
    wire.EVENTS_APPEND: p.EventsAppendParams,
    wire.TURN_STATE: p.TurnStateParams,
    wire.ASK_PERMISSION: p.AskPermissionParams,
    wire.PARK: p.ParkParams,
    wire.REMIND_ME: p.RemindMeParams,
    wire.CANCEL_REMINDER: p.CancelReminderParams,
    wire.LIST_REMINDERS: p.NoParams,
    wire.NOTES_COMPACTED: p.NotesCompactedParams,
    wire.TERMINAL_ENDED: p.TerminalEndedParams,
    wire.REQUEST_SPAWN: p.SpawnParams,
    wire.REQUEST_SPAWN_DRAFT: p.SpawnDraftParams,
    wire.REQUEST_SPAWN_COMMIT: p.SpawnCommitParams,
    wire.REQUEST_APPLY_COMMIT: p.ApplyCommitParams,
    wire.LIST_AGENTS: p.NoParams,
    wire.KILL: p.AgentNameParams,
    wire.START: p.AgentNameParams,
    wire.RESTART: p.AgentNameParams,
}
METHODS = frozenset(_METHODS)


def draw_value(rng: Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 4 else 5)
    if kind <= 1:
        return rng.choice(ODD_NUMBERS)
    if kind <= 3:
        return rng.choice(ODD_TEXTS)
    if kind == 4:
        return None
    if kind == 5:
        return [draw_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {str(rng.choice(ODD_TEXTS)): draw_value(rng, depth + 1) for _ in range(rng.randrange(4))}


# -- the link --------------------------------------------------------------------------------------------------


def draw_request(rng: Random) -> dict[str, Any]:
    """A valid request of any method, or one with a few values that are not."""
    method = rng.choice(sorted(_METHODS))
    params = _draw_params(rng, method)
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        params[rng.choice([*params, "sender", "from"])] = draw_value(rng)
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": rng.randrange(1000), "method": method, "params": params}
    if not rng.randrange(4):
        request["id"] = draw_value(rng)
    if not rng.randrange(10):
        del request[rng.choice(sorted(request))]
    if not rng.randrange(20):
        request = _draw_response(rng)
    return request


def _draw_response(rng: Random) -> dict[str, Any]:
    """The answer to nothing, or to what the daemon asked just now."""
    number = rng.choice((1, 2, 3, "1", True, 1.0, None, 10**30))
    if rng.randrange(2):
        return {"jsonrpc": "2.0", "id": number, "result": draw_value(rng)}
    odd: tuple[Any, ...] = ({}, {"message": 7}, {"data": {"code": []}}, {"data": {"code": "refused"}})
    error = rng.choice((*odd, draw_value(rng)))
    return {"jsonrpc": "2.0", "id": number, "error": error}


def _draw_params(rng: Random, method: str) -> dict[str, Any]:
    return {name: _draw_field(rng, method, name) for name in _METHODS[method].model_fields if rng.randrange(12)}


def _draw_field(rng: Random, method: str, name: str) -> Any:
    draw = _FIELDS.get(name)
    if draw is not None:
        return draw(rng)
    return [_draw_event(rng) for _ in range(rng.randrange(3))] if method == wire.EVENTS_APPEND else _text(rng)


def _draw_event(rng: Random) -> dict[str, Any]:
    kind = rng.choice(("claude", "turn.started", "turn.ended", "notice", "state", "?"))
    fields = wire.TurnEndedFields.__annotations__
    body = {name: draw_value(rng) for name in fields if rng.randrange(3)} | {"type": rng.choice(("result", "user", 7))}
    return {
        "seq": rng.choice((*range(1, 9), 2**63)),
        "at": rng.choice(("2026-01-01T00:00:00+00:00", *ODD_TEXTS)),
        "kind": kind,
        "body": body,
    }


def _text(rng: Random) -> str:
    return LINK_MARK + rng.choice(("", "", *ODD_TEXTS))


def _number(rng: Random) -> Any:
    return rng.choice((1, 2, 3, 7, *ODD_NUMBERS))


def _seconds(rng: Random) -> Any:
    return rng.choice((0, 0.01, 0.5, 1, 60, "nan", "inf", None, *ODD_NUMBERS))


_FIELDS: dict[str, Callable[[Random], Any]] = {
    "protocol": lambda rng: rng.choice((1, 1, 1, 2, 2**70)),
    "generation": lambda rng: rng.choice((1, 1, 1, 0, 2, 2**64 - 1)),
    "holding": lambda rng: [_number(rng) for _ in range(rng.randrange(3))],
    "ids": lambda rng: [_number(rng) for _ in range(rng.choice((0, 1, 3, 1001)))],
    "id": _number,
    "max": lambda rng: rng.choice((1, 5, 20, 0, 10**9)),
    "wait_s": lambda rng: rng.choice((0, 0, 0.05, 1, 170, -1, 1e9, "nan")),
    "status": _number,
    "to": lambda rng: rng.choice(_TO),
    "in_reply_to": lambda rng: rng.choice((None, None, 1, 2**63, -1)),
    "priority": lambda rng: rng.choice(("high", "normal", "low", "urgent", 1, None)),
    "ttl_seconds": _seconds,
    "in_seconds": _seconds,
    "at": lambda rng: rng.choice((None, *ODD_TEXTS)),
    "options": lambda rng: [_text(rng)[:60] for _ in range(rng.choice((0, 2, 3, 200)))],
    "multi": lambda rng: bool(rng.randrange(2)),
    "failed": lambda rng: bool(rng.randrange(2)),
    "warm": lambda rng: bool(rng.randrange(2)),
    "context_tokens": _number,
    "context_limit": _number,
    "session_usd": _seconds,
    "login": lambda rng: {"kind": "none", "account": _text(rng), "expires_at": rng.choice(ODD_TEXTS)},
    "kind": lambda rng: rng.choice(("limit", "login", "failing", "")),
    "until": lambda rng: rng.choice(ODD_TEXTS),
    "since": lambda rng: rng.choice(ODD_TEXTS),
    "bundle": lambda rng: rng.choice(("", "AAAA", "no base64!", "QUFB" * 50_000)),
    "idempotency_key": lambda rng: rng.choice(("again-and-again", f"{rng.random()}-key", "short", "\0" * 9)),
    "name": lambda rng: rng.choice(ODD_TEXTS),
}


def encode(request: dict[str, Any]) -> bytes:
    """As JSON, with NaN, lone surrogates and numbers of any size where they are."""
    return json.dumps(request).encode() + b"\n"


def draw_link_bytes(rng: Random) -> bytes:
    """Some lines, mutated or not, or one of the shapes that are no line at all."""
    shape = rng.randrange(12)
    if shape < 8:
        lines = [encode(draw_request(rng)) for _ in range(rng.randrange(1, 20))]
        return b"".join(mutate(rng, line) if not rng.randrange(3) else line for line in lines)
    return rng.choice(_LINK_SHAPES)(rng)


def _pad(size: int) -> bytes:
    start = b'{"jsonrpc":"2.0","id":1,"method":"recv","params":{"max":1,"wait_s":0,"x":"'
    return start + b"x" * (size - len(start) - 3) + b'"}}'


def _many(line: bytes, least: int, most: int) -> Callable[[Random], bytes]:
    return lambda rng: line * rng.randrange(least, most)


def _call(method: str, params: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}\n'.encode()


_HELLO = '{"protocol":1,"generation":1,"holding":[]}'
_LINK_SHAPES: tuple[Callable[[Random], bytes], ...] = (
    lambda rng: _pad(LINE_LIMIT_BYTES + rng.choice((-1, 0, 1))) + b"\n",
    lambda rng: b"x" * (LINE_LIMIT_BYTES + rng.choice((-1, 0, 1))),
    lambda rng: rng.choice((b"[", b'{"a":', b"[{")) * rng.choice((63, 64, 65, 100_000)) + b"\n",
    lambda rng: rng.randbytes(rng.randrange(2_000)),
    _many(b"\n", 1, 100_000),
    _many(b"{}\n", 1, 2_000),
    # What is answered at once, by the hundred in one piece.
    _many(_call("recv", '{"max":1,"wait_s":0}'), 100, 900),
    # More than may wait at once, and then some that would not.
    _many(_call("recv", '{"max":1,"wait_s":100}'), 31, 40),
    _many(_call("hello", _HELLO), 2, 40),
    _many(_call("hello", _HELLO) + _call("ack", '{"ids":[1]}') + _call("recv", '{"max":1,"wait_s":9}'), 1, 20),
    # Notifications of what has no task, and of what has.
    _many(b'{"jsonrpc":"2.0","method":"recv","params":{"max":1,"wait_s":0}}\n', 1, 100),
    _many(b'{"jsonrpc":"2.0","method":"list_reminders"}\n', 1, 100),
    lambda rng: (
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ack","method":"recv","params":{"max":1,"max":2,"wait_s":0}}\n'
    ),
    lambda rng: b'{"jsonrpc":"2.0","id":1,"method":"remind_me","params":{"note":"\\ud800"}}\n',
    lambda rng: b"\xef\xbb\xbf" + encode(draw_request(rng)),
    lambda rng: b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
)


# -- host.sock -------------------------------------------------------------------------------------------------


def draw_desktop_bytes(rng: Random) -> bytes:
    """Some lines, mutated or not, or what is no line at all. Nobody subscribes: those stay when they said all."""
    if rng.randrange(12) < 9:
        lines = [encode(_draw_desktop(rng)) for _ in range(rng.randrange(1, 20))]
        return b"".join(mutate(rng, line) if not rng.randrange(3) else line for line in lines)
    return rng.choice(_DESKTOP_SHAPES)(rng)


def _draw_desktop(rng: Random) -> dict[str, Any]:
    names = ("alice", "nobody", "..", "*", "", "\0", "\ud800", "x" * 300)
    scope = {
        "agents": rng.choice((False, None, 1)),
        "agent_names": rng.choice(([], ["alice"], ["alice", "nobody"], "alice", [7], ["alice"] * 500)),
        "forge": rng.choice((False, True, None, "x")),
    }
    fields: dict[str, Any] = {
        "cmd": rng.choice((*_DESKTOP_COMMANDS, *_DESKTOP_COMMANDS, *ODD_TEXTS)),
        "id": rng.choice(ODD_NUMBERS),
        "name": rng.choice(names),
        "paused": rng.choice((True, False, None, 0)),
        "graceful": rng.choice((True, False, None, "x")),
        "scope": rng.choice((scope, scope, scope, {}, None, [], 7)),
        "more": draw_value(rng),
    }
    return {key: value for key, value in fields.items() if key == "cmd" or rng.randrange(6)}


# All but the one that never ends, and but what would start containers.
_DESKTOP_COMMANDS = ("list", "agent_status", "urls", "pending", "approve", "deny", "set_paused", "stop")
_DESKTOP_SHAPES: tuple[Callable[[Random], bytes], ...] = (
    lambda rng: b'{"cmd":"list"}' + b" " * (DESKTOP_LINE_LIMIT_BYTES - 14 + rng.choice((-1, 0, 1))) + b"\n",
    lambda rng: b"x" * (DESKTOP_LINE_LIMIT_BYTES * rng.choice((1, 2, 20))),
    lambda rng: rng.choice((b"[", b'{"a":', b"[{")) * rng.choice((63, 1_000, 1_100, 10_000)) + b"\n",
    lambda rng: rng.randbytes(rng.randrange(2_000)),
    _many(b"\n", 1, 5_000),
    _many(b"{}\n", 1, 1_000),
    _many(b'{"cmd":"agent_status"}\n', 1, 500),
    lambda rng: b'{"cmd":"list","cmd":"urls"}\n',
    lambda rng: b'\xef\xbb\xbf{"cmd":"list"}\n',
    lambda rng: b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
)


# -- HTTP ------------------------------------------------------------------------------------------------------


def draw_http_bytes(rng: Random, targets: list[tuple[str, str]], host: str, mark: str, headers: str = "") -> bytes:
    """Some requests in one piece, mutated or not, or what is no HTTP/1.1 at all."""
    shape = rng.randrange(12)
    if shape < 9:
        requests = [_draw_http(rng, targets, host, mark, headers) for _ in range(rng.choice((1, 1, 2, 6)))]
        return b"".join(mutate(rng, one) if not rng.randrange(3) else one for one in requests)
    return rng.choice(_HTTP_SHAPES)(rng, host)


def _draw_http(rng: Random, targets: list[tuple[str, str]], host: str, mark: str, headers: str) -> bytes:
    method, path = rng.choice(targets)
    for name in ("name}", "id}", "}"):
        while name in path:
            start = path.index("{")
            values = ("alice", "1", *_PATHS) if method == "GET" else _PATHS
            path = path[:start] + rng.choice(values) + path[path.index("}") + 1 :]
    if not rng.randrange(3):
        path += "?" + rng.choice(
            ("limit=-1", "before=99999999999999999999", "agent=%00", "a=b&a=c", "q=%ff%22*", "&&&")
        )
    names = ("to", "body", "name", "text", "question", "subscription", "in_reply_to", "priority", "tokens", "options")
    fields = {name: draw_value(rng) for name in names if rng.randrange(3)}
    if rng.randrange(2):
        fields |= {"to": "dave", "body": mark + rng.choice(ODD_TEXTS)}
    fields["name"] = rng.choice(("é", "\0", "\ud800", "..", "A b", 7, None, "x" * 300))
    body = b"" if method == "GET" else json.dumps(fields).encode()
    length = len(body) + (0 if rng.randrange(8) else rng.choice((-1, 1, 10**6, 10**30)))
    if method != "GET" and not rng.randrange(5):
        framing = "transfer-encoding: chunked\r\n"
        body = rng.choice(
            (b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), b"ZZZ\r\n", b"-1\r\n", b"ffffffffffffffffff\r\nx")
        )
    else:
        framing = f"content-length: {length}\r\n" if body or not rng.randrange(3) else ""
    extra = "" if rng.randrange(3) else rng.choice(_HEADERS)
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{headers}{framing}{extra}\r\n"
    )
    return head.encode("latin-1", "replace") + body


_PATHS = ("nobody", "..", "%00", "%ff%fe", "0", "-1", "9223372036854775808", "é", "a" * 300, "%2e%2e%2f", "*")
_HEADERS = (
    "host: evil.example\r\n",
    "content-length: 5\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "cookie: " + "a=b; " * 500 + "\r\n",
    "cookie: \xff=\x01\r\n",
    "last-event-id: 99999999999999999999:0\r\n",
    "last-event-id: 1:999999999999999999\r\n",
    "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\nsec-websocket-version: 13\r\n",
    "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "expect: 100-continue\r\n",
    "range: bytes=0-,0-,5-1,-0\r\n",
    "range: bytes=" + "0-1," * 200 + "\r\n",
    "if-modified-since: never\r\n",
    "x: y\r\n" * 90,
    " folded: x\r\n",
    "x\0y: z\r\n",
    "x-forwarded-for: 127.0.0.1\r\nx-forwarded-host: hive\r\n",
    "content-encoding: gzip\r\n",
    "sec-fetch-site: cross-site\r\norigin: null\r\n",
)
_HTTP_SHAPES: tuple[Callable[[Random, str], bytes], ...] = (
    lambda rng, host: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    lambda rng, host: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
    lambda rng, host: rng.randbytes(rng.randrange(1, 3_000)),
    lambda rng, host: b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000,
    lambda rng, host: b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000,
    lambda rng, host: b"\r\n" * rng.randrange(1, 30_000),
    lambda rng, host: f"GET / HTTP/1.1\r\nhost: {host}\r\nhost: {host}\r\n\r\n".encode(),
    lambda rng, host: f"GET http://evil.example/ HTTP/1.1\r\nhost: {host}\r\n\r\n".encode(),
    lambda rng, host: f"GET /{'a' * 20_000} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode(),
    lambda rng, host: f"GET /assets/{'a' * rng.choice((255, 256, 4096))} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode(),
    lambda rng, host: b"GET /\r\n",
    lambda rng, host: b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n",
    lambda rng, host: f"GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n".encode() * rng.randrange(1, 200),
    # Answered before its body is read, which then is no body.
    lambda rng, host: (
        f"POST /api/messages HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n".encode() + b"Z" * 99
    ),
)


# -- CONNECT ---------------------------------------------------------------------------------------------------

_TARGETS = (
    *(
        "example.com:443",
        "127.0.0.1:22",
        "[::1]:22",
        "localhost:80",
        "2130706433:80",
        "0x7f.1:1",
        "a:0",
        "a:65536",
        ":1",
    ),
    *("a", "\0:1", "[::ffff:127.0.0.1]:1", "[fe80::1%25eth0]:1", "a." * 200 + ":1", "xn--\xff:443", "http://a/", "[:1"),
)


def draw_connect_bytes(rng: Random) -> bytes:
    shape = rng.randrange(6)
    if shape == 0:
        return rng.choice(_HTTP_SHAPES)(rng, "a")
    method = rng.choice(("CONNECT", "CONNECT", "CONNECT", "GET", "connect", "OPTIONS"))
    version = rng.choice(("HTTP/1.1", "HTTP/1.0", "HTTP/9.9", "HTTP/2", ""))
    headers = rng.choice(
        ("", "host: a\r\n", "x: y\r\n" * 3_000, "x" * 9_000, "bad header\r\n", "proxy-authorization: Basic \0\r\n")
    )
    head = f"{method} {rng.choice(_TARGETS)} {version}\r\n{headers}\r\n".encode("latin-1")
    return (mutate(rng, head) if not rng.randrange(3) else head) + rng.randbytes(rng.choice((0, 0, 100, 20_000)))


# -- changes ---------------------------------------------------------------------------------------------------


def mutate(rng: Random, data: bytes) -> bytes:
    """Cut off, bits flipped, parts doubled, taken out or replaced by what parsers stumble over."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data = data[:at]
            case 1 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
            case 2:
                data = data[:at] + rng.choice(_PIECES) + data[at:]
            case 3:
                data = data[:at] + data[at + rng.randrange(1, 20) :]
            case 4:
                data = data[:at] + data[max(0, at - rng.randrange(1, 200)) :]
            case _:
                data = data[:at] + rng.randbytes(rng.randrange(1, 8)) + data[at:]
    return data


_PIECES = (
    *(
        b"\0",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"NaN",
        b"Infinity",
        b"1e999",
    ),
    *(
        b"9" * 500,
        b"-0",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[" * 70,
        b"null",
        b",,",
        b":",
        b"\x1b[2J",
        b"\xf4\x90\x80\x80",
        b" " * 999,
    ),
)
