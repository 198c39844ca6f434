"""uvicorn's WebSocket protocol, with bounds on what a client that does not keep to the rules can cost.

It takes over a connection after the head of its request. What the application reads and writes is ASGI's.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

# Of one message from a client.
MESSAGE_LIMIT_BYTES = 64 * 1024
# Browsers cut a large message into a few: pieces without content would otherwise be collected for ever.
FRAGMENTS_LIMIT = 256
# Each side looks this often whether the other is still there, and waits as long for the answer.
PING_INTERVAL_S = 20.0
# What is written to a client that reads nothing: answers to pings do not wait, as messages do.
UNREAD_LIMIT_BYTES = 256 * 1024
# How long a client may take to read the rest once the application is done.
CLOSE_WAIT_S = 5.0

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One connection. The application is never given a message over MESSAGE_LIMIT_BYTES, nor more than it takes."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            # The head was HTTP, but none of a WebSocket: uvicorn would leave the connection as it is.
            self.transport.write(_BAD_REQUEST)
            self.transport.close()

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.transport.is_closing():
            # Before it is known who asks, nothing of theirs is looked at.
            self.transport.pause_reading()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept" and not self.transport.is_closing() and not self.read_paused:
            self.transport.resume_reading()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        # Closing waits until all is read, and some read nothing.
        self.loop.call_later(CLOSE_WAIT_S, self.transport.abort)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS_LIMIT:
            self._fail(CloseCode.MESSAGE_TOO_BIG)
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """uvicorn logs each text that is none as an error of ours."""
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self._fail(CloseCode.INVALID_DATA)
        else:
            super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            self.transport.abort()
        else:
            super().handle_ping()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # Who answers no ping reads nothing either.
        self.transport.abort()

    def _fail(self, code: CloseCode) -> None:
        if not self.close_sent:
            self.conn.fail(code)
            self.handle_parser_exception()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
