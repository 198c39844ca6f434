"""How a daemon that root has started stops being root, before it talks to anybody.

What needs root from then on is done by a program of root's, the helper, which knows a closed list of verbs
(`verbs.py`). See docs/decisions/0034.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import HiveError, UnavailableError
from hyperhive.core.paths import Roots
from hyperhive.host.desktop.socket_file import find_reader_gids
from hyperhive.host.drivers.detached import ENVIRONMENT
from hyperhive.host.drivers.nspawn_plan import observe_program
from hyperhive.host.separation.drop import drop_privileges
from hyperhive.host.separation.hand_over import give_file, hand_over
from hyperhive.host.separation.plan import Plan
from hyperhive.host.separation.view import enter_view

_HINT = "see docs/operating.md; with HIVE_KEEP_ROOT=1 the daemon stays root"


@dataclass(frozen=True, slots=True)
class Places:
    """Files of the operator's outside of the hive's folders that the daemon reads while it runs, absolute.

    `kept_secret` are for the hive alone.
    """

    shown: Sequence[Path] = ()
    kept_secret: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class HelperSockets:
    """The connections to the helper: for its verbs, and to ask it who is at the other end of a socket."""

    verbs: socket.socket
    peers: socket.socket


def separate(roots: Roots, plan: Plan, places: Places) -> HelperSockets:
    """Makes this process the daemon's user, and returns the connections to the helper that it has started.

    Must be root's and have one thread; the folders are there and locked. Raises HiveError.
    """
    closed = (roots.containers_folder, roots.images_folder, roots.helper_folder)
    try:
        readers = find_reader_gids()
        hand_over(roots.data, roots.run, closed, readers)
        for path in places.kept_secret:
            give_file(path)
        helper = _start_helper(plan)
        program = [mount.source for mount in observe_program().mounts]
        needed = [*program, *(path.resolve() for path in (*places.shown, *places.kept_secret))]
        enter_view([*needed, roots.data, roots.run], [roots.data, roots.run], closed)
        os.chdir("/")
        drop_privileges(readers)
    except HiveError:
        raise
    except (OSError, ValueError) as error:
        raise UnavailableError(f"the daemon cannot give up being root: {error}", _HINT) from error
    return helper


def _start_helper(plan: Plan) -> HelperSockets:
    """Its standard input is the other end of one of them: with that it ends."""
    verbs, its_verbs = socket.socketpair()
    peers, its_peers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its_verbs, its_peers:
        argv = [sys.executable, "-I", "-m", "hyperhive.host.separation.helper", plan.render(), str(its_peers.fileno())]
        # Nobody waits for it: it lives as long as the daemon.
        subprocess.Popen(
            argv,
            stdin=its_verbs.fileno(),
            pass_fds=[its_peers.fileno()],
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    return HelperSockets(verbs, peers)
