"""The drivers by their names."""

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.gvisor import GvisorDriver
from hyperhive.host.drivers.images import Images
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.host.drivers.protocol import Driver


def make_driver(name: str, roots: Roots, image_suite: str = "") -> Driver:
    """The driver called `name`. Raises InvalidInputError for an unknown one.

    `image_suite` is the one of images, for drivers that have any; empty: the machine's.
    """
    if name == "bubblewrap":
        return BubblewrapDriver(roots.containers_folder)
    if name == "nspawn":
        return NspawnDriver(roots.containers_folder, Images(roots.images_folder, image_suite))
    if name == "gvisor":
        return GvisorDriver(roots.containers_folder, Images(roots.images_folder, image_suite))
    raise InvalidInputError(f"there is no driver {name!r}", "there are: bubblewrap, nspawn, gvisor")


def find_images(driver: Driver) -> Images | None:
    """The images of a driver's containers; None if those have this machine's own system."""
    found = driver.images if isinstance(driver, NspawnDriver) else None
    return found if isinstance(found, Images) else None
