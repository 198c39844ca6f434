"""A real Chromium on a profile of its own, and a page that is logged in and must stay free of errors."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from hive_process import HiveProcess

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDE: ViewportSize = {"width": 1400, "height": 1000}
PHONE: ViewportSize = {"width": 360, "height": 740}


def find_chromium() -> str:
    path = os.environ.get("HIVE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "chromium is not installed: apt-get install chromium"
    return path


# Not for the session: Playwright's event loop runs as long as it does, and asynchronous tests want their own.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, hive: HiveProcess) -> Iterator[Page]:
    """A page on the dashboard, opened by the printed link. Fails if the page itself reports an error."""
    context = chromium.new_context(viewport=WIDE)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
    # A page whose connection is gone says so in the console; that alone is not its fault.
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" and "net::ERR" not in m.text else None)
    page.goto(hive.login_url)
    page.get_by_test_id("containers").wait_for()
    yield page
    context.close()
    assert problems == []


def choose(page: Page, query: str, first: str) -> None:
    """Does something by the palette: what is typed finds `first` before all else."""
    page.keyboard.press("Control+k")
    expect(page.get_by_test_id("palette-query")).to_be_focused()
    page.keyboard.type(query)
    chosen = page.get_by_test_id("palette").locator("[aria-selected=true]")
    expect(chosen).to_have_attribute("data-testid", f"palette-item-{first}")
    page.keyboard.press("Enter")
