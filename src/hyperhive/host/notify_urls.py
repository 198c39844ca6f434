"""The operator's file of notifiers: one apprise URL a line, each a secret. Read again when it changes.

A URL is known by its digest and shown by its scheme: nothing else of it leaves this module but to `notify_sender`.
"""

import hashlib
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import structlog
from pydantic import SecretStr

from hyperhive.core.errors import InvalidInputError

log = structlog.get_logger(__name__)

FILE_LIMIT_BYTES = 65536
CHANNELS_LIMIT = 16
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://\S+")


@dataclass(frozen=True, slots=True)
class Channel:
    """`name` is what is shown: the URL's scheme, numbered from the second one on."""

    name: str
    digest: str
    url: SecretStr


def parse_urls(text: str) -> list[Channel]:
    """The channels of a file's text. Raises InvalidInputError, which names the line and quotes nothing of it."""
    channels: list[Channel] = []
    counts: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        url = line.strip()
        if not url or url.startswith("#"):
            continue
        found = _URL.fullmatch(url)
        if found is None or not url.isprintable():
            raise InvalidInputError(f"line {number} is no URL", "one apprise URL a line, such as ntfys://HOST/TOPIC")
        digest = hashlib.sha256(url.encode()).hexdigest()
        if any(channel.digest == digest for channel in channels):
            raise InvalidInputError(f"line {number} is there twice", "everything would be told twice")
        scheme = found[1].lower()
        counts[scheme] += 1
        name = scheme if counts[scheme] == 1 else f"{scheme}-{counts[scheme]}"
        channels.append(Channel(name, digest, SecretStr(url)))
    if len(channels) > CHANNELS_LIMIT:
        raise InvalidInputError(f"{len(channels)} URLs are too many", f"at most {CHANNELS_LIMIT}")
    return channels


class UrlFile:
    """`channels` are those of the last good file; `problem` says why what is there now does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: list[Channel] = []
        self.problem = ""
        self._seen: tuple[int, ...] | None = None

    def look(self) -> None:
        """Reads the file if it is another one than the last time. Without one there are no channels."""
        try:
            # Never to wait for whoever writes into a FIFO.
            handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            self.channels, self._seen, self.problem = [], None, ""
            return
        except OSError as error:
            self._tell(f"it cannot be read: {error.strerror}")
            return
        try:
            self._read(handle)
        finally:
            os.close(handle)

    def _read(self, handle: int) -> None:
        status = os.fstat(handle)
        seen = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode)
        if seen == self._seen:
            return
        self._seen = seen
        if problem := check_mode(self.path, status.st_mode):
            self._tell(problem)
            return
        with os.fdopen(handle, "rb", closefd=False) as file:
            self._take(file.read(FILE_LIMIT_BYTES + 1))

    def _take(self, content: bytes) -> None:
        if len(content) > FILE_LIMIT_BYTES:
            self._tell(f"it is longer than {FILE_LIMIT_BYTES} bytes")
            return
        try:
            self.channels = parse_urls(content.decode())
        except UnicodeDecodeError:
            self._tell("it is no text")
        except InvalidInputError as error:
            self._tell(f"{error.message}: {error.hint}")
        else:
            self.problem = ""
            log.info("notifier.channels", path=str(self.path), channels=[channel.name for channel in self.channels])

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("notifier.file_refused", path=str(self.path), problem=problem)
        self.problem = problem


def check_mode(path: Path, mode: int) -> str:
    """Why a file of this mode must not hold secrets; empty: it may."""
    if not stat.S_ISREG(mode):
        return "it is not a plain file"
    return f"it can be read by others: chmod 600 {path}" if stat.S_IMODE(mode) & 0o077 else ""
