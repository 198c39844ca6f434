"""What a driver keeps of a container: its record, what its watchers report, its log. No agent can write it."""

import contextlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyperhive.host.drivers.container_log import ContainerLog
from hyperhive.host.drivers.protocol import DriverError
from hyperhive.system.files import write_atomically
from hyperhive.system.pids import ProcessId, is_alive, load_boot_id

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Record:
    """What `container.json` holds. `init` is the first process of the container's pid namespace.

    `started_at` is set before the launch and `init` after it: a daemon that ended in between left only the former.
    """

    environment: dict[str, str]
    working_folder: str
    uid: int | None
    init: ProcessId | None = None
    boot_id: str = ""
    started_at: str | None = None
    stop_asked: bool = False
    # Records without it are of before there was a second driver.
    driver: str = "bubblewrap"


class Records:
    """The folders of all containers, below `folder`, which two drivers may use after one another."""

    def __init__(self, folder: Path, driver: str = "bubblewrap") -> None:
        self._folder = folder
        self._driver = driver
        self._boot_id = load_boot_id()

    def list_names(self) -> list[str]:
        """The containers that have a folder."""
        return [path.name for path in self._folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]

    def read_report(self, name: str) -> dict[str, Any]:
        """What was reported so far: objects, one after another, merged. No agent can write this file."""
        try:
            text = (self.container(name) / "report").read_text()
        except FileNotFoundError:
            return {}
        report: dict[str, Any] = {}
        for line in text.splitlines():
            # The last line may be half written.
            with contextlib.suppress(ValueError):
                report |= json.loads(line)
        return report

    def log(self, name: str) -> ContainerLog:
        return ContainerLog(self.container(name) / "log")

    def container(self, name: str) -> Path:
        """The container's folder. Checked again here: what follows removes and writes below it."""
        if not _NAME.fullmatch(name):
            raise DriverError(f"{name[:80]!r} is not a container's name")
        return self._folder / name

    def load(self, name: str) -> Record | None:
        """None if the driver has none. Raises DriverError if it cannot be read, or another driver's runs."""
        try:
            data = json.loads((self.container(name) / "container.json").read_bytes())
            data["init"] = ProcessId(**data["init"]) if data["init"] else None
            record = Record(**data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DriverError(
                f"the record of {name} cannot be read: {error!r}", "destroy it and make it anew"
            ) from error
        if record.driver == self._driver:
            return record
        if record.boot_id == self._boot_id and record.init is not None and is_alive(record.init):
            hint = f"start the hive with HIVE_DRIVER={record.driver}, then hive down"
            raise DriverError(f"{name} still runs by the driver {record.driver}", hint)
        return None

    def save(self, name: str, record: Record) -> None:
        path = self.container(name) / "container.json"
        try:
            write_atomically(path, json.dumps(asdict(record)).encode(), 0o600)
        except OSError as error:
            raise DriverError(f"the record of {name} cannot be written: {error}", "is the disk full?") from error

    def read_log(self, name: str, offset: int, limit_bytes: int) -> tuple[bytes, int]:
        try:
            return self.log(name).read(offset, limit_bytes)
        except OSError as error:
            raise DriverError(f"the log of {name} cannot be read: {error}", "") from error

    def find_log_range(self, name: str) -> tuple[int, int]:
        try:
            return self.log(name).range()
        except OSError as error:
            raise DriverError(f"the log of {name} cannot be read: {error}", "") from error

    def remove(self, name: str) -> None:
        """Removes all that is kept of a container; none is no error."""
        try:
            shutil.rmtree(self.container(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise DriverError(f"the folder of {name} cannot be removed: {error}", "") from error
