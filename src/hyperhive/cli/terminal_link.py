"""A WebSocket of one terminal, over the daemon's own socket. Nothing here waits, but for the handshake.

The protocol is the library's, the socket ours: one loop then looks at it, at the keyboard and at signals.
"""

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from hyperhive.cli.client import AnswerError, Client, parse_answer
from hyperhive.cli.terminal_queries import ReplayFilter
from hyperhive.core.errors import HiveError, UnavailableError

# Of what one frame may hold, in both directions.
FRAME_LIMIT_BYTES = 64 * 1024
# What is typed faster than it is taken waits in the keyboard's buffer, or in the pipe.
UNSENT_LIMIT_BYTES = 256 * 1024
_READ_BYTES = 128 * 1024


class LostError(HiveError):
    """The connection ended, the terminal did not. `code` is the WebSocket's, as far as there is one."""

    code = "lost"


@dataclass(frozen=True, slots=True)
class Output:
    """What is to be shown; `count` is what is to be acknowledged once it is."""

    data: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The shell is over; its exit status, if that is known."""

    status: int | None


class TerminalLink:
    """Attached to one terminal. `fileno` is for select; `wants_write` says that not all was sent yet."""

    def __init__(self, connection: socket.socket, agent: str, terminal_id: str, mode: str) -> None:
        """Shakes hands over `connection`, which is owned from then on. Raises HiveError for what the hive refuses."""
        self._socket = connection
        self._unsent = bytearray()
        self._frames: list[Frame] = []
        # Of what comes next, so many bytes are what was on the terminal before.
        self._past_bytes = 0
        self._filter = ReplayFilter()
        path = f"/api/agents/{quote(agent, safe='')}/terminals/{quote(terminal_id, safe='')}/socket"
        uri = parse_uri(f"ws://localhost{path}?{urlencode({'mode': mode})}")
        self._protocol = ClientProtocol(uri, max_size=FRAME_LIMIT_BYTES)
        try:
            self._shake_hands()
        except BaseException:
            connection.close()
            raise
        connection.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        return bool(self._unsent)

    @property
    def is_full(self) -> bool:
        return len(self._unsent) > UNSENT_LIMIT_BYTES

    def close(self) -> None:
        """Takes leave; what cannot be sent at once is not."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            with contextlib.suppress(LostError):
                self.flush()
        self._socket.close()

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), FRAME_LIMIT_BYTES):
            if self._protocol.state is State.OPEN:
                self._protocol.send_binary(data[start : start + FRAME_LIMIT_BYTES])
        self.flush()

    def answer(self, data: bytes) -> None:
        """What the terminal answered by itself. The hive takes it of one of those who look, and no more than once."""
        self._send_text({"kind": "answer", "text": data.decode("ascii")})

    def resize(self, columns: int, rows: int) -> None:
        self._send_text({"kind": "resize", "columns": columns, "rows": rows})

    def acknowledge(self, count: int) -> None:
        self._send_text({"kind": "ack", "count": count})

    def flush(self) -> None:
        """Sends what can be sent now. Raises LostError when the hive is gone."""
        self._unsent += b"".join(self._protocol.data_to_send())
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent[:_READ_BYTES])
            except BlockingIOError:
                return
            except OSError as error:
                raise LostError("the connection broke") from error
            del self._unsent[:sent]

    def read(self) -> list[Output | Ended]:
        """What has come by now; output is to be acknowledged. What was there before asks the terminal nothing.

        Raises LostError when nothing more will come.
        """
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            data = None
        except OSError as error:
            raise LostError("the connection broke") from error
        self._feed(data)
        frames, self._frames = self._frames, []
        found = [piece for frame in frames if (piece := self._take(frame)) is not None]
        if not found and self._protocol.close_rcvd is not None:
            raise LostError(self._protocol.close_rcvd.reason or "the hive closed the connection")
        if not found and data == b"":
            raise LostError("the connection broke")
        self.flush()
        return found

    def was_refused(self) -> bool:
        """Whether the hive closed the connection for a reason that will not pass."""
        received = self._protocol.close_rcvd
        return received is not None and received.code == 1008

    def _feed(self, data: bytes | None) -> None:
        if data:
            self._protocol.receive_data(data)
        elif data == b"":
            self._protocol.receive_eof()
        self._frames += [event for event in self._protocol.events_received() if isinstance(event, Frame)]

    def _take(self, frame: Frame) -> Output | Ended | None:
        """Output, or the end; None for what changes nothing here."""
        if frame.opcode in (Opcode.BINARY, Opcode.CONT):
            return self._take_output(bytes(frame.data))
        if frame.opcode is not Opcode.TEXT:
            return None
        match _parse_text(frame):
            case {"kind": "ended", "status": int(status)}:
                return Ended(status)
            case {"kind": "ended"}:
                return Ended(None)
            case {"kind": "replayed", "count": int(count)}:
                self._past_bytes = count
            case _:
                # Somebody else changed the size: what is drawn here is drawn anew by the program.
                pass
        return None

    def _take_output(self, data: bytes) -> Output:
        past, fresh = data[: self._past_bytes], data[self._past_bytes :]
        self._past_bytes -= len(past)
        shown = self._filter.feed(past) if past else b""
        if not self._past_bytes:
            shown += self._filter.end()
        return Output(shown + fresh, len(data))

    def _send_text(self, message: dict[str, Any]) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(json.dumps(message).encode())
        self.flush()

    def _shake_hands(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        try:
            self._socket.sendall(b"".join(self._protocol.data_to_send()))
            while not self._is_open():
                data = self._socket.recv(_READ_BYTES)
                if data:
                    self._protocol.receive_data(data)
                else:
                    self._protocol.receive_eof()
        except TimeoutError as error:
            raise UnavailableError("the hive did not answer in time") from error
        except OSError as error:
            raise UnavailableError("the hive went away before it answered") from error

    def _is_open(self) -> bool:
        events = self._protocol.events_received()
        self._frames += [event for event in events if isinstance(event, Frame)]
        refusal = self._protocol.handshake_exc
        if isinstance(refusal, InvalidStatus):
            answer: Response = refusal.response
            parse_answer(answer.status_code, bytes(answer.body))
        if refusal is not None:
            raise AnswerError("the hive does not speak of terminals", "is it of an older version?") from refusal
        return any(isinstance(event, Response) for event in events)


def open_link(client: Client, agent: str, terminal_id: str, mode: str) -> TerminalLink:
    """Attached to a terminal. Raises NoHiveError, and what the hive refuses."""
    return TerminalLink(client.open_socket(), agent, terminal_id, mode)


def _parse_text(frame: Frame) -> Any:
    try:
        return json.loads(bytes(frame.data))
    except ValueError as error:
        raise AnswerError("the hive sent a text that is no JSON") from error
