"""One message to one notifier, as a program of its own that ends afterwards.

apprise takes a third of a second and 50 MB to load, talks to anybody's server, and waits for it: none of that is the
daemon's business. Standard input is a JSON object with url, title, body, link, receipt and timeout_s; nothing secret is
in arguments or environment. Once the message was taken, an empty file is put where `receipt` says, for a daemon that
does not live to read the answer. Standard output is one line of JSON: `fault`, empty if it arrived, from a fixed list,
for what libraries say of a failure often holds the URL; `status` where a server answered with one.
"""

import json
import logging
import re
import signal
import sys
from pathlib import Path
from typing import Any

import apprise

# Its types are not complete.
_LIBRARY: Any = apprise
# What the libraries say, and what is told of it. The first that fits counts.
_SAYINGS = (
    (r"error=(?:4\d\d|5\d\d)|status[_ ]code[=: ]+\d{3}", "status"),
    (r"Connection refused", "refused"),
    (r"Name or service not known|name resolution|NameResolutionError|nodename nor servname", "name"),
    (r"certificate|CERTIFICATE|SSLError|WRONG_VERSION_NUMBER", "tls"),
    (r"SMTPAuthenticationError|Authentication (?:failed|unsuccessful|credentials)|\b535\b", "login"),
    (r"timed? ?out|Timeout", "timeout"),
    (r"unreachable|No route to host", "unreachable"),
    (r"Connection (?:reset|aborted)|RemoteDisconnected|Connection unexpectedly closed", "broken"),
)


class _Overheard(logging.Handler):
    """What apprise says while it sends: never shown, only looked through."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    order: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    # Whoever started this may be gone, and then nobody else ends it.
    signal.alarm(int(order["timeout_s"]) + 1)
    overheard = _Overheard()
    logging.getLogger("apprise").addHandler(overheard)
    logging.getLogger("apprise").setLevel(logging.DEBUG)
    answer = _send(order, overheard)
    if not answer["fault"] and order["receipt"]:
        Path(order["receipt"]).touch(mode=0o600)
    print(json.dumps(answer))


def _send(order: dict[str, Any], overheard: _Overheard) -> dict[str, Any]:
    # Without threads of its own: the deadline is the caller's.
    asset = _LIBRARY.AppriseAsset(async_mode=False, service_timeout=0, allow_templates=False)
    plugin = _LIBRARY.Apprise.instantiate(order["url"], asset=asset, suppress_exceptions=True)
    if plugin is None:
        return {"fault": "url"}
    # Services that open something at a touch (ntfy and others) open what the message is about.
    if getattr(plugin, "click", "") is None:
        plugin.click = order["link"]
    notifier = _LIBRARY.Apprise(asset=asset)
    notifier.add(plugin)
    overheard.lines.clear()
    arrived = notifier.notify(title=order["title"], body=order["body"], body_format=_LIBRARY.NotifyFormat.TEXT)
    return {"fault": ""} if arrived else judge(overheard.lines)


def judge(lines: list[str]) -> dict[str, Any]:
    """What is told of a failure of which the libraries said `lines`."""
    text = "\n".join(lines)
    fault = next((word for pattern, word in _SAYINGS if re.search(pattern, text)), "other")
    found = re.search(r"(?:error=|status[_ ]code[=: ]+)(\d{3})\b", text)
    return {"fault": fault, "status": int(found[1])} if fault == "status" and found else {"fault": fault}


if __name__ == "__main__":
    main()
