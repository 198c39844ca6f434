"""Hostile harnesses at terminal.sock and hostile viewers at a terminal's WebSocket: others notice nothing.

`SOCKET_FUZZ_SECONDS` fuzzes each for longer, `SOCKET_FUZZ_SEED` differently; a fault names seed and round.
"""

import asyncio
import base64
import json
import logging
import os
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI

from hyperhive.core.terminals import COLUMNS_LIMIT, ROWS_LIMIT, Ending, Terminal
from hyperhive.host.api.errors import add_error_handlers
from hyperhive.host.api.services import Services
from hyperhive.host.api.terminal_routes import terminal_routes
from hyperhive.host.terminals import Attachment
from hyperhive.system.http_server import serve_http
from socket_fuzz import Bystander, Streams, Target, fuzz, watch
from terminal_rig import GENERATION, Rig, eventually, open_rig
from terminal_viewer import Viewer

SEED = int(os.environ.get("SOCKET_FUZZ_SEED", "1"))
SECONDS = float(os.environ.get("SOCKET_FUZZ_SECONDS", "4"))
CLIENTS = 5
# For a byte to the harness and back, beside all that, on a machine that does other things, too.
PATIENCE_S = 10.0
SECRET = b"what others typed"


class Reader(Viewer):
    """Acknowledges what it sees."""

    attachment: Attachment | None = None

    def output(self, data: bytes) -> None:
        self.shown = (self.shown + data)[-100_000:]
        if self.attachment is not None:
            self.attachment.acknowledge(len(data))


