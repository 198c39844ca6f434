"""`python -m hyperhive.testing.messages_api`: the stand-in as a program. Prints `listening: URL` when it is ready."""

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from hyperhive.testing.messages_api.app import create_app
from hyperhive.testing.messages_api.reply import Rule
from hyperhive.testing.notes_rule import answer_notes
from hyperhive.testing.rehearsal import answer_rehearsal

# Slow enough for a person to see that the answer streams.
REHEARSAL_CHUNK_DELAY_MS = 30
RULES: dict[str, Sequence[Rule]] = {"script": (answer_notes,), "rehearsal": (answer_notes, answer_rehearsal)}


def _parse_loopback(text: str) -> str:
    """The stand-in believes everybody and shows what it received: it is never offered to a network."""
    if not ipaddress.ip_address(text).is_loopback:
        raise argparse.ArgumentTypeError(f"{text} is not a loopback address")
    return text


def _parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hyperhive.testing.messages_api", description=__doc__)
    parser.add_argument("--host", type=_parse_loopback, default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--rules", choices=sorted(RULES), default="script")
    parser.add_argument(
        "--chunk-delay-ms",
        type=float,
        help=f"between two events of a stream; {REHEARSAL_CHUNK_DELAY_MS} in a rehearsal, else 0",
    )
    parser.add_argument("--tokens", type=Path, help="the file of the OAuth stand-in: only its bearer tokens count")
    parser.add_argument("--until-eof", action="store_true", help="end with standard input, however its writer ended")
    return parser.parse_args(arguments)


def _end_with_stdin() -> None:
    # Not by sys.stdin: its lock, held by this thread, would be in the way of the interpreter's end.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


class _Server(uvicorn.Server):
    """Tells its address once it accepts connections, not before."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        sys.stdout.write(f"listening: {self._url}\n")
        sys.stdout.flush()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def main() -> None:
    options = _parse_arguments(sys.argv[1:])
    natural_ms = REHEARSAL_CHUNK_DELAY_MS if options.rules == "rehearsal" else 0
    delay_ms = natural_ms if options.chunk_delay_ms is None else options.chunk_delay_ms
    # Of a caller that hung up in the middle of an answer nobody wants to read either.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    app = create_app(RULES[options.rules], delay_ms / 1000, options.tokens)
    config = uvicorn.Config(
        app,
        # A scripted cut is an error in the server's eyes; nobody wants to read of it.
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    # The server raises the signal again after it has shut down; with this the end is exit status 0.
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda _number, _frame: None)
    if options.until_eof:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    with _bind(options.host, options.port) as listener:
        host = f"[{options.host}]" if ":" in options.host else options.host
        _Server(config, f"http://{host}:{listener.getsockname()[1]}").run(sockets=[listener])


if __name__ == "__main__":
    main()
