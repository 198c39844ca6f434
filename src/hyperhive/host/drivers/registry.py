"""The drivers by their names."""

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.protocol import Driver


def make_driver(name: str, roots: Roots) -> Driver:
    """The driver called `name`. Raises InvalidInputError for an unknown one."""
    if name == "bubblewrap":
        return BubblewrapDriver(roots.containers_folder)
    raise InvalidInputError(f"there is no driver {name!r}", "there is: bubblewrap")
