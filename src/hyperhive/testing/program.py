"""A stand-in as a program on the loopback, with TLS where it has a certificate."""

import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    """Tells its address once it accepts connections, not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        sys.stdout.write(f"listening: 127.0.0.1:{sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()


def run_program(app: Any, port: int, certificate: Path | None, key: Path | None) -> None:
    """Serves the ASGI application `app` until SIGTERM or SIGINT; port 0 takes any free one.

    Prints `listening: 127.0.0.1:PORT` once it does. Raises OSError if the port is taken.
    """
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    # The server raises the signal again after it has shut down; with this the end is exit status 0.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _number, _frame: None)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        _Server(config).run(sockets=[listener])
