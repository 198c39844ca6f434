"""Takes the screenshots of docs/pages.md from a hive that really runs; only the model is a stand-in."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from browser.conftest import FLAGS, find_chromium
from hive_process import HiveProcess
from screenshots.pages import SIGHTS, SIZES, Sight
from screenshots.swarm import open_swarm

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
# Letters in shades of grey: coloured edges are those of one kind of screen alone.
LETTERS = ("--disable-sync", "--disable-lcd-text")
TOGETHER_BYTES = 9 * 512 * 1024


def take(page: Page, hive: HiveProcess, sight: Sight, path: Path) -> None:
    sight.show(page, hive)
    # A hint of the mouse that is still where something was clicked is no part of a page.
    page.mouse.move(1, 1)
    page.screenshot(path=path, full_page=sight.whole, animations="disabled", caret="hide", scale="css")


def take_all(browser: Browser, hive: HiveProcess, folder: Path, sights: Sequence[Sight]) -> None:
    for sight in sights:
        for size, name in sight.files.items():
            context = browser.new_context(
                viewport=SIZES[size],
                color_scheme="light" if sight.light else "dark",
                reduced_motion="reduce",
                has_touch=size == "phone",
            )
            page = context.new_page()
            if sight.signed_in:
                page.goto(hive.post("/api/login-links")["url"])
                page.get_by_test_id("containers").wait_for()
            print(name, flush=True)
            take(page, hive, sight, folder / name)
            context.close()


def remove_others(folder: Path) -> None:
    """What was a page once is none any more."""
    known = {name for sight in SIGHTS for name in sight.files.values()}
    for path in folder.glob("*.png"):
        if path.name not in known:
            path.unlink()


def parse_arguments() -> tuple[Path, Sequence[Sight]]:
    parser = argparse.ArgumentParser(prog="scripts/screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files go; docs/screenshots if not named")
    parser.add_argument("names", nargs="*", metavar="NAME", help="those alone, such as dashboard; all if none is named")
    options = parser.parse_args()
    names: list[str] = options.names
    unknown = set(names) - {sight.name for sight in SIGHTS}
    if unknown:
        parser.error(f"no page is called {', '.join(sorted(unknown))}: {', '.join(sight.name for sight in SIGHTS)}")
    return options.folder, [sight for sight in SIGHTS if not names or sight.name in names]


def main() -> None:
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    folder, sights = parse_arguments()
    folder.mkdir(parents=True, exist_ok=True)
    with open_swarm() as hive, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS, *LETTERS])
        take_all(browser, hive, folder, sights)
        browser.close()
    remove_others(folder)
    size = sum(path.stat().st_size for path in folder.glob("*.png"))
    print(f"{size / 1024 / 1024:.1f} MiB in {folder}")
    sys.exit(0 if size <= TOGETHER_BYTES else 1)


if __name__ == "__main__":
    main()
