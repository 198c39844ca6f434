"""The nursery's own process: `python nursery_server.py`, asked over the socket that is its standard input.

It ends when the socket does. See `nursery.py`.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nursery import LENGTH_BYTES, read_exactly

# What the programs find already imported.
_PREPARED = "hyperhive.host.app"


def _serve(connection: socket.socket) -> None:
    while True:
        head, files, _, _ = socket.recv_fds(connection, LENGTH_BYTES, 2)
        if not head:
            return
        head += read_exactly(connection, LENGTH_BYTES - len(head))
        request = json.loads(read_exactly(connection, int.from_bytes(head)))
        answer = _reap(request["ended"]) if "ended" in request else _fork(request, files, connection)
        connection.sendall(answer.to_bytes(LENGTH_BYTES, signed=True))


def _reap(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _fork(request: Mapping[str, Any], files: Sequence[int], connection: socket.socket) -> int:
    pid = os.fork()
    if pid != 0:
        for file in files:
            os.close(file)
        return pid
    status = 1
    try:
        connection.close()
        _become(request, files)
        status = _run(request["command"])
    except BaseException:  # noqa: BLE001 - nothing of it may reach the nursery's own loop
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # What is to be done at the end of the nursery is not this one's.
        os._exit(status)


def _become(request: Mapping[str, Any], files: Sequence[int]) -> None:
    """Takes on what a process of its own would have been given."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate([nothing, *files]):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])


def _run(command: Sequence[str]) -> int:
    """Runs a program as Python would. Returns its exit status."""
    program, *arguments = command
    try:
        if program == "-m":
            module, *arguments = arguments
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.argv = [program, *arguments]
            runpy.run_path(program, run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _main() -> None:
    # Ctrl-C ends the tests, and they end their hives.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.import_module(_PREPARED)
    # A fork has no other thread than the one that made it.
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=os.dup(0)) as connection:
        _serve(connection)


if __name__ == "__main__":
    _main()
