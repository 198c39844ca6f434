"""Unix sockets by a path of any length.

The kernel takes at most 107 bytes of path. A longer one is reached through `/proc/self/fd/N/<name>`, with N
an opened handle of the socket's folder.
"""

import asyncio
import contextlib
import errno
import os
import select
import socket
import stat
import struct
from collections.abc import Callable, Generator
from pathlib import Path

# sizeof(sun_path) is 108 on Linux, with the terminating zero.
PATH_LIMIT_BYTES = 107
# proc_sys_kernel(5), overflowuid: whom a user namespace does not know.
OVERFLOW_UID = 65534
# What the kernel caps at net.core.somaxconn anyway.
BACKLOG = 512


def connect_unix(path: Path, *, timeout_s: float | None = None) -> socket.socket:
    """A stream socket connected to `path`; `timeout_s` is for connecting and stays the socket's timeout.

    Raises OSError: FileNotFoundError or ConnectionRefusedError when nobody listens there, PermissionError,
    TimeoutError when the listener's queue stays full.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        with _short_address(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def bind_unix(path: Path, *, mode: int = 0o600) -> socket.socket:
    """A non-blocking stream socket that listens at `path` with `mode`, in place of a socket file left there.

    The caller makes sure that no other program still listens there (the daemon holds its lock), removes the
    file when done, and hands the socket to asyncio with `sock=` (on Python 3.13 and later with
    `cleanup_socket=False`: the address of a long path is gone when the server closes).

    Raises OSError; FileExistsError when something that is no socket is in the way.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_socket_file(path)
        # Of an unbound socket the kernel takes the mode for the file it makes: there is no moment at which
        # the file is open to more than `mode` (the umask can only narrow it).
        os.fchmod(listener.fileno(), mode)
        with _short_address(path) as address:
            listener.bind(address)
            Path(address).chmod(mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


async def serve_socket(make_protocol: Callable[[], asyncio.BaseProtocol], listener: socket.socket) -> asyncio.Server:
    """Accepts connections on a bound socket, which it takes over. Cancelled, it has closed it."""
    server = await asyncio.get_running_loop().create_server(make_protocol, sock=listener, start_serving=False)
    try:
        # Gives way once: with `start_serving=True` a cancel in that moment would lose the server, and leave it open.
        await server.start_serving()
    except BaseException:
        server.close()
        raise
    return server


def peer_pid(connection: socket.socket) -> int:
    """The process that listens at the other end, as the kernel knows it; 0 if it is out of this one's sight."""
    size = struct.calcsize("3i")
    pid, _uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid


def peer_uid(connection: socket.socket) -> int:
    """The uid of the process at the other end of a unix socket, as the kernel recorded it at connect."""
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid


def has_hung_up(connection: int) -> bool:
    """Whether nobody can read what is written to a stream socket, given by its file descriptor.

    False also for a peer that has only said that it will write no more.
    """
    poll = select.poll()
    # Hanging up is told in any case.
    poll.register(connection, 0)
    return bool(poll.poll(0))


def _remove_socket_file(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise FileExistsError(errno.EEXIST, "there is something that is no socket", str(path))
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _short_address(path: Path) -> Generator[str]:
    """`path` as an address the kernel takes, while the context lasts."""
    if len(os.fsencode(path)) <= PATH_LIMIT_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        address = f"/proc/self/fd/{folder}/{path.name}"
        if len(os.fsencode(address)) > PATH_LIMIT_BYTES:
            raise OSError(errno.ENAMETOOLONG, "the name of the socket is too long", str(path))
        yield address
    finally:
        os.close(folder)
