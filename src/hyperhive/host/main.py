"""`hived`: the daemon as a program. `hive up` and `hive demo` become this."""

import asyncio
import gc
import sys

import uvloop

from hyperhive.core.errors import HiveError
from hyperhive.host.app import run
from hyperhive.host.settings import parse_flags
from hyperhive.system.log import configure_log

_GC_THRESHOLDS = (20_000, 20, 100)


def main() -> None:
    """Exits with 0 after an orderly stop, 1 if the hive cannot start (why, and a hint, on standard error)."""
    settings = parse_flags(sys.argv[1:])
    configure_log()
    try:
        # Half of what a message costs is the event loop: see docs/decisions/0020.
        # Far more is made and dropped for each message than Python thinks is normal, and none of it refers to itself: a
        # search for what does costs as much as there is in memory.
        gc.set_threshold(*_GC_THRESHOLDS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except HiveError as error:
        print(f"hived: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
