"""`python -m hyperhive.testing.push`: the stand-in as a program. Prints `listening: 127.0.0.1:PORT` once it does."""

import argparse
import sys
from pathlib import Path

from hyperhive.testing.program import run_program
from hyperhive.testing.push.app import create_app


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hyperhive.testing.push", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--certificate", type=Path, default=None, help="PEM; with --key, TLS is spoken")
    parser.add_argument("--key", type=Path, default=None)
    return parser.parse_args(arguments)


def main() -> None:
    options = _parse_arguments(sys.argv[1:])
    run_program(create_app(), options.port, options.certificate, options.key)


if __name__ == "__main__":
    main()
