"""host.sock, built on the daemon's parts and opened."""

from pathlib import Path

from hyperhive.host.desktop.desktop import Desktop
from hyperhive.host.desktop.server import DesktopServer
from hyperhive.host.desktop.socket_file import open_socket
from hyperhive.host.desktop.statuses import Statuses
from hyperhive.host.desktop.views import show_urls
from hyperhive.host.parts import Parts
from hyperhive.system.http_server import FindUid


async def open_desktop(
    parts: Parts, path: Path, public_url: str | None, origin: str, find_uid: FindUid
) -> DesktopServer:
    """Serves desktop clients at `path`. `public_url` is where the operator reaches the pages, if that was set;
    `find_uid` tells whose a connection is.

    Raises ConflictError if another program listens there, OSError if it cannot be listened there.
    """
    url = "" if public_url is None else public_url.rstrip("/")
    desktop = Desktop(
        parts.store,
        parts.agents,
        parts.approvals,
        parts.turn_acts,
        parts.parking,
        Statuses(parts.store, parts.feed, parts.roster, parts.parking, url),
        show_urls(public_url, origin),
    )
    server = DesktopServer(desktop, path, find_uid)
    await server.open(open_socket(path))
    return server
