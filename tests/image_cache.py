"""A base image for tests: built once for this machine and user, and taken from its cache by every later run.

It is what a hive would build, some 250 MB. Whoever tests what happens to images makes small ones of his own instead.
"""

import asyncio
import os
import platform
import shutil
import subprocess
from pathlib import Path

from hyperhive.host.drivers.images import Images


def find_folder() -> Path:
    """Where the images of tests are kept; the id of each says what it was made from."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "hyperhive-tests" / "images"


def open_images(folder: Path) -> Images:
    """Images of the suite that this machine has: also on a machine that is like a Debian and has another name."""
    return Images(folder, platform.freedesktop_os_release().get("VERSION_CODENAME", ""))


async def load_images() -> Images:
    """The images, with a base that was compared with its manifest. Workers of one run that ask at once build one."""
    images = open_images(find_folder())
    await images.prepare()
    await images.build([])
    return images


def make_images() -> Images:
    """The same for fixtures that are not async."""
    return asyncio.run(load_images())


def link_images(folder: Path) -> Path:
    """Makes `folder` one of images with that base, and the lists of packages that came with it; returns the base's.

    What is built there is the test's own.
    """
    [root] = make_images().find_layers([])
    base = root.parent
    folder.mkdir(mode=0o700, exist_ok=True)
    linked = subprocess.run(["cp", "-al", str(base), str(folder / base.name)], check=False, capture_output=True)
    if linked.returncode != 0:
        subprocess.run(["cp", "-a", str(base), str(folder / base.name)], check=True)
    shutil.copytree(find_folder() / "apt", folder / "apt")
    return folder / base.name


_loaded: list[Images] = []


async def get_images() -> Images:
    """The same images for all of one process: their base is compared only once."""
    if not _loaded:
        _loaded.append(await load_images())
    return _loaded[0]
