"""The helper: root's, and started by the daemon before that gives up being root. `python -I -m … PLAN PEERS`.

Its standard input is a socket to the daemon, through which it is asked for one of the verbs that there are; handle
PEERS is one through which it is asked who has connected to the daemon. It ends when the daemon does: what it has
started for containers lives on.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import structlog
import uvloop

from hyperhive.core.errors import ConflictError, HiveError
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.registry import find_images, make_driver
from hyperhive.host.separation.checks import Checks
from hyperhive.host.separation.notes import HelperNotes
from hyperhive.host.separation.peers import answer_peers
from hyperhive.host.separation.plan import Plan
from hyperhive.host.separation.server import HelperServer
from hyperhive.system.lock import hold_lock
from hyperhive.system.log import configure_log

log = structlog.get_logger(__name__)

# A helper whose daemon was killed ends at once, or once the programs that it runs have.
_LOCK_TIMEOUT_S = 30.0
_LOCK_POLL_S = 0.05


def main() -> None:
    """Ends with 0 once the daemon has, with 1 if it cannot serve it (why, on standard error)."""
    configure_log()
    # Who stops the service, or the terminal, tells the daemon, too: with that we end. Handlers, as programs that are
    # started from here would go on ignoring what is ignored.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _note_signal)
    gc.freeze()
    plan = Plan.parse(sys.argv[1])
    roots = Roots(Path(plan.data), Path(plan.run))
    connection = socket.socket(fileno=os.dup(0))
    peers = socket.socket(fileno=int(sys.argv[2]))
    # Programs that are started from here have no part in them.
    peers.set_inheritable(False)
    with Path(os.devnull).open("rb") as null:
        os.dup2(null.fileno(), 0)
    threading.Thread(target=answer_peers, args=[peers], daemon=True).start()
    try:
        with ExitStack() as held:
            _wait_for_lock(roots.helper_folder / "lock", held)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(plan, roots, connection))
    except HiveError as error:
        sys.exit(f"helper: {error.message}")


async def _serve(plan: Plan, roots: Roots, connection: socket.socket) -> None:
    driver = make_driver(plan.driver, roots, plan.image_suite, Path(plan.images), plan.nix_inputs)
    checks = Checks(roots, plan.claude, Path(plan.ca_file) if plan.ca_file else None)
    notes = HelperNotes(roots.helper_folder / "audit.jsonl")
    await HelperServer(driver, find_images(driver), checks, notes).serve(connection)


def _wait_for_lock(path: Path, held: ExitStack) -> None:
    """One helper a hive: waits for that of a daemon that was here before. Raises ConflictError if it does not end."""
    until = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            held.enter_context(hold_lock(path, "another helper serves this hive"))
        except ConflictError:
            if time.monotonic() > until:
                raise
        else:
            return
        time.sleep(_LOCK_POLL_S)


def _note_signal(number: int, _: object) -> None:
    log.info("helper.signal_left_to_the_daemon", signal=number)


if __name__ == "__main__":
    main()
