"""`python -m hyperhive.testing.oauth`: the stand-in as a program. Prints `listening: 127.0.0.1:PORT` once it does."""

import argparse
import signal
import socket
import sys
import time
from pathlib import Path

import uvicorn

from hyperhive.testing.oauth import HOSTS
from hyperhive.testing.oauth.accounts import ACCESS_LIFETIME_S, Accounts
from hyperhive.testing.oauth.app import create_app
from hyperhive.testing.oauth.certificates import make_certificates


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hyperhive.testing.oauth", description=__doc__)
    parser.add_argument("folder", type=Path, help="gets the certificates (ca.pem is what to trust) and tokens.json")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--access-s", type=float, default=ACCESS_LIFETIME_S, help="how long an access token lives")
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
    certificates = make_certificates(options.folder, HOSTS)
    config = uvicorn.Config(
        create_app(Accounts(time.time, access_s=options.access_s), options.folder / "tokens.json"),
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        ssl_certfile=certificates.certificate,
        ssl_keyfile=certificates.key,
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
