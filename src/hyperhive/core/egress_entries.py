"""An entry of `network.allow`: a host and port for a tunnel, or a plain http request with its method and path.

`example.org` · `example.org:8443` · `*.example.org:22` · `GET http://deb.example.org/debian/*`
"""

import functools
import re
from dataclasses import dataclass
from typing import Final

HTTPS_PORT = 443
HTTP_PORT = 80
# What a plain request may be; `*` in an entry stands for any of them.
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = rf"(\*\.)?{_LABEL}(\.{_LABEL}){{0,20}}"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_METHOD = rf"({'|'.join(METHODS)}|\*)"
_PATH = r"(?!.*/\.{1,2}(/|$))(?!.*//)/[A-Za-z0-9._~!$&'()+,;=:@/-]{0,500}\*?"

HOST: Final = rf"^{_HOST}$"
ENTRY: Final = rf"^({_METHOD} http://{_HOST}(:{_PORT})?{_PATH}|{_HOST}(:{_PORT})?)$"
_ENTRY = re.compile(
    rf"(?:(?P<method>{_METHOD}) http://)?(?P<host>{_HOST})(?::(?P<port>{_PORT}))?(?P<path>/.*)?", re.DOTALL
)
_MATCHES = re.compile(ENTRY.removeprefix("^").removesuffix("$"))


@dataclass(frozen=True, slots=True)
class Entry:
    """`method` and `path` are empty for a tunnel, of which the hive sees no more than host and port.

    `host` is a name, `*.` and a name, or an IPv4 address. A `path` with `*` at its end means all that begin so.
    """

    text: str
    host: str
    port: int
    method: str = ""
    path: str = ""

    def takes_method(self, method: str) -> bool:
        """Whoever may get something may ask for its head, too."""
        return self.method in {"*", method} or (self.method == "GET" and method == "HEAD")

    def takes_path(self, path: str) -> bool:
        if self.path.endswith("*"):
            return path.startswith(self.path[:-1])
        return path == self.path


@functools.lru_cache(maxsize=4096)
def parse_entry(text: str) -> Entry:
    """Raises ValueError."""
    if not _MATCHES.fullmatch(text):
        raise ValueError("is no entry of network.allow")
    found = _ENTRY.fullmatch(text)
    assert found is not None
    method = found["method"] or ""
    port = int(found["port"] or (HTTP_PORT if method else HTTPS_PORT))
    return Entry(text, found["host"], port, method, found["path"] or "")


def render_entry(host: str, port: int, method: str = "", path: str = "") -> str:
    """The entry for a tunnel, or for one plain request, as short as it can be written."""
    if method:
        return f"{method} http://{host}{'' if port == HTTP_PORT else f':{port}'}{path}"
    return host if port == HTTPS_PORT else f"{host}:{port}"
