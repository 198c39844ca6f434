"""The agent page in Chromium: from an event in a container to the changed page, what a tab needs, the first load."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

from benchmarks.hives import Link, run_hive
from benchmarks.measure import Context, Rounds, Row, percentile
from benchmarks.processes import end_program
from benchmarks.sockets import Sockets

_AGENTS = [f"a{index}" for index in range(100)]
# Each of the others writes one line a second meanwhile.
_OTHERS_PER_S = 99
_PACE_S = 0.1
_LINES = 10_000
_BATCH = 100
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_MS = 1000
# Says when a text with a mark in it came into the page.
_WATCH = """() => {
  window.marks = {};
  new MutationObserver((changes) => {
    const at = (performance.timeOrigin + performance.now()) / 1000;
    for (const change of changes)
      for (const node of change.addedNodes)
        for (const [, mark] of (node.textContent ?? "").matchAll(/mark-(\\d+);/g)) window.marks[mark] ??= at;
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""

Tell = Callable[[Sequence[str]], None]


class _Swarm:
    """The links of all agents, as harnesses that have something to say."""

    def __init__(self, sockets: Sockets, links: dict[str, Link]) -> None:
        self._sockets = sockets
        self._links = links
        self._seqs = dict.fromkeys(links, 0)
        self._told_at = time.perf_counter()
        self._next = 0

    def tell(self, agent: str, texts: Sequence[str]) -> None:
        """Appends lines to the transcript of `agent`."""
        at = datetime.now(UTC).isoformat()
        events: list[dict[str, Any]] = []
        for text in texts:
            self._seqs[agent] += 1
            events.append({"seq": self._seqs[agent], "at": at, "kind": "notice", "body": {"text": text}})
        link = self._links[agent]
        link.write(link.plan("events.append", lambda _: None, events=events))

    def pump_for(self, duration_s: float) -> None:
        """Lets the others write meanwhile."""
        until = time.perf_counter() + duration_s
        while (now := time.perf_counter()) < until:
            while self._told_at < now:
                self._told_at += 1 / _OTHERS_PER_S
                self._next = self._next % (len(_AGENTS) - 1) + 1
                self.tell(_AGENTS[self._next], ["works on something"])
            self._sockets.pump_for(min(until - now, 1 / _OTHERS_PER_S))


def measure(context: Context) -> list[Row]:
    rounds = Rounds()
    sizes: dict[str, str] = {}
    with ExitStack() as stack:
        hive = stack.enter_context(run_hive(context.folder / "hive", names=_AGENTS))
        sockets = Sockets()
        links = {name: Link(sockets, hive, name) for name in _AGENTS}
        sockets.pump_until(lambda: all(link.ready for link in links.values()))
        swarm = _Swarm(sockets, links)
        bare_url, tell_bare = stack.enter_context(_run_bare(context.folder / "bare.sock"))
        browser = stack.enter_context(_open_browser())
        for number in range(context.choose(3, 1)):
            page = browser.new_context().new_page()
            page.goto(hive.post("/api/login-links")["url"])
            page.get_by_test_id("containers").wait_for()
            loaded = _open(page, f"{hive.origin}/agent/a0/")
            page.get_by_role("log").wait_for()
            _run_page("hive", page, lambda texts: swarm.tell("a0", texts), swarm, context, rounds, number)
            bare = browser.new_context().new_page()
            bare_loaded = _open(bare, bare_url)
            _run_page("bare", bare, tell_bare, swarm, context, rounds, number)
            sizes = {"hive": loaded, "bare": bare_loaded}
            for done in (page, bare):
                done.context.close()
        sockets.close()
    return [
        Row(
            "event in a container → changed page, 100 agents live, p50 / p95",
            _render_latency(rounds, "hive"),
            f"a bare page by server-sent events: {_render_latency(rounds, 'bare')}",
            rounds.render_ratio("hive p95", "bare p95"),
            "p95 ≤ 100 ms",
        ),
        Row(
            f"heap of the tab after {_LINES} lines of a transcript, and nodes of the page",
            _render_tab(rounds, "hive"),
            f"the bare page: {_render_tab(rounds, 'bare')}",
            rounds.render_ratio("hive heap", "bare heap"),
        ),
        Row("first load of the agent page", sizes["hive"], f"the bare page: {sizes['bare']}"),
    ]


def _run_page(name: str, page: Page, tell: Tell, swarm: _Swarm, context: Context, rounds: Rounds, number: int) -> None:
    page.evaluate(_WATCH)
    told_at: dict[str, float] = {}
    for index in range(context.choose(150, 40)):
        mark = str(number * 1000 + index)
        told_at[mark] = time.time()
        tell([f"mark-{mark}; something was done"])
        swarm.pump_for(_PACE_S)
    swarm.pump_for(1.0)
    marks: dict[str, float] = page.evaluate("() => window.marks")
    samples_s = [marks[mark] - at for mark, at in told_at.items()]
    for percent in (50, 95):
        rounds.add(f"{name} p{percent}", percentile(samples_s, percent) * _MS)
    for at in range(0, _LINES, _BATCH):
        tell([f"line {at + index} of many, as long as such lines are" for index in range(_BATCH)])
        swarm.pump_for(0.05)
    last = f"line {_LINES - 1} of many"
    while not page.get_by_text(last).count():
        swarm.pump_for(0.2)
    session = page.context.new_cdp_session(page)
    _ask(session, "HeapProfiler.collectGarbage")
    rounds.add(f"{name} heap", _find_metric(session, "JSHeapUsedSize") / 1e6)
    rounds.add(f"{name} nodes", _find_metric(session, "Nodes"))


def _find_metric(session: CDPSession, name: str) -> float:
    _ask(session, "Performance.enable")
    metrics = _ask(session, "Performance.getMetrics")["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == name)


def _ask(session: CDPSession, method: str) -> dict[str, Any]:
    return session.send(method)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _open(page: Page, url: str) -> str:
    """Loads `url` with an empty cache, and says what that took."""
    sizes: list[float] = []

    def note(event: dict[str, Any]) -> None:
        sizes.append(float(event["encodedDataLength"]))

    session = page.context.new_cdp_session(page)
    _ask(session, "Network.enable")
    _ask(session, "Network.clearBrowserCache")
    session.on("Network.loadingFinished", note)
    began = time.perf_counter()
    page.goto(url)
    page.get_by_role("log").wait_for(state="attached")
    took_s = time.perf_counter() - began
    session.detach()
    return f"{sum(sizes) / 1000:.0f} kB in {len(sizes)} answers, {took_s * _MS:.0f} ms"


def _render_latency(rounds: Rounds, name: str) -> str:
    return f"{rounds.median(f'{name} p50'):.0f} / {rounds.median(f'{name} p95'):.0f} ms"


def _render_tab(rounds: Rounds, name: str) -> str:
    return f"{rounds.median(f'{name} heap'):.1f} MB, {rounds.median(f'{name} nodes'):.0f}"


@contextmanager
def _open_browser() -> Generator[Browser]:
    path = os.environ.get("HIVE_CHROMIUM") or shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS, "--disable-sync"])
        yield browser
        browser.close()


@contextmanager
def _run_bare(path: Path) -> Generator[tuple[str, Tell]]:
    argv = [sys.executable, "-m", "benchmarks.bare_page", str(path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/"
        while not path.exists():
            time.sleep(0.01)
        with socket(AF_UNIX) as connection:
            connection.connect(str(path))
            yield url, lambda texts: connection.sendall("".join(f"{text}\n" for text in texts).encode())
    finally:
        end_program(process)
