"""Programs that fill the screen in a terminal of the agent page: vim and htop, as they are in any other terminal."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from hive_process import HiveProcess, wait_for

TIMEOUT_MS = 60_000
# xterm.js draws a screen's rows as elements, each run of one style in a span.
READ_ROWS = """rows => [...rows.children].map(row => row.textContent.replaceAll('\\u00a0', ' ').trimEnd())"""
# Of the first run with `text`.
READ_COLORS = """(rows, text) => {
    const run = [...rows.querySelectorAll("span")].find(run => run.textContent.includes(text));
    const style = getComputedStyle(run);
    return [style.color, style.backgroundColor];
}"""
LARGE = {"width": 1400, "height": 1000}
SMALL = {"width": 1000, "height": 720}


class Screen:
    """A terminal of the manager's, with a prompt that is the same everywhere."""

    def __init__(self, page: Page, hive: HiveProcess) -> None:
        self.page = page
        self.hive = hive
        self.view = page.locator(".terminal-view")
        self.rows = self.view.locator(".xterm-rows")

    def open(self) -> "Screen":
        self.hive.wait_state("manager", "idle")
        self.page.goto(f"{self.hive.origin}/agent/manager/")
        self.page.get_by_test_id("terminal-toggle").click()
        self.page.get_by_test_id("terminal-new").click()
        expect(self.view).to_have_attribute("data-state", "up", timeout=TIMEOUT_MS)
        expect(self.view.locator(".xterm-helper-textarea")).to_be_focused()
        self.run("PS1='> '; clear; echo re''ady")
        expect(self.rows).to_contain_text("ready", timeout=TIMEOUT_MS)
        return self

    def run(self, command: str) -> None:
        self.page.keyboard.type(command)
        self.page.keyboard.press("Enter")

    def read(self) -> list[str]:
        return self.rows.evaluate(READ_ROWS)

    def wait(self, find_fault: Callable[[list[str]], str | None]) -> None:
        """Until nothing is wrong with the rows of the screen. Fails with what is, and the screen."""
        try:
            wait_for(lambda: find_fault(self.read()) is None, "the screen")
        except AssertionError:
            rows = self.read()
            pytest.fail("\n".join([f"not so: {find_fault(rows)}", *rows]), pytrace=False)

    def resize(self, size: dict[str, int]) -> None:
        """Returns once the page has another number of rows, and the hive knows of it."""
        before = len(self.read())
        self.page.set_viewport_size({"width": size["width"], "height": size["height"]})
        wait_for(lambda: len(self.read()) != before, "another height", hive=self.hive)
        wait_for(lambda: self.told() == len(self.read()), "the hive to know of it", hive=self.hive)

    def told(self) -> int:
        return self.hive.get("/api/agents/manager/terminals")[0]["rows"]

    def keep(self, name: str) -> None:
        """What it looks like, for whoever wants to see that: in the folder that HIVE_SCREENS names."""
        if folder := os.environ.get("HIVE_SCREENS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture
def screen(page: Page, hive: HiveProcess) -> Screen:
    page.set_viewport_size({"width": LARGE["width"], "height": LARGE["height"]})
    return Screen(page, hive).open()


def find_vim() -> str:
    """Not by its link: that may lead to another in a container."""
    path = shutil.which("vim") or shutil.which("vim.tiny")
    assert path, "vim is not installed: apt-get install vim-tiny"
    return str(Path(path).resolve())


def find_vim_fault(rows: list[str], lines: list[str], last: str) -> str | None:
    """What is wrong with a vim that shows `lines` and has them as `poem`; `last` is a pattern of the last row."""
    height = len(rows) - 2
    if rows[:height] != [*lines, *["~"] * (height - len(lines))]:
        return f"{lines}, and below them one ~ a row"
    if not rows[-2].startswith("poem"):
        return "the name of the file in the last row but one"
    return None if re.fullmatch(last, rows[-1]) else f"{last} in the last row"


def test_vim_shows_the_file_its_empty_lines_and_its_status_line_also_after_a_resize(screen: Screen) -> None:
    screen.run("printf 'alpha\\nbeta \\303\\244 \\342\\202\\254\\n\\tgamma\\n' > poem")
    vim = f"{find_vim()} -u NONE -N --cmd 'set laststatus=2 shortmess+=I noruler encoding=utf-8'"
    screen.run(f"clear; echo be''fore; {vim} poem")
    lines = ["alpha", "beta ä €", "        gamma"]
    screen.wait(lambda rows: find_vim_fault(rows, lines, r'"poem" 3L, \d+(B|C)'))
    text, background = screen.rows.evaluate(READ_COLORS, "poem")
    assert text != background
    screen.keep("vim")

    # Typed as in any vim: a line below the second, in the mode that the last row names.
    screen.page.keyboard.type("jodelta")
    lines.insert(2, "delta")
    screen.wait(lambda rows: find_vim_fault(rows, lines, "-- INSERT --"))
    screen.page.keyboard.press("Escape")
    screen.wait(lambda rows: find_vim_fault(rows, lines, ""))

    screen.resize(SMALL)
    screen.wait(lambda rows: find_vim_fault(rows, lines, ""))
    screen.keep("vim-small")
    screen.page.reload()
    expect(screen.view).to_have_attribute("data-state", "up", timeout=TIMEOUT_MS)
    screen.wait(lambda rows: find_vim_fault(rows, lines, ""))
    screen.resize(LARGE)
    screen.wait(lambda rows: find_vim_fault(rows, lines, ""))

    # Whoever leaves finds what was there before, and the file as it was written.
    screen.view.get_by_test_id("terminal-host").click()
    screen.run(":wq")
    screen.wait(lambda rows: find_fault_of_shell(rows, []))
    screen.run("cat poem")
    screen.wait(lambda rows: find_fault_of_shell(rows, ["> cat poem", *lines]))


def find_fault_of_shell(rows: list[str], lines: list[str]) -> str | None:
    """What was there before a program filled the screen, then `lines`, a prompt, and nothing more."""
    wanted = ["before", *lines, ">"]
    return None if rows[: len(wanted)] == wanted and not any(rows[len(wanted) :]) else f"{wanted} and nothing else"


def test_htop_has_its_meters_its_list_and_its_keys_where_they_belong_also_after_a_resize(screen: Screen) -> None:
    screen.run("sleep 1234567 &")
    # Of nobody's own settings, and every few tenths of a second.
    screen.run("clear; echo be''fore; HTOPRC=/dev/null htop -d 5")
    screen.wait(find_htop_fault)
    # The rows are those of this container: its own processes.
    screen.wait(lambda rows: None if any("sleep 1234567" in row for row in rows) else "a process of ours")
    header, background = screen.rows.evaluate(READ_COLORS, "PRI")
    assert header != background
    screen.keep("htop")

    screen.resize(SMALL)
    screen.wait(find_htop_fault)
    screen.keep("htop-small")
    screen.resize(LARGE)
    screen.wait(find_htop_fault)

    # Keys reach it as keys: help and back, then away.
    screen.page.keyboard.press("F1")
    screen.wait(lambda rows: None if any("Press any key" in row for row in rows) else "help")
    screen.page.keyboard.press("Escape")
    screen.wait(find_htop_fault)
    screen.page.keyboard.press("F10")
    screen.wait(lambda rows: find_fault_of_shell(rows, []))


def find_htop_fault(rows: list[str]) -> str | None:
    heads = [number for number, row in enumerate(rows) if re.match(r" +PID USER +PRI +NI ", row)]
    if len(heads) != 1:
        return "one header of the columns"
    meters, processes = "\n".join(rows[: heads[0]]), [row for row in rows[heads[0] + 1 : -1] if row]
    # One of all processors, as a container is not told how many there are.
    if not all(re.search(rf"^ +{name}\[.*\]", meters, re.MULTILINE) for name in ("CPU", "Mem", "Swp")):
        return "a bar for each of processors, memory and swap"
    if "Tasks: " not in meters or "Load average: " not in meters:
        return "meters above it"
    if not processes or not all(re.match(r" *\d+ \S+ +(\d+|-\d+|RT) ", row) for row in processes):
        return "a process in each row below it"
    is_there_alone = sum("F1Help" in row for row in rows) == 1
    return None if rows[-1].startswith("F1Help") and is_there_alone else "the keys in the last row, and there alone"
