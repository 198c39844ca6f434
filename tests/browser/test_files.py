"""The files of an agent's /state in Chromium: looked through by mouse and by keyboard, and left alone by updates."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browser.conftest import PHONE
from hive_process import HiveProcess, wait_for

HOSTILE = "<img src=x onerror=alert(1)> \u202egnp.exe \x1b]0;title\x07 end\n"
NAME = b"odd\n<b>\xff"


@pytest.fixture
def state(hive: HiveProcess) -> Path:
    """The folder of an agent that has files of every kind."""
    hive.wait_state("manager", "idle")
    hive.post("/api/agents", {"name": "alice"})
    hive.wait_state("alice", "idle")
    state = hive.data / "agents/alice/state"
    (state / "notes.md").write_text("# notes\n" + "- [ ] look at the build\n" * 400)
    (state / "hostile.html").write_text(HOSTILE)
    (state / "program").write_bytes(bytes(range(256)) * 40)
    (state / "passwd").symlink_to("/etc/passwd")
    (state / "logs/2026").mkdir(parents=True)
    (state / "logs/2026/today.txt").write_text("all is well\n")
    (state / "many").mkdir()
    for number in range(1200):
        (state / f"many/{number:04}").touch()
    (state / os.fsdecode(NAME)).write_text("odd\n")
    owner = state.stat()
    for path in state.rglob("*"):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return state


def open_files(page: Page, hive: HiveProcess) -> None:
    page.goto(f"{hive.origin}/agent/alice/")
    page.get_by_test_id("files-toggle").click()
    expect(page.get_by_test_id("entry-notes.md")).to_be_visible(timeout=30_000)


def test_files_are_looked_through_saved_and_never_obeyed(page: Page, hive: HiveProcess, state: Path) -> None:
    open_files(page, hive)
    expect(page.get_by_test_id("entry-passwd").get_by_role("button")).to_have_count(0)
    page.get_by_test_id("entry-logs").get_by_role("button").click()
    page.get_by_test_id("entry-2026").get_by_role("button").click()
    page.get_by_test_id("entry-today.txt").get_by_role("button").click()
    text = page.get_by_test_id("files-text")
    expect(text).to_have_text("all is well")
    trail = page.get_by_test_id("files-trail")
    expect(trail).to_have_text("/statelogs2026today.txt")

    # Nothing changes by itself; by hand it does, in its place.
    (state / "logs/2026/today.txt").write_text("all is lost\n")
    hive.post("/api/agents/alice/pause")
    expect(page.get_by_test_id("agent-state")).to_contain_text("paused", timeout=30_000)
    expect(text).to_have_text("all is well")
    page.get_by_test_id("files-reload").click()
    expect(text).to_have_text("all is lost", timeout=30_000)

    trail.get_by_role("button", name="/state").click()
    page.get_by_test_id("entry-hostile.html").get_by_role("button").click()
    expect(text).to_contain_text("<img src=x onerror=alert(1)> ⟨U+202E⟩gnp.exe ⟨U+001B⟩]0;title⟨U+0007⟩ end")
    expect(text.locator("img")).to_have_count(0)
    with page.expect_download() as saved:
        page.get_by_test_id("files-save").click()
    assert saved.value.suggested_filename == "hostile.html"
    assert Path(saved.value.path()).read_text() == HOSTILE

    trail.get_by_role("button", name="/state").click()
    page.get_by_test_id("entry-program").get_by_role("button").click()
    expect(page.get_by_test_id("files-place")).to_contain_text("it can only be saved")
    trail.get_by_role("button", name="/state").click()
    page.get_by_test_id("entry-odd\\x0a<b>\\xff").get_by_role("button").click()
    expect(text).to_have_text("odd")
    trail.get_by_role("button", name="/state").click()
    page.get_by_test_id("entry-many").get_by_role("button").click()
    expect(page.get_by_test_id("files-more")).to_contain_text("the first 1000 by name")
    page.get_by_test_id("files-rest").click()
    expect(page.get_by_test_id("entry-0999")).to_be_attached()


def test_the_keyboard_alone_opens_a_file_and_scrolls_it(
    page: Page, chromium: Browser, hive: HiveProcess, state: Path
) -> None:
    assert state.exists()
    open_files(page, hive)
    page.get_by_test_id("entry-notes.md").get_by_role("button").focus()
    page.keyboard.press("Enter")
    text = page.get_by_test_id("files-text")
    expect(text).to_be_visible()
    expect(page.get_by_test_id("files-place")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_test_id("files-save")).to_be_focused()
    page.keyboard.press("Tab")
    expect(text).to_be_focused()
    page.keyboard.press("End")
    # Scrolling is smooth: it is over once two looks agree.
    seen: list[float] = [0, 0]

    def is_scrolled() -> bool:
        seen.append(text.evaluate("element => element.scrollTop"))
        return seen[-1] > 1000 and seen[-1] == seen[-2]

    wait_for(is_scrolled, "the end of the text")

    # What comes in moves nothing: neither the text, nor where the keyboard is.
    before = seen[-1]
    for number in range(20):
        hive.post("/api/messages", {"to": "alice", "body": f"%% say number {number}"})
    expect(page.get_by_role("log").get_by_text("number 19").first).to_be_visible(timeout=60_000)
    assert text.evaluate("element => element.scrollTop") == before
    expect(text).to_be_focused()


def test_on_a_phone_nothing_of_it_is_wider_than_the_screen(chromium: Browser, hive: HiveProcess, state: Path) -> None:
    assert state.exists()
    context = chromium.new_context(viewport=PHONE)
    page = context.new_page()
    page.goto(hive.login_url)
    page.get_by_test_id("containers").wait_for()
    open_files(page, hive)
    page.get_by_test_id("entry-logs").get_by_role("button").click()
    page.get_by_test_id("entry-2026").get_by_role("button").click()
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    context.close()
