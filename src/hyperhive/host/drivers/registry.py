"""The drivers by their names."""

from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.gvisor import GvisorDriver
from hyperhive.host.drivers.image_shelf import HasImages, ManagedImages
from hyperhive.host.drivers.images import Images
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.host.drivers.protocol import Driver

_NAMES = ("bubblewrap", "nspawn", "gvisor")
# Those whose containers do not have this machine's system.
WITH_IMAGES = frozenset({"nspawn", "gvisor"})


def check_driver(name: str) -> None:
    """Raises InvalidInputError for a driver that there is not."""
    if name not in _NAMES:
        raise InvalidInputError(f"there is no driver {name!r}", f"there are: {', '.join(_NAMES)}")


def make_driver(name: str, roots: Roots, image_suite: str = "", images_folder: Path | None = None) -> Driver:
    """The driver called `name`. Raises InvalidInputError for an unknown one.

    `image_suite` is the one of images, for drivers that have any; empty: the machine's. `images_folder` is where they
    are, if it is not to be looked up in `roots` each time.
    """
    folder = images_folder or roots.images_folder
    check_driver(name)
    if name == "bubblewrap":
        return BubblewrapDriver(roots.containers_folder)
    if name == "nspawn":
        return NspawnDriver(roots.containers_folder, Images(folder, image_suite))
    return GvisorDriver(roots.containers_folder, Images(folder, image_suite))


def find_images(driver: Driver) -> ManagedImages | None:
    """The images of a driver's containers; None if those have this machine's own system."""
    found = driver.images if isinstance(driver, HasImages) else None
    return found if isinstance(found, ManagedImages) else None