@asynccontextmanager
async def no_errors(caplog: pytest.LogCaptureFixture) -> AsyncGenerator[None]:
    """Nothing fails in a callback, and nothing is logged as an error."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    with caplog.at_level(logging.ERROR):
        yield
    assert failures == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def make_bystander(rig: Rig, terminal: Terminal, viewer: Viewer) -> Bystander:
    """Somebody who types, and whose program answers."""
    attachment = rig.attach(terminal, viewer)
    if isinstance(viewer, Reader):
        viewer.attachment = attachment
    count = 0

    async def type_and_see() -> None:
        nonlocal count
        count += 1
        typed = b"%s %d;" % (SECRET, count)
        attachment.write(typed)
        assert await rig.harness.read(terminal, len(typed)) == typed
        await rig.harness.write(terminal, typed.upper())
        await eventually(lambda: viewer.shown.endswith(typed.upper()))

    return Bystander("typing", type_and_see)


# -- the harness -------------------------------------------------------------------------------------------


def draw_harness_bytes(rng: Random, ids: Sequence[str]) -> bytes:
    """A first line that is right, nearly right, none, or without an end; then what no program writes."""
    head: Any = {"terminal": rng.choice(ids), "generation": GENERATION}
    match rng.randrange(12):
        case 0:
            return rng.randbytes(rng.randrange(2000))
        case 1:
            return rng.choice((b"{", b"x", b"\xff", b'{"terminal": "')) * rng.choice((1, 600, 200_000))
        case 2:
            head["generation"] = rng.choice((0, -1, GENERATION - 1, GENERATION + 1, 2**70, "7", None, 7.5))
        case 3:
            head["terminal"] = rng.choice(("", "x" * 300, 0, None, [], "\0", head["terminal"].upper(), "../" * 9))
        case 4:
            head[rng.choice(("more", "agent", "__class__"))] = "bob"
        case 5:
            head = rng.choice(({}, [head], head["terminal"], None, {"terminal": head}))
        case _:
            head["replay"] = rng.choice((0, 1, 100, 256 * 1024))
    line = json.dumps(head).encode()
    if rng.randrange(6) == 0:
        line = line[: rng.randrange(len(line))]
    return line + rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"")) + draw_output(rng)


def draw_output(rng: Random) -> bytes:
    piece = rng.choice((b"\x1b", b"\n", b"\0", b"\x1b[c\x1b]11;?\x07", b"\xf0\x9f", b"flood\r\n", rng.randbytes(200)))
    return piece * rng.choice((0, 1, 1000, 10_000))


async def test_a_hostile_harness_hears_nothing_of_other_terminals_and_holds_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_rig(tmp_path) as rig, no_errors(caplog):
        bystander = make_bystander(rig, await rig.open(), Viewer())
        # Two whose connection is to be had: one that somebody looks at, one that nobody does.
        seen, unseen = await rig.open(), await rig.open()
        for terminal in (seen, unseen):
            rig.harness.streams.pop(terminal.id).close()
        reader = Reader()
        reader.attachment = rig.attach(seen, reader)
        ids = [terminal.id for terminal in await rig.terminals.list("alice")]
        target = Target(
            "terminal",
            lambda: asyncio.open_unix_connection(str(tmp_path / "terminal.sock")),
            lambda rng: draw_harness_bytes(rng, ids),
            lambda answer: [f"it was told {answer[:80]!r}"] if answer else [],
        )
        async with watch(bystander):
            outcome = await fuzz(target, SEED, SECONDS, CLIENTS)
        print(f"{target.name}: {outcome.rounds} rounds, {outcome.sent_bytes >> 20} MiB; {bystander.render()}")
        assert outcome.faults == []
        assert outcome.rounds > 20
        assert bystander.took_s and max(bystander.took_s) < PATIENCE_S
        assert reader.shown and SECRET.upper() not in reader.shown
        # After its next hello a harness that behaves has all of them again.
        await bystander.ask()
        rig.terminals.greeted("alice", GENERATION)
        rig.harness.streams[seen.id] = rig.harness.connect(seen.id, replay=0)
        await rig.harness.write(seen, b"good again")
        await eventually(lambda: reader.shown.endswith(b"good again"))
        assert [one.ending for one in await rig.terminals.list("alice")] == [None, None, None]


# -- viewers -----------------------------------------------------------------------------------------------


def render_frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, length: int = -1) -> bytes:
    """`length`: what the frame says of itself, if it lies."""
    size = len(payload) if length < 0 else length
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([mask_bit | size])
    elif size < 2**16:
        head = bytes([mask_bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([mask_bit | 127]) + size.to_bytes(8, "big")
    # A mask of zeros leaves the payload as it is.
    return bytes([(0x80 if final else 0) | opcode]) + head + (b"\0\0\0\0" if masked else b"") + payload


def draw_text(rng: Random) -> bytes:
    number = rng.choice((0, 1, -1, 80, 10**9, 2**80, 1.5, "80", None, True))
    message: Any = rng.choice(
        (
            {
                "kind": "resize",
                "columns": rng.randrange(1, COLUMNS_LIMIT + 9),
                "rows": rng.randrange(1, ROWS_LIMIT + 9),
            },
            {"kind": "resize", "columns": number, "rows": 24},
            {"kind": "ack", "count": number},
            {"kind": "answer", "text": "\x1b[?1;2c" * rng.randrange(30)},
            {"kind": "answer", "text": number},
            {"kind": rng.choice(("ended", "replayed", "type", "")), "count": 1, "status": 0},
            [],
            number,
        )
    )
    text = json.dumps(message).encode()
    return text if rng.randrange(8) else text[: rng.randrange(len(text))] + rng.randbytes(3)


def draw_frames(rng: Random) -> bytes:
    frames: list[bytes] = []
    for _ in range(rng.randrange(1, 30)):
        match rng.randrange(12):
            case 0:
                frames.append(rng.randbytes(rng.randrange(100)))
            case 1:
                frames.append(render_frame(rng.randrange(16), rng.randbytes(rng.randrange(200))))
            case 2:
                frames.append(render_frame(2, b"x", length=rng.choice((0, 2, 200, 2**31, 2**62))))
            case 3:
                frames.append(render_frame(rng.choice((0, 1, 2)), rng.randbytes(20), final=False))
            case 4:
                frames.append(render_frame(2, b"unmasked", masked=False))
            case 5:
                frames.append(render_frame(rng.choice((8, 9, 10)), rng.randbytes(rng.choice((0, 1, 2, 125)))))
            case 6 | 7:
                frames.append(render_frame(2, rng.choice((b"", b"typed", b"\0", b"y" * 60_000))))
            case _:
                frames.append(render_frame(1, draw_text(rng)))
    return b"".join(frames)


def render_handshake(rng: Random, terminal_id: str) -> bytes:
    mode = rng.choice(("write", "write", "read"))
    key = base64.b64encode(rng.randbytes(16)).decode()
    return (
        f"GET /api/agents/alice/terminals/{terminal_id}/socket?mode={mode} HTTP/1.1\r\nhost: a\r\n"
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        f"sec-websocket-key: {key}\r\n\r\n"
    ).encode()


async def test_hostile_viewers_of_a_terminal_hold_up_nobody_and_leave_it_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_rig(tmp_path) as rig, no_errors(caplog):
        app = FastAPI()
        add_error_handlers(app)
        app.include_router(terminal_routes(cast("Services", SimpleNamespace(terminals=rig.terminals))))
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listener = await serve_http(app, listening, web_sockets=True)
        bystander = make_bystander(rig, await rig.open(), Viewer())
        fuzzed = await rig.open()
        program = asyncio.create_task(echo_forever(rig, fuzzed))

        async def open_tcp() -> Streams:
            return await asyncio.open_connection("127.0.0.1", port)

        target = Target(
            "viewer",
            open_tcp,
            lambda rng: render_handshake(rng, fuzzed.id) + draw_frames(rng),
            lambda answer: [f"it was told {word!r}" for word in (SECRET.upper(), b"Traceback") if word in answer],
        )
        async with watch(bystander):
            outcome = await fuzz(target, SEED, SECONDS, CLIENTS)
        print(f"{target.name}: {outcome.rounds} rounds, {outcome.answered} answered; {bystander.render()}")
        assert outcome.faults == []
        assert outcome.rounds > 20 and outcome.answered > 5
        assert bystander.took_s and max(bystander.took_s) < PATIENCE_S
        left = await wait_unseen(rig, fuzzed)
        assert 1 <= left.columns <= COLUMNS_LIMIT and 1 <= left.rows <= ROWS_LIMIT
        # It goes on for who looks at it now.
        viewer = Viewer()
        rig.attach(fuzzed, viewer).write(b"good again")
        await eventually(lambda: viewer.shown.endswith(b"good again"))
        await rig.terminals.close("alice", fuzzed.id)
        assert Ending.CLOSED in {one.ending for one in await rig.terminals.list("alice")}
        program.cancel()
        await asyncio.gather(program, return_exceptions=True)
        await listener.close(timeout_s=5)


async def wait_unseen(rig: Rig, terminal: Terminal) -> Terminal:
    """Until nobody looks at it any more."""
    async with asyncio.timeout(30):
        while True:
            (found,) = [one for one in await rig.terminals.list("alice") if one.id == terminal.id]
            if not found.viewers:
                return found
            await asyncio.sleep(0.05)


async def echo_forever(rig: Rig, terminal: Terminal) -> None:
    """A program that writes what is typed."""
    loop = asyncio.get_running_loop()
    stream = rig.harness.streams[terminal.id]
    while data := await loop.sock_recv(stream, 65536):
        await loop.sock_sendall(stream, data)
