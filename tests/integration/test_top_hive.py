"""`hive top` and `hive logs -f` on a real hive: what agents do is shown as they do it, also when the hive came back."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.app import App
from textual.pilot import Pilot

from cli_process import make_environment
from hive_process import HiveProcess, wait_for
from hyperhive.cli.client import Client
from hyperhive.cli.top_view.feed import Feed
from hyperhive.cli.top_view.view import Top
from hyperhive.core.paths import Roots
from top_screen import run_top

DEADLINE_S = 90


@asynccontextmanager
async def show(hive: HiveProcess, size: tuple[int, int]) -> AsyncGenerator[tuple[Top, Pilot[None]]]:
    roots = Roots(hive.data, hive.run)
    top = Top(Client(roots, timeout_s=10), lambda tell: Feed(roots, tell))
    async with top.run_test(size=size) as pilot:
        yield top, pilot


async def until(pilot: Pilot[None], is_so: Callable[[str], bool], what: str) -> str:
    """Waits for the screen to be so; returns it."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so(shown := read_screen(pilot.app)):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}\n{shown}"
        await pilot.pause(0.05)
    return shown


def read_screen(top: App[None]) -> str:
    strips = top.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
    return "\n".join("".join(segment.text for segment in line) for line in strips)


def find_row(shown: str, agent: str) -> str:
    return next((line for line in shown.splitlines() if line.strip().startswith(agent)), "")


async def test_agents_and_what_they_do_are_shown_while_they_do_it(hive: HiveProcess) -> None:
    await asyncio.to_thread(hive.wait_state, "manager", "idle")
    for name in ("alice", "bob"):
        await asyncio.to_thread(hive.post, "/api/agents", {"name": name})
    async with show(hive, (120, 40)) as (_, pilot):
        for name in ("manager", "alice", "bob"):
            await until(pilot, lambda shown, name=name: "idle" in find_row(shown, name), f"{name} is idle")
        work = '%% tool Bash {"command": "sleep 5"}\n%% say it is done'
        await asyncio.to_thread(hive.post, "/api/messages", {"to": "alice", "body": work})
        await until(pilot, lambda shown: "thinking" in find_row(shown, "alice"), "alice works")
        await until(pilot, lambda shown: "idle" in find_row(shown, "alice"), "alice is done")
        await until(pilot, lambda shown: "operator → alice" in shown, "what was said")
        await asyncio.to_thread(hive.post, "/api/agents/bob/pause", {"reason": "for lunch"})
        await until(pilot, lambda shown: "for lunch" in find_row(shown, "bob"), "bob is paused, and why")
        await asyncio.to_thread(hive.post, "/api/agents", {"name": "carol"})
        await until(pilot, lambda shown: "carol" in find_row(shown, "carol"), "carol comes")


async def test_a_hive_that_was_restarted_is_followed_again(hive: HiveProcess) -> None:
    await asyncio.to_thread(hive.wait_state, "manager", "idle")
    async with show(hive, (80, 24)) as (_, pilot):
        await until(pilot, lambda shown: "idle" in find_row(shown, "manager"), "the manager is idle")
        await asyncio.to_thread(hive.kill)
        shown = await until(pilot, lambda shown: "not live" in shown, "it says that it is not live")
        assert find_row(shown, "manager")
        await asyncio.to_thread(hive.start)
        await until(pilot, lambda shown: "not live" not in shown, "it is live again")
        await asyncio.to_thread(hive.post, "/api/agents/manager/pause", {"reason": "for lunch"})
        await until(pilot, lambda shown: "paused" in find_row(shown, "manager"), "and goes on")


def test_on_a_terminal_it_draws_the_agents_and_q_leaves_the_terminal_as_it_was(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    with run_top(hive.data) as screen:
        screen.wait_for(lambda: "manager" in screen.text and "needs you" in screen.text, "the manager is drawn")
        assert not screen.is_restored()
        screen.press("q")
        assert screen.wait_end() == 0
        assert screen.is_restored()


def test_without_colours_a_terminal_gets_none(hive: HiveProcess) -> None:
    hive.wait_state("manager", "idle")
    with run_top(hive.data, NO_COLOR="1") as screen:
        screen.wait_for(lambda: "manager" in screen.text, "the manager is drawn")
        screen.press("q")
        assert screen.wait_end() == 0
        for colour in (b"\x1b[38;", b";38;", b"[31m", b"[32m", b"[33m"):
            assert colour not in screen.written


def test_followed_logs_go_on_over_a_restart_of_the_hive(hive: HiveProcess, tmp_path: Path) -> None:
    hive.wait_state("manager", "idle")
    command = [sys.executable, "-m", "hyperhive.cli.main", "logs", "-f", "manager"]
    out, errors = tmp_path / "out", tmp_path / "errors"
    with out.open("wb") as stdout, errors.open("wb") as stderr:
        logs = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=make_environment(hive.data))
    try:
        wait_for(lambda: "linked as" in out.read_text(), "the log is shown", 60, hive)
        before = len(out.read_text())
        hive.kill()
        wait_for(lambda: "looking for it" in errors.read_text(), "it says that the hive is gone", 60)
        hive.start()
        wait_for(lambda: "it is back" in errors.read_text(), "it says that the hive is back", 60, hive)
        hive.wait_state("manager", "idle")
        hive.post("/api/agents/manager/restart")
        wait_for(lambda: "linked as" in out.read_text()[before:], "what was written since is shown", 60, hive)
        assert logs.poll() is None
    finally:
        logs.terminate()
        logs.wait()
