"""`python -m hyperhive.testing.oauth`: the stand-in as a program. Prints `listening: 127.0.0.1:PORT` once it does."""

import argparse
import sys
import time
from pathlib import Path

from hyperhive.testing.oauth import HOSTS
from hyperhive.testing.oauth.accounts import ACCESS_LIFETIME_S, Accounts
from hyperhive.testing.oauth.app import create_app
from hyperhive.testing.oauth.certificates import make_certificates
from hyperhive.testing.program import run_program


def _parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hyperhive.testing.oauth", description=__doc__)
    parser.add_argument("folder", type=Path, help="gets the certificates (ca.pem is what to trust) and tokens.json")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--access-s", type=float, default=ACCESS_LIFETIME_S, help="how long an access token lives")
    return parser.parse_args(arguments)


def main() -> None:
    options = _parse_arguments(sys.argv[1:])
    certificates = make_certificates(options.folder, HOSTS)
    app = create_app(Accounts(time.time, access_s=options.access_s), options.folder / "tokens.json")
    run_program(app, options.port, certificates.certificate, certificates.key)


if __name__ == "__main__":
    main()
