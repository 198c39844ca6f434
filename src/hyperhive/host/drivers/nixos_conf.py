"""The conf of a NixOS container, `/etc/nixos-containers/NAME.conf`, as the hive wants it. Pure, but for `read_conf`
and `write_conf`.

systemd reads it as an EnvironmentFile of the container's unit, whose start script makes systemd-nspawn's argv of it;
`nixos-container` reads some lines of it, too. What systemd cannot read, the unit may start without: in the host's
network, with the host's uids. Such a file is refused.

Ours come first: an open quote or a backslash at the end of a line takes in what follows, and before them there is
nothing. The last assignment counts, so no other one of the same keys is left.
"""

import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.uids import INNER_UID, has_range
from hyperhive.host.drivers.nix_room import DAEMON_SOCKET
from hyperhive.host.drivers.protocol import DriverError, Mount
from hyperhive.host.drivers.seccomp import DENIED
from hyperhive.system.files import write_atomically

# systemd reads no file that it holds for too long; the lowest bound that it has had.
LIMIT_BYTES = 4 * 1024 * 1024

# Everything that gives a container a network beside its own loopback or the host's.
_ADDRESSES = (
    *("HOST_ADDRESS", "LOCAL_ADDRESS", "HOST_ADDRESS6", "LOCAL_ADDRESS6", "LOCAL_MAC_ADDRESS"),
    *("HOST_BRIDGE", "HOST_PORT"),
)
# What no line may say that is not ours, and what it would do. Nobody but root can have written it, and for a reason
# that we do not know: it is refused, not removed.
_REFUSED = {
    "NETWORK_NAMESPACE_PATH": "has it join another network",
    "INTERFACES": "gives it an interface of this machine",
    "MACVLANS": "gives it a network of this machine",
    "SYSTEM_PATH": "has it start another system than the one that was approved",
    "INSTANCE": "makes it another container",
    "root": "gives it other files",
}
_EMPTY = {"", "''", '""'}
# What an unquoted expansion by a shell leaves as it is, and nspawn does not take for a separator.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_.,/@%+=~-]*")
_PLAIN_HINT = "its path may have letters without accents, digits and _ . , / @ % + = ~ - only: move what is there"
_PLAIN_URI = re.compile(r"[A-Za-z0-9_.,:/@%+=?&~-]+")
# Bytes that are no UTF-8, as `read_conf` gives them, and code points that mean nothing: systemd has none in a value.
_UNREADABLE = re.compile(
    f"[\ud800-\udfff\ufdd0-\ufdef{''.join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))}]"
)
# One assignment, comment, blank line or line without a meaning, with its end: as systemd.exec(5) and the systemd from
# 254 on read an EnvironmentFile (before, a backslash at the end of a comment had it go on in the next line).
# Quotes count before the first bare character of a value only. It matches everywhere and never goes back.
_STATEMENT = re.compile(
    r"""
    [ \t]*+
    (?: [#;] [^\r\n]*+
      | (?P<key> [^ \t\r\n\#;] [^=\r\n]*+ )
        (?: =
          (?P<value>
            (?: [ \t]*+ (?: ' [^']*+ (?: ' | \Z ) | " (?: [^"\\]++ | \\. )*+ (?: " | \\?\Z ) ) )*+
            (?: [^\r\n\\]++ | \\. | \\\Z )*+
          )
        )?+
    )?+
    (?: \r\n | \r | \n | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)

# The last flags of nspawn's: they count more than those before.
# - No file of settings beside the conf has a say.
# - The files of the root are root's on this machine, and id-mapped: told a range, nspawn left to itself would take them
#   as they are. It cannot give them to a range of ours instead, as it does only to those that begin at a multiple of
#   65536: the root has to be on a file system that has id-mapped mounts.
# - The machine's nix daemon, which NixOS binds into every container, is covered: it would fetch, past the egress, what
#   an agent knows the hash of, and build outside of all limits. A tmpfs comes after a bind of the same folder, and is
#   there whether the socket is or not; in a user namespace nobody can take it away.
# - No call that no other container has either. Sockets are the drop-in's (`nixos_unit.py`).
# A whole system needs its capabilities, and in a user namespace of its own they are good for what is its own only.
# `--no-new-privileges` would take from it all set-uid programs, by which NixOS has PAM, D-Bus and ping; the harness
# itself does without new privileges.
_HARDENING = (
    *("--settings=no", "--private-users-ownership=auto", f"--tmpfs={DAEMON_SOCKET.parent}:mode=0555,size=4k"),
    *(f"--system-call-filter=~{call}" for call in DENIED),
)


@dataclass(frozen=True, slots=True)
class ConfPlan:
    """What a container's conf is to say.

    `range_start` is the host's number of its uid 0, see `core/uids.py`. Without `private_network` it is in the host's.
    `flake` is what `nixos-container update` builds when it is told of none.
    """

    mounts: tuple[Mount, ...]
    range_start: int
    private_network: bool
    flake: str


def rewrite_conf(text: str, plan: ConfPlan) -> str:
    """The content of a conf with the lines of `plan` first and all others as they were; again, it changes nothing.

    Raises InvalidInputError for what systemd would not read, for lines by which root makes another container of it,
    and for paths that cannot be bound.
    """
    if "\0" in text:
        raise _refuse(text, text.index("\0"), "a NUL byte", "no line of it would be read: remove the byte")
    ours = _render_ours(plan)
    lines = [f"{key}={value}\n" for key, value in ours.items()]
    rewritten = "".join([*lines, *_list_kept(text, ours)])
    if len(rewritten.encode("utf-8", "surrogateescape")) > LIMIT_BYTES:
        raise InvalidInputError(f"the container's conf has more than {LIMIT_BYTES} bytes", "shorten it")
    return rewritten


def read_conf(path: Path) -> str:
    """The content for `rewrite_conf`, whatever bytes it has. Raises DriverError, for a link, too: it is not ours."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
            return file.read(LIMIT_BYTES + 1).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DriverError(f"{path} cannot be read: {error.strerror}", _explain(path)) from error


def write_conf(path: Path, text: str) -> None:
    """Puts the conf in place whole, readable for everybody. Raises DriverError; it is then as it was."""
    if path.is_symlink():
        raise DriverError(f"{path} is a link", _explain(path))
    try:
        write_atomically(path, text.encode("utf-8", "surrogateescape"), 0o644)
    except OSError as error:
        raise DriverError(f"{path} cannot be written: {error.strerror}", _explain(path)) from error


def _explain(path: Path) -> str:
    if path.is_symlink():
        return f"this machine's own configuration declares containers.{path.stem}: rename it there"
    return "is the disk full, or read-only?"


def _list_kept(text: str, ours: Container[str]) -> Iterator[str]:
    """The statements that are not ours, as they are. Raises InvalidInputError for those that may not be there."""
    for found in _STATEMENT.finditer(text):
        if found["value"] is not None:
            key = found["key"].rstrip(" \t")
            if key in ours:
                continue
            _check_value(text, found.start(), key, found["value"])
        yield found[0]


def _check_value(text: str, start: int, key: str, value: str) -> None:
    if _UNREADABLE.search(key) or _UNREADABLE.search(value):
        raise _refuse(text, start, "a value that is not UTF-8", "no line of it would be read: mend the value")
    if key in _REFUSED and value.strip(" \t") not in _EMPTY:
        raise _refuse(text, start, f"{key}, which {_REFUSED[key]}", "remove the line")


def _refuse(text: str, position: int, what: str, hint: str) -> InvalidInputError:
    before = text[:position]
    line = before.count("\n") + before.count("\r") - before.count("\r\n") + 1
    return InvalidInputError(f"line {line} of the container's conf has {what}", hint)


def _render_ours(plan: ConfPlan) -> dict[str, str]:
    """The values of our keys, as systemd reads them. Raises InvalidInputError for what cannot be one."""
    if not has_range(plan.range_start + INNER_UID):
        raise InvalidInputError(f"no agent's range of uids begins at {plan.range_start}")
    if not _PLAIN_URI.fullmatch(plan.flake):
        raise InvalidInputError(f"{plan.flake!r} cannot be a conf's flake", _PLAIN_HINT)
    return {
        "PRIVATE_NETWORK": "1" if plan.private_network else "0",
        **dict.fromkeys(_ADDRESSES, ""),
        "PRIVATE_USERS": str(plan.range_start),
        # The start script reads it without a default, and nixos-container does not write it.
        "COPY_RESOLV_CONF": "0" if plan.private_network else "1",
        # After the machine's start the hive starts its agents, with the present limits.
        "AUTO_START": "0",
        "FLAKE": plan.flake,
        "EXTRA_NSPAWN_FLAGS": f'"{" ".join([*_HARDENING, *map(_render_bind, plan.mounts)])}"',
    }


def _render_bind(mount: Mount) -> str:
    """Not id-mapped: what the agent may write is of its own range already, and what root of the container wrote by a
    mapped mount would be root's on this machine, set-uid programs, too."""
    for path in (mount.source, mount.target):
        if not _PLAIN_PATH.fullmatch(str(path)) or ".." in path.parts:
            raise InvalidInputError(f"{str(path)!r} cannot be bound into a NixOS container", _PLAIN_HINT)
    return f"--bind{'' if mount.writable else '-ro'}={mount.source}:{mount.target}"
