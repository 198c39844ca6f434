"""Tells systemd how this program is doing, as sd_notify(3) describes it. Where systemd did not ask, nothing happens."""

import asyncio
import os
import socket
from collections.abc import MutableMapping

import structlog

from hyperhive.core.text import cut_text, render_safe_line

log = structlog.get_logger(__name__)

_SOCKET_VARIABLE = "NOTIFY_SOCKET"
_PERIOD_VARIABLE = "WATCHDOG_USEC"
_PID_VARIABLE = "WATCHDOG_PID"
# Systemd reads at once; a machine under load lets a program wait. The event loop waits, too: it must not for long.
_SEND_TIMEOUT_S = 0.5
_STATUS_LIMIT_CHARS = 200


class Systemd:
    """What started this program, if that was systemd: where it wants to be told, and how often.

    `address` is empty and `watchdog_s` None where nobody asked. Telling never raises: the program works all the same,
    and systemd draws its own conclusions from silence.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = _render_address(address)
        self._watchdog_s = watchdog_s
        # Held for good: a program that has run out of handles is not one that hangs.
        self._channel: socket.socket | None = None
        if address:
            self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._channel.settimeout(_SEND_TIMEOUT_S)

    @property
    def is_there(self) -> bool:
        return self._channel is not None

    def ready(self, status: str) -> None:
        """The program serves from now on."""
        self._send("READY=1", _render_status(status))

    def stopping(self, status: str) -> None:
        """The program has begun to end."""
        self._send("STOPPING=1", _render_status(status))

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._send(_render_status(status))

    async def beat(self) -> None:
        """Goes on for ever, or returns at once if nobody watches. An event loop that hangs beats no more."""
        while self._watchdog_s is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def close(self) -> None:
        """Nothing is told any more. Again is no error."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _send(self, *lines: str) -> None:
        if self._channel is None:
            return
        try:
            self._channel.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("systemd.not_told", told=lines[0], error=error.strerror or str(error))


def take_systemd(environment: MutableMapping[str, str], pid: int) -> Systemd:
    """What `environment` tells the process `pid` of systemd. It is taken out: no child is to speak for us."""
    address = environment.pop(_SOCKET_VARIABLE, "")
    period = environment.pop(_PERIOD_VARIABLE, "")
    watched = environment.pop(_PID_VARIABLE, str(pid))
    # Anything else is another kind of address (of a virtual machine's host), or a mistake.
    if not address.startswith(("/", "@")) or len(address) < 2:
        return Systemd()
    meant = watched == str(pid) and period.isascii() and period.isdigit() and int(period) > 0
    return Systemd(address, int(period) / 1_000_000 if meant else None)


def _render_address(address: str) -> bytes:
    # An abstract socket's name begins with a zero byte.
    return os.fsencode(address.replace("@", "\0", 1) if address.startswith("@") else address)


def _render_status(text: str) -> str:
    return f"STATUS={cut_text(render_safe_line(text), _STATUS_LIMIT_CHARS)}"
