"""What bubblewrap is started with: what the sandbox is made of is in files in memory, as anyone can read an argv."""

import contextlib
import os
from collections.abc import Sequence

from hyperhive.host.drivers.sandbox import Sandbox
from hyperhive.host.drivers.seccomp import render_own_filter


def render_argv(
    sandbox: Sandbox, uid: int | None, command: Sequence[str], handles: contextlib.ExitStack
) -> tuple[list[int], list[str]]:
    """The handles to pass on, and the argv. What the sandbox is made of is in the former: anyone can read an argv."""
    denied = keep(handles, make_document(render_own_filter()))
    isolated = _render_document(("--seccomp", str(denied), *sandbox.arguments))
    inner = keep(handles, make_document(isolated))
    argv = ["bwrap", "--args", str(inner), "--", *command]
    if sandbox.prepare is None:
        return [denied, inner], argv
    outer = keep(handles, make_document(_render_document(sandbox.prepare)))
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--"]
    return [denied, inner, outer], ["bwrap", "--args", str(outer), "--", *drop, *argv]


def _render_document(arguments: Sequence[str]) -> bytes:
    """Arguments as bubblewrap reads them from a file."""
    return b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


def make_document(content: bytes) -> int:
    """A file in memory, to be read from its beginning. Raises OSError."""
    handle = os.memfd_create("document")
    with os.fdopen(os.dup(handle), "wb") as file:
        file.write(content)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


def keep(handles: contextlib.ExitStack, handle: int) -> int:
    """Has `handle` closed with `handles`."""
    handles.callback(os.close, handle)
    return handle
