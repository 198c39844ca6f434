"""`hived`: the daemon as a program. `hive up` and `hive demo` become this."""

import asyncio
import gc
import resource
import sys

import uvloop

from hyperhive.core.errors import HiveError
from hyperhive.host.app import run
from hyperhive.host.settings import parse_flags
from hyperhive.system.log import configure_log

# Far more is made and dropped for each message than Python thinks is normal, and none of it refers to itself: a search
# for what does costs as much as there is in memory.
_GC_THRESHOLDS = (20_000, 20, 100)
# A hundred agents that open all that they may.
_FILES = 32_768


def main() -> None:
    """Exits with 0 after an orderly stop, 1 if the hive cannot start (why, and a hint, on standard error)."""
    settings = parse_flags(sys.argv[1:])
    configure_log()
    gc.set_threshold(*_GC_THRESHOLDS)
    _allow_files()
    try:
        # Half of what a message costs is the event loop: see docs/decisions/0020.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))
    except HiveError as error:
        print(f"hived: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(1)


def _allow_files() -> None:
    """As many open files as are needed: each agent has three sockets and their connections, and shells allow 1024."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, min(most, _FILES)), most))


if __name__ == "__main__":
    main()
