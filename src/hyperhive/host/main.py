"""`hived`: the daemon as a program. `hive up` and `hive demo` become this."""

import asyncio
import sys

from hyperhive.core.errors import HiveError
from hyperhive.host.app import run
from hyperhive.host.settings import parse_flags
from hyperhive.system.log import configure_log


def main() -> None:
    """Exits with 0 after an orderly stop, 1 if the hive cannot start (why, and a hint, on standard error)."""
    settings = parse_flags(sys.argv[1:])
    configure_log()
    try:
        asyncio.run(run(settings))
    except HiveError as error:
        print(f"hived: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
