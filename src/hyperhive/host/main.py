"""`hived`: the daemon as a program. `hive up` and `hive demo` become this."""

import asyncio
import gc
import os
import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvloop

from hyperhive.core.errors import HiveError, InvalidInputError
from hyperhive.core.paths import decide_roots
from hyperhive.host.app import Given, run
from hyperhive.host.desktop.socket_file import FOLDER_MODE, find_reader_gids, open_run_folder
from hyperhive.host.drivers.registry import check_driver
from hyperhive.host.separation.plan import Plan
from hyperhive.host.separation.start import Places, separate
from hyperhive.host.settings import Settings, check_ca_file, load_credential, parse_flags
from hyperhive.system.lock import hold_lock
from hyperhive.system.log import configure_log

# Far more is made and dropped for each message than Python thinks is normal, and none of it refers to itself: a search
# for what does costs as much as there is in memory.
_GC_THRESHOLDS = (20_000, 20, 100)
# A hundred agents that open all that they may.
_FILES = 32_768
# The first port that anybody may listen at, see ip(7).
_FIRST_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

log = structlog.get_logger(__name__)


def main() -> None:
    """Exits with 0 after an orderly stop, 1 if the hive cannot start (why, and a hint, on standard error)."""
    settings = parse_flags(sys.argv[1:])
    configure_log()
    gc.set_threshold(*_GC_THRESHOLDS)
    _allow_files()
    try:
        # Half of what a message costs is the event loop: see docs/decisions/0020.
        with _prepare(settings) as given, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, given))
    except HiveError as error:
        print(f"hived: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def _prepare(settings: Settings) -> Generator[Given]:
    """What is to be had while we are root, and the hive's lock for as long as the context lasts. Raises HiveError."""
    roots = decide_roots(
        settings.data,
        environment=os.environ,
        uid=os.geteuid(),
        working_folder=Path.cwd(),
        rehearsal=settings.rehearsal,
    )
    roots.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    roots.run.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with hold_lock(roots.lock, "a hive runs on this data folder already"):
        check_driver(settings.driver, settings.nix_inputs)
        credential = None if settings.is_rehearsed else load_credential(settings, roots.credential)
        ca_file = check_ca_file(settings.ca_file)
        notify = None if settings.notify is None else settings.notify.absolute()
        if os.geteuid() != 0 or settings.keep_root:
            _let_readers_in(roots.run)
            yield Given(roots, credential, ca_file, notify)
            return
        _check_port(settings.port)
        plan = Plan(
            data=str(roots.data),
            run=str(roots.run),
            # It may be a link, in a folder where the daemon's user can put another.
            images=str(roots.images_folder.resolve()),
            driver=settings.driver,
            image_suite=settings.image_suite,
            claude=settings.claude,
            ca_file=str(ca_file or ""),
            nix_inputs=settings.nix_inputs,
        )
        places = Places([ca_file] if ca_file else [], [notify] if notify and notify.exists() else [])
        helper = separate(roots, plan, places)
        with helper.verbs, helper.peers:
            yield Given(roots, credential, ca_file, notify, helper)


def _let_readers_in(run: Path) -> None:
    try:
        open_run_folder(run, find_reader_gids())
    except OSError as error:
        log.warning("desktop.folder_closed", folder=str(run), reason=error.strerror)


def _check_port(port: int) -> None:
    """Raises InvalidInputError for one that only root may have."""
    if 0 < port < int(_FIRST_PORT.read_text()):
        hint = "name another with --port, and let a reverse proxy have this one; or HIVE_KEEP_ROOT=1"
        raise InvalidInputError(f"port {port} is for root alone, which the daemon does not stay", hint)


def _allow_files() -> None:
    """As many open files as are needed: each agent has three sockets and their connections, and shells allow 1024."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(allowed, min(most, _FILES)), most))


if __name__ == "__main__":
    main()
