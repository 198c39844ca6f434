"""A hive whose containers have images: on the base that every test has."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from hive_process import HiveProcess, end_hive
from image_cache import find_folder, make_images


@contextmanager
def run_image_hive(driver: str) -> Generator[HiveProcess]:
    """A hive with that driver; it ends with the context."""
    make_images()
    with tempfile.TemporaryDirectory(prefix="hive-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        (data / "images").symlink_to(find_folder())
        hive = HiveProcess(data, flags=("--rehearsal", "--driver", driver)).start()
        try:
            yield hive
        finally:
            end_hive(hive)
