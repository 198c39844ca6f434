"""The drivers by their names."""

from pathlib import Path

from hyperhive.core.errors import InvalidInputError
from hyperhive.core.paths import Roots
from hyperhive.host.drivers.bubblewrap import BubblewrapDriver
from hyperhive.host.drivers.gvisor import GvisorDriver
from hyperhive.host.drivers.image_shelf import HasImages, ManagedImages
from hyperhive.host.drivers.images import Images
from hyperhive.host.drivers.nixos import NixosDriver
from hyperhive.host.drivers.nixos_flake import NixInputs, parse_nix_inputs
from hyperhive.host.drivers.nixos_names import NAME_LIMIT_CHARS
from hyperhive.host.drivers.nspawn import NspawnDriver
from hyperhive.host.drivers.protocol import BuildsSystems, Driver

NIXOS = "nixos"
_NAMES = ("bubblewrap", "nspawn", "gvisor", NIXOS)
# Those whose containers do not have this machine's system, and get it by packages.
WITH_IMAGES = frozenset({"nspawn", "gvisor"})


def check_driver(name: str, nix_inputs: str = "") -> None:
    """Raises InvalidInputError for a driver that there is not, and for `nix_inputs` that it can build nothing from."""
    if name not in _NAMES:
        raise InvalidInputError(f"there is no driver {name!r}", f"there are: {', '.join(_NAMES)}")
    if name == NIXOS:
        _parse_inputs(nix_inputs)


def make_driver(
    name: str, roots: Roots, image_suite: str = "", images_folder: Path | None = None, nix_inputs: str = ""
) -> Driver:
    """The driver called `name`. Raises InvalidInputError like `check_driver`.

    `image_suite` is the one of images, for drivers that have any; empty: the machine's. `images_folder` is where they
    are, if it is not to be looked up in `roots` each time. `nix_inputs` is the setting of that name.
    """
    folder = images_folder or roots.images_folder
    check_driver(name, nix_inputs)
    if name == "bubblewrap":
        return BubblewrapDriver(roots.containers_folder)
    if name == NIXOS:
        return NixosDriver(roots.containers_folder, _parse_inputs(nix_inputs))
    if name == "nspawn":
        return NspawnDriver(roots.containers_folder, Images(folder, image_suite))
    return GvisorDriver(roots.containers_folder, Images(folder, image_suite))


def has_room(driver: str, agent: str) -> bool:
    """Whether a driver can have a container of an agent that is called so."""
    return driver != NIXOS or len(agent) <= NAME_LIMIT_CHARS


def check_name(driver: str, agent: str) -> None:
    """Raises InvalidInputError for an agent whose name is too long for a driver."""
    if not has_room(driver, agent):
        raise InvalidInputError(
            f"{agent} has {len(agent)} characters; agents of the nixos driver have {NAME_LIMIT_CHARS} at most",
            "containers of NixOS and their network interfaces have 11, of which 'h-' is ours: choose a shorter name",
        )


def find_images(driver: Driver) -> ManagedImages | None:
    """The images of a driver's containers; None if those have this machine's own system."""
    found = driver.images if isinstance(driver, HasImages) else None
    return found if isinstance(found, ManagedImages) else None


def find_revision(driver: Driver) -> str:
    """What a driver that is prepared builds systems from, see `BuildsSystems.revision`; empty if it builds none."""
    return driver.revision if isinstance(driver, BuildsSystems) else ""


def _parse_inputs(text: str) -> NixInputs:
    if not text:
        raise InvalidInputError(
            "HIVE_NIX_INPUTS does not say what systems of agents are built from",
            "on NixOS services.hyperhive sets it; elsewhere HIVE_DRIVER=nspawn",
        )
    return parse_nix_inputs(text)
