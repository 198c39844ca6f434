"""Terminals on the agent page: typed into, looked on at, drawn right, and never in charge of the page around them."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from browser.conftest import PHONE
from hive_process import HiveProcess, wait_for

TIMEOUT_MS = 60_000
# The screen as its rows are, without what is blank at the ends.
READ_ROWS = """rows => [...rows.children].map(row => row.textContent.replaceAll('\\u00a0', ' ').trimEnd())"""


def open_page(page: Page, hive: HiveProcess, fragment: str = "") -> None:
    hive.wait_state("manager", "idle")
    page.goto(f"{hive.origin}/agent/manager/{fragment}")
    expect(page.get_by_test_id("agent-state")).to_have_attribute("data-state", "idle", timeout=TIMEOUT_MS)


def open_terminal(page: Page, hive: HiveProcess) -> Locator:
    """A new terminal with the focus in it, and a prompt that is the same everywhere."""
    open_page(page, hive)
    page.get_by_test_id("terminal-toggle").click()
    page.get_by_test_id("terminal-new").click()
    view = page.locator(".terminal-view")
    expect_up(view)
    expect(view.locator(".xterm-helper-textarea")).to_be_focused()
    run(page, "PS1='> '; clear; echo re''ady")
    expect(rows_of(view)).to_contain_text("ready", timeout=TIMEOUT_MS)
    return view


def expect_up(view: Locator) -> None:
    expect(view).to_have_attribute("data-state", "up", timeout=TIMEOUT_MS)


def rows_of(view: Locator) -> Locator:
    return view.locator(".xterm-rows")


def run(page: Page, command: str) -> None:
    page.keyboard.type(command)
    page.keyboard.press("Enter")


def id_of(view: Locator) -> str:
    return str(view.get_attribute("data-testid")).removeprefix("terminal-")


def test_a_shell_outlives_a_reload_of_the_page_and_a_restart_of_the_hive(page: Page, hive: HiveProcess) -> None:
    view = open_terminal(page, hive)
    # Colours of a program's own are styles that the pages' policy would block if the page wrote them as text.
    run(page, "number=4; printf '\\033[38;2;255;100;0mgot %s\\033[0m\\n' $((number * 10 + 2))")
    expect(rows_of(view)).to_contain_text("got 42")
    page.reload()
    expect_up(view)
    expect(rows_of(view)).to_contain_text("got 42", timeout=TIMEOUT_MS)

    hive.kill()
    expect(view).to_have_attribute("data-state", re.compile("lost|connecting"), timeout=TIMEOUT_MS)
    expect(rows_of(view)).to_contain_text("got 42")
    hive.start()
    expect_up(view)
    expect(rows_of(view)).to_contain_text("got 42", timeout=TIMEOUT_MS)
    view.get_by_test_id("terminal-host").click()
    run(page, "echo still $((number + 1))")
    expect(rows_of(view)).to_contain_text("still 5", timeout=TIMEOUT_MS)
    run(page, "exit 3")
    expect(view.get_by_test_id("terminal-state")).to_have_text("the shell ended with status 3", timeout=TIMEOUT_MS)
    # It says so itself; that it has ended is known to the hive as well.
    expect(page.get_by_test_id(f"terminal-tab-{id_of(view)}")).to_contain_text("ended")
    assert hive.get("/api/agents/manager/terminals")[0]["status"] == 3


def test_who_looks_on_sees_all_of_it_and_cannot_type(page: Page, hive: HiveProcess) -> None:
    view = open_terminal(page, hive)
    run(page, "echo for''ward")
    expect(rows_of(view)).to_contain_text("forward")
    other = page.context.new_page()
    other.set_viewport_size({"width": 700, "height": 700})
    open_page(other, hive, f"#terminal-{id_of(view)}-read")
    seen = other.locator(".terminal-view")
    expect_up(seen)
    expect(rows_of(seen)).to_contain_text("forward", timeout=TIMEOUT_MS)
    expect(seen.get_by_test_id("terminal-state")).to_have_text("live, looking on")
    before = hive.get("/api/agents/manager/terminals")[0]
    seen.get_by_test_id("terminal-host").click()
    other.keyboard.type("echo intruded\n")
    # What asks the terminal for an answer gets none from one that only looks on.
    page.bring_to_front()
    view.get_by_test_id("terminal-reading").click()
    expect(view.get_by_test_id("terminal-state")).to_have_text("live, looking on", timeout=TIMEOUT_MS)
    view.get_by_test_id("terminal-reading").click()
    expect(view.get_by_test_id("terminal-state")).to_have_text("live", timeout=TIMEOUT_MS)
    view.get_by_test_id("terminal-host").click()
    run(page, "echo a''fter")
    expect(rows_of(seen)).to_contain_text("after", timeout=TIMEOUT_MS)
    expect(rows_of(seen)).not_to_contain_text("intruded")
    after = hive.get("/api/agents/manager/terminals")[0]
    assert (after["columns"], after["rows"]) == (before["columns"], before["rows"])
    assert after["bytes_in"] - before["bytes_in"] <= len("echo a''fter\r") + len("\x1b[I\x1b[O")


def test_what_a_program_asked_is_answered_once_and_not_again_when_it_is_replayed(page: Page, hive: HiveProcess) -> None:
    view = open_terminal(page, hive)
    before = hive.get("/api/agents/manager/terminals")[0]["bytes_in"]
    command = "printf '\\033[c'; cat"
    run(page, command)
    answer = "\x1b[?1;2c"
    wait_for(
        lambda: hive.get("/api/agents/manager/terminals")[0]["bytes_in"] == before + len(command + "\r" + answer),
        "the answer",
        hive=hive,
    )
    told = hive.get("/api/agents/manager/terminals")[0]["bytes_in"]
    page.reload()
    expect_up(view)
    expect(rows_of(view)).to_contain_text("cat", timeout=TIMEOUT_MS)
    view.get_by_test_id("terminal-host").click()
    run(page, "x")
    expect(rows_of(view)).to_contain_text("xx", timeout=TIMEOUT_MS)
    assert hive.get("/api/agents/manager/terminals")[0]["bytes_in"] == told + len("x\r")


def test_of_two_windows_that_may_type_the_one_that_typed_last_answers(page: Page, hive: HiveProcess) -> None:
    view = open_terminal(page, hive)
    other = page.context.new_page()
    open_page(other, hive, f"#terminal-{id_of(view)}")
    seen = other.locator(".terminal-view")
    expect_up(seen)
    expect(rows_of(seen)).to_contain_text("ready", timeout=TIMEOUT_MS)
    # Each of both has the focus of its own window, as far as either knows.
    for window, shown, command in ((page, view, "one"), (other, seen, "two")):
        window.bring_to_front()
        shown.get_by_test_id("terminal-host").click()
        run(window, f"clear; echo a''sking {command}")
        expect(rows_of(seen)).to_contain_text(f"asking {command}", timeout=TIMEOUT_MS)
        before = hive.get("/api/agents/manager/terminals")[0]["bytes_in"]
        # What is answered waits for `read`, which a second answer would reach as well.
        command = "printf '\\033[c\\033[5n'; read -r -d n -t 60; read -r -t 3 -n 1 && echo tw''ice; echo a''nswered"
        run(window, command)
        expect(rows_of(seen)).to_contain_text("answered", timeout=TIMEOUT_MS)
        expect(rows_of(seen)).not_to_contain_text("twice")
        after = hive.get("/api/agents/manager/terminals")[0]["bytes_in"]
        assert after - before == len(command + "\r" + "\x1b[?1;2c" + "\x1b[0n")


def test_a_program_that_fills_the_screen_is_drawn_as_it_is(page: Page, hive: HiveProcess) -> None:
    view = open_terminal(page, hive)
    run(page, "seq -f 'line %04g' 1 900 > lines; less lines")
    rows = rows_of(view)
    expect(rows).to_contain_text("line 0012", timeout=TIMEOUT_MS)
    height = len(rows.evaluate(READ_ROWS))
    assert rows.evaluate(READ_ROWS)[: height - 1] == [f"line {n:04}" for n in range(1, height)]
    page.keyboard.press("Shift+G")
    expect(rows).to_contain_text("line 0900")
    assert rows.evaluate(READ_ROWS)[: height - 1] == [f"line {n:04}" for n in range(902 - height, 901)]

    # It follows the window: less leaves its first line where it is.
    page.set_viewport_size({"width": 1100, "height": 700})
    expect(rows).not_to_contain_text("line 0900", timeout=TIMEOUT_MS)
    wait_for(lambda: rows.evaluate(READ_ROWS)[-1] == ":", "less to have drawn all", hive=hive)
    drawn = rows.evaluate(READ_ROWS)
    page.reload()
    expect_up(view)
    wait_for(lambda: rows.evaluate(READ_ROWS) == drawn, "the same screen", hive=hive)
    view.get_by_test_id("terminal-host").click()
    page.keyboard.press("g")
    expect(rows).to_contain_text("line 0001")
    height = len(rows.evaluate(READ_ROWS))
    assert rows.evaluate(READ_ROWS)[: height - 1] == [f"line {n:04}" for n in range(1, height)]
    page.keyboard.press("q")
    expect(rows).to_contain_text(">")
    expect(rows).not_to_contain_text("line 0001\n")


def test_what_a_program_writes_rules_its_screen_and_nothing_else(page: Page, hive: HiveProcess) -> None:
    view = open_terminal(page, hive)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    title = page.title()
    page.evaluate("navigator.clipboard.writeText('kept')")
    field = page.get_by_test_id("prompt-text")
    # Two ways to set a title, the clipboard, the window raised, the screen cleared, the focus reported, the bell.
    hostile = "\\033]0;EVIL\\007\\033]2;EVIL\\007\\033]52;c;RVZJTA==\\007\\033[5t\\033[2J\\033[?1004h\\007"
    link = "\\033]8;;http://evil.invalid/\\033\\\\a name\\033]8;;\\033\\\\"
    run(page, f"sleep 1; printf '{hostile}{link}\\n'; echo pri''nted")
    field.click()
    field.fill("half a thou")
    expect(rows_of(view)).to_contain_text("printed", timeout=TIMEOUT_MS)
    expect(field).to_be_focused()
    expect(field).to_have_value("half a thou")
    assert page.title() == title
    assert page.evaluate("navigator.clipboard.readText()") == "kept"
    # Only what can be read as an address is a link.
    box = view.get_by_test_id("terminal-host").bounding_box()
    assert box is not None
    for y in range(8, 60, 7):
        page.mouse.click(box["x"] + 30, box["y"] + y)
        page.keyboard.down("Control")
        page.mouse.click(box["x"] + 30, box["y"] + y)
        page.keyboard.up("Control")
    assert len(page.context.pages) == 1


def test_a_terminal_is_searched_copied_from_and_left_by_keyboard(page: Page, hive: HiveProcess) -> None:
    view = open_terminal(page, hive)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    run(page, "seq 1000 1400")
    expect(rows_of(view)).to_contain_text("1400")
    page.keyboard.press("Control+Shift+F")
    field = view.get_by_test_id("terminal-search")
    expect(field).to_be_focused()
    page.keyboard.type("1017")
    expect(rows_of(view)).to_contain_text("1017")
    view.get_by_test_id("terminal-copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == "1017"
    field.fill("nowhere to be found")
    expect(view.get_by_test_id("terminal-search-note")).to_have_text("no match")
    field.press("Escape")
    expect(view.locator(".xterm-helper-textarea")).to_be_focused()
    page.keyboard.press("Control+Shift+Escape")
    expect(page.get_by_test_id(f"terminal-tab-{id_of(view)}")).to_be_focused()
    view.get_by_test_id("terminal-screen-reader").click()
    expect(view.locator(".xterm-accessibility-tree")).to_contain_text("1400")


@pytest.mark.parametrize("size", [PHONE, {"width": 1400, "height": 900}])
def test_a_terminal_fits_a_phone_and_has_the_keys_that_a_phone_has_not(
    page: Page, hive: HiveProcess, size: dict[str, int]
) -> None:
    page.set_viewport_size({"width": size["width"], "height": size["height"]})
    view = open_terminal(page, hive)
    run(page, "stty size; echo si''zed")
    expect(rows_of(view)).to_contain_text("sized", timeout=TIMEOUT_MS)
    told = hive.get("/api/agents/manager/terminals")[0]
    expect(rows_of(view)).to_contain_text(f"{told['rows']} {told['columns']}")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    bar = view.get_by_test_id("terminal-keys")
    if size is not PHONE:
        expect(bar).to_be_hidden()
        return
    run(page, "cat")
    view.get_by_test_id("key-pipe").click()
    view.get_by_test_id("key-tilde").click()
    expect(rows_of(view)).to_contain_text("|~")
    view.get_by_test_id("key-ctrl").click()
    expect(view.get_by_test_id("key-ctrl")).to_have_attribute("aria-pressed", "true")
    page.keyboard.type("c")
    expect(rows_of(view)).to_contain_text("^C")
    expect(view.get_by_test_id("key-ctrl")).to_have_attribute("aria-pressed", "false")
    view.get_by_test_id("terminal-large").click()
    expect(view).to_have_class(re.compile("terminal-large"))
    page.keyboard.type("echo large")
    expect(rows_of(view)).to_contain_text("echo large")


def test_several_terminals_are_open_at_once_and_each_is_ended_by_itself(page: Page, hive: HiveProcess) -> None:
    first = id_of(open_terminal(page, hive))
    run(page, "echo one of them")
    page.get_by_test_id("terminal-new").click()
    expect(page.locator(".terminal-tab")).to_have_count(2)
    second = page.locator(".terminal-view:not([hidden])")
    expect_up(second)
    assert id_of(second) != first
    page.get_by_test_id(f"terminal-tab-{first}").click()
    shown = page.get_by_test_id(f"terminal-{first}")
    expect(rows_of(shown)).to_contain_text("one of them")
    shown.get_by_test_id("terminal-close").click()
    shown.get_by_test_id("terminal-close-yes").click()
    expect(shown).to_have_attribute("data-state", "ended", timeout=TIMEOUT_MS)
    shown.get_by_test_id("terminal-hide").click()
    expect(shown).to_have_count(0)
    expect(page.locator(".terminal-tab")).to_have_count(1)
    expect_up(second)
