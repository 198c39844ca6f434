"""The pictures of the pages are those that docs/pages.md shows, all of them there and small."""

import re
import struct

from screenshots.main import FOLDER, TOGETHER_BYTES
from screenshots.pages import SIGHTS, SIZES

TEXT = (FOLDER.parent / "pages.md").read_text()
FILES = [name for sight in SIGHTS for name in sight.files.values()]


def test_the_document_shows_every_picture_once_and_no_other() -> None:
    assert re.findall(r"!\[[^\]]+\]\(screenshots/([\w.-]+)\)", TEXT) == FILES
    assert len(set(FILES)) == len(FILES)


def test_every_picture_is_there_and_no_other() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(FILES)


def test_the_pictures_are_as_wide_as_the_screen_and_small() -> None:
    for sight in SIGHTS:
        for size, name in sight.files.items():
            width, height = struct.unpack(">II", (FOLDER / name).read_bytes()[16:24])
            assert width == SIZES[size]["width"], name
            assert sight.whole or height == SIZES[size]["height"], name
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= TOGETHER_BYTES
