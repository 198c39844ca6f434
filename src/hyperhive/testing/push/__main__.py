"""`python -m hyperhive.testing.push`: the stand-in as a program. Prints `listening: 127.0.0.1:PORT` once it does."""

import argparse
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from hyperhive.testing.push.app import create_app


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hyperhive.testing.push", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--certificate", type=Path, default=None, help="PEM; with --key, TLS is spoken")
    parser.add_argument("--key", type=Path, default=None)
    return parser.parse_args(arguments)


class _Server(uvicorn.Server):
    """Tells its address once it accepts connections, not before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        sys.stdout.write(f"listening: 127.0.0.1:{sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()


def main() -> None:
    options = _parse_arguments(sys.argv[1:])
    config = uvicorn.Config(
        create_app(),
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.key,
    )
    # The server raises the signal again after it has shut down; with this the end is exit status 0.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _number, _frame: None)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", options.port))
        _Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
