"""Becomes the command of a container: `python -I -S nspawn_command.py`, run inside as the container's user.

Standard input is a socket. We say there that we are here; what is to be executed comes back once the container is
closed, with a handle that tells of failure: the execution itself closes it. Stdlib only, without the package.
"""

import ctypes
import json
import os
import signal
import socket
import struct
import sys
from typing import Any

# include/uapi/linux/prctl.h, seccomp.h, filter.h
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION_BYTES = 8
_LENGTH = struct.Struct("=I")
# A shell has what it starts in the background ignore the first two, Python all its programs the others.
_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ)

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main() -> int:
    with socket.socket(fileno=0) as outside:
        outside.sendall(b"here")
        told, failure = _receive(outside)
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        outside.detach()
    if null > 2:
        os.close(null)
    os.set_inheritable(failure, False)
    try:
        _become(told)
    except OSError as error:
        os.write(failure, f"{error.filename or told['command'][0]}: {error.strerror}".encode())
    return 127


def _receive(outside: socket.socket) -> tuple[dict[str, Any], int]:
    length, handles, _, _ = socket.recv_fds(outside, _LENGTH.size, 1)
    content = bytearray()
    while len(content) < _LENGTH.unpack(length)[0]:
        piece = outside.recv(65536)
        if not piece:
            sys.exit(127)
        content += piece
    return json.loads(content), handles[0]


def _become(told: dict[str, Any]) -> None:
    """Does not return. Raises OSError."""
    command = told["command"]
    os.chdir(told["working_folder"])
    _deny(bytes.fromhex(told["denied"]))
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    # execvpe looks along the PATH of the given environment.
    os.execvpe(command[0], command, told["environment"])  # noqa: S606 - to start it is what this is for


def _deny(denied: bytes) -> None:
    program = _Program(len(denied) // _INSTRUCTION_BYTES, denied)
    for call in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))):
        if _libc.prctl(*call) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), "seccomp")


if __name__ == "__main__":
    sys.exit(main())
