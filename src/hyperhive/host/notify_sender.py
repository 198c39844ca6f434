"""Has one message sent to one notifier, by a process of its own: whatever a service or its library does, it ends."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from hyperhive.core.notify_text import Notification
from hyperhive.system.process import ProcessError, run

SEND_TIMEOUT_S = 30.0
# What a library may need to find servers and their certificates; keys of the hive's are not among it.
_VARIABLES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
_FAULTS = {
    "url": "apprise does not know this kind of URL",
    "refused": "the connection was refused",
    "name": "the name of the host is not known",
    "tls": "no trusted connection could be made",
    "login": "the login was refused",
    "timeout": "there was no answer in time",
    "unreachable": "the host cannot be reached",
    "broken": "the connection broke",
    "other": "it was not taken",
}


async def send(
    url: SecretStr, message: Notification, receipt: Path | None = None, timeout_s: float = SEND_TIMEOUT_S
) -> str:
    """Sends the message, and says what went wrong, in words that hold nothing of the URL; empty: it arrived.

    `receipt` is a file that is there from when it was taken on, even if nobody waits for it any more. Never raises
    but when it is cancelled: what was under way is then ended.
    """
    order = {
        "url": url.get_secret_value(),
        "title": message.title,
        "body": message.body,
        "link": message.link,
        "receipt": str(receipt or ""),
        "timeout_s": timeout_s,
    }
    environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        done = await run(
            [sys.executable, "-P", "-m", "hyperhive.host.notify_child"],
            timeout_s=timeout_s,
            stdin=json.dumps(order).encode(),
            env=environment,
        )
    except ProcessError as error:
        late = isinstance(error.__cause__, TimeoutError)
        return f"there was no answer within {timeout_s:g} s" if late else "the sender cannot be started"
    return _parse_answer(done.stdout) if done.ok else f"the sender ended with status {done.status}"


def _parse_answer(output: bytes) -> str:
    """The words for the last line that the sender wrote; libraries may have written before."""
    try:
        answer: Any = json.loads(output.strip().splitlines()[-1])
        fault = str(answer["fault"])
        if fault == "status":
            return f"the service answered with status {int(answer['status'])}"
    except (ValueError, LookupError, TypeError):
        return _FAULTS["other"]
    return "" if not fault else _FAULTS.get(fault, _FAULTS["other"])
