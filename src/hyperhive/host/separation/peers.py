"""Who is at the other end of a unix socket: asked of the helper.

The kernel tells it in the numbers of whoever asks. In the daemon's user namespace all of the machine's users but agents
are one and the same number; to the helper they are who they are.
"""

import socket
import struct

from hyperhive.system.sockets import OVERFLOW_UID, peer_uid

# The helper has a thread for this alone.
_TIMEOUT_S = 2.0
_ASK = b"?"
_UID = struct.Struct("=I")


class Peers:
    """The daemon's side. `connection` is a socket for packets, and this one's from now on."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(_TIMEOUT_S)

    def find_uid(self, connection: socket.socket) -> int:
        """The uid of whoever connected, at the time when that was done; that of nobody if the helper does not say."""
        try:
            socket.send_fds(self._connection, [_ASK], [connection.fileno()])
            return _UID.unpack(self._connection.recv(_UID.size))[0]
        except (OSError, struct.error):
            # Its answer may come yet, and would be taken for the next one's.
            self._connection.close()
            return OVERFLOW_UID


def answer_peers(connection: socket.socket) -> None:
    """The helper's side: answers until the daemon has closed its end."""
    while True:
        try:
            asked, handles, _, _ = socket.recv_fds(connection, len(_ASK), 1)
            if not asked:
                return
            uid = OVERFLOW_UID
            for handle in handles:
                with socket.socket(fileno=handle) as peer:
                    uid = _find_uid(peer)
            connection.send(_UID.pack(uid))
        except OSError:
            return


def _find_uid(peer: socket.socket) -> int:
    try:
        return peer_uid(peer)
    except OSError:
        # It is no unix socket.
        return OVERFLOW_UID
