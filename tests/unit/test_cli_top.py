"""`hive top`: what it shows of a hive, what its keys do, and that no text of an agent is more than text."""

import json
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Static

from cli_process import call
from fake_hive import AGENT, MESSAGE, NEED, PARK, FakeHive, Received, answer_with, refuse_with, run_fake_hive
from hyperhive.cli.client import Client
from hyperhive.cli.rendering import Screen
from hyperhive.cli.top_view.board import (
    FLOW_LIMIT,
    Board,
    plan_columns,
    render_cells,
    render_details,
    render_flow,
    render_head,
    render_needs,
    render_table_rows,
)
from hyperhive.cli.top_view.feed import Feed, News, parse_events
from hyperhive.cli.top_view.view import Top
from hyperhive.core.errors import ConflictError
from hyperhive.core.paths import Roots

DEADLINE_S = 30
SCREEN = Screen(now=datetime.now(UTC))
HOSTILE = "[red]x[/red]\x1b]0;title\x07\x1b[2J\u202egnp"


class Stream:
    """What the fake hive streams: each request gets what there is by then, the second one waits for more."""

    def __init__(self) -> None:
        self._events: list[str] = []
        self._told = threading.Event()
        self._asked = 0

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        self._events.append(f"event: {kind}\ndata: {json.dumps(data)}\n\n")
        self._told.set()

    def answer(self, _: Received) -> tuple[int, Any]:
        self._asked += 1
        if self._asked > 1:
            self._told.wait(1)
            self._told.clear()
        events, self._events = self._events, []
        return 200, ("retry: 1000\nid: 1:0\n: welcome\n\n" + "".join(events)).encode()


@pytest.fixture
def hive(tmp_path: Path) -> Iterator[FakeHive]:
    with run_fake_hive(tmp_path / "data") as fake:
        yield fake


@pytest.fixture
def stream(hive: FakeHive) -> Stream:
    stream = Stream()
    hive.answers["GET /api/stream"] = stream.answer
    return stream


@asynccontextmanager
async def show(hive: FakeHive, size: tuple[int, int] = (80, 24)) -> AsyncGenerator[tuple[Top, Pilot[None]]]:
    roots = Roots(hive.data, hive.data / "run")
    top = Top(Client(roots, timeout_s=10), lambda tell: Feed(roots, tell))
    async with top.run_test(size=size, notifications=True) as pilot:
        await wait_for(pilot, lambda: bool(top.board.agents), "the agents are there")
        yield top, pilot


async def wait_for(pilot: Pilot[None], is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}\n{read_screen(pilot.app)}"
        await pilot.pause(0.05)


def read_screen(top: App[None]) -> str:
    """All that is on the screen, as text."""
    strips = top.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
    return "\n".join("".join(segment.text for segment in line) for line in strips)


def asked(hive: FakeHive) -> list[str]:
    return [f"{received.method} {received.path}" for received in hive.received if received.method != "GET"]


# -- the screen ------------------------------------------------------------------------------------------------


async def test_all_that_matters_fits_a_terminal_of_80_by_24(hive: FakeHive, stream: Stream) -> None:
    hive.answers["GET /api/agents"] = answer_with([AGENT.model_copy(update={"reason": "waits for bob"})])
    async with show(hive) as (top, pilot):
        await wait_for(pilot, lambda: "alice" in read_screen(top), "the agents are drawn")
        await wait_for(pilot, lambda: "alice → operator" in read_screen(top), "the flow is drawn")
        await wait_for(pilot, lambda: "details" in read_screen(top), "the keys are drawn")
        shown = read_screen(top)
    for text in ("live", "1 for you", "agents: 1", "alice", "idle", "41 %", "$3.10", "hive requeue 12", "done"):
        assert text in shown
    for key in ("details", "pause", "resume", "start", "stop", "quit"):
        assert key in shown
    assert len(shown.splitlines()) == 24


async def test_what_happens_is_shown_while_it_happens(hive: FakeHive, stream: Stream) -> None:
    async with show(hive) as (top, pilot):
        stream.tell("state", AGENT.model_copy(update={"state": "thinking"}).model_dump(mode="json"))
        await wait_for(pilot, lambda: "thinking" in read_screen(top), "the state is drawn")
        message = MESSAGE.model_copy(update={"id": 13, "body": "and this"}).model_dump(mode="json")
        body = {"message": message}
        hive.answers["GET /api/messages"] = answer_with([message])
        stream.tell("hive", {"id": None, "at": "", "name": "message.sent", "agent": "alice", "body": body})
        await wait_for(pilot, lambda: "and this" in read_screen(top), "the message is drawn")


async def test_a_hive_that_goes_away_is_said_and_comes_back(hive: FakeHive, stream: Stream) -> None:
    answer = hive.answers["GET /api/agents"]
    async with show(hive) as (top, pilot):
        hive.answers["GET /api/agents"] = refuse_with(ConflictError("it restarts"), 503)
        await wait_for(pilot, lambda: "not live: it restarts" in read_screen(top), "it says so")
        assert "alice" in read_screen(top)
        hive.answers["GET /api/agents"] = answer
        await wait_for(pilot, lambda: "it restarts" not in read_screen(top), "it was asked again")


async def test_the_cursor_stays_on_its_agent_while_others_come(hive: FakeHive, stream: Stream) -> None:
    rows = [AGENT.model_copy(update={"name": name}) for name in ("bob", "eve")]
    hive.answers["GET /api/agents"] = answer_with(rows)
    async with show(hive) as (top, pilot):
        await wait_for(pilot, lambda: top.chosen == "bob", "the first row is chosen")
        await pilot.press("down")
        assert top.chosen == "eve"
        hive.answers["GET /api/agents"] = answer_with([*rows, AGENT])
        stream.tell("hive", {"id": 2, "at": "", "name": "agent.spawned", "agent": "alice", "body": {}})
        await wait_for(pilot, lambda: "alice" in top.board.agents, "alice has come")
        await wait_for(pilot, lambda: "alice" in read_screen(top), "alice is drawn")
        assert top.chosen == "eve"


async def test_details_have_what_the_row_has_no_room_for(hive: FakeHive, stream: Stream) -> None:
    async with show(hive) as (top, pilot):
        await wait_for(pilot, lambda: top.chosen == "alice", "alice is chosen")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "operator@example.test" in read_screen(top), "the details are there")
        assert "the last: ok" in read_screen(top)
        await pilot.press("escape")
        await wait_for(pilot, lambda: "operator@example.test" not in read_screen(top), "they are closed")


# -- the keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "act"), [("p", "pause"), ("r", "resume"), ("s", "start")])
async def test_a_key_is_one_request(hive: FakeHive, stream: Stream, key: str, act: str) -> None:
    async with show(hive) as (top, pilot):
        await wait_for(pilot, lambda: top.chosen == "alice", "alice is chosen")
        await pilot.press(key)
        await wait_for(pilot, lambda: bool(asked(hive)), "the hive was asked")
        await wait_for(pilot, lambda: f"{act}: alice" in read_screen(top), "it is said")
    assert asked(hive) == [f"POST /api/agents/alice/{act}"]


async def test_stop_asks_and_a_no_stops_nothing(hive: FakeHive, stream: Stream) -> None:
    async with show(hive) as (top, pilot):
        await wait_for(pilot, lambda: top.chosen == "alice", "alice is chosen")
        await pilot.press("x")
        await wait_for(pilot, lambda: "stop alice?" in read_screen(top), "it asks")
        await pilot.press("p", "x", "n")
        await wait_for(pilot, lambda: "stop alice?" not in read_screen(top), "it asks no more")
        assert asked(hive) == []
        await pilot.press("x")
        await wait_for(pilot, lambda: "stop alice?" in read_screen(top), "it asks again")
        await pilot.press("y")
        await wait_for(pilot, lambda: bool(asked(hive)), "the hive was asked")
    assert asked(hive) == ["POST /api/agents/alice/stop"]


async def test_a_refusal_is_shown(hive: FakeHive, stream: Stream) -> None:
    hive.answers["POST /api/agents/alice/pause"] = refuse_with(ConflictError(f"no {HOSTILE}"), 409)
    async with show(hive) as (top, pilot):
        await wait_for(pilot, lambda: top.chosen == "alice", "alice is chosen")
        await pilot.press("p")
        await wait_for(pilot, lambda: "[red]x[/red]" in read_screen(top), "it is said")
        assert "\x1b" not in read_screen(top)


async def test_q_ends_it(hive: FakeHive, stream: Stream) -> None:
    async with show(hive) as (top, pilot):
        await pilot.press("q")
    assert top.return_code == 0


# -- what is hostile, what is much ----------------------------------------------------------------------------


async def test_text_of_agents_is_neither_markup_nor_a_control_sequence(hive: FakeHive, stream: Stream) -> None:
    agent = AGENT.model_copy(update={"model": HOSTILE, "reason": HOSTILE, "last_outcome": HOSTILE})
    hive.answers["GET /api/agents"] = answer_with([agent])
    hive.answers["GET /api/messages"] = answer_with([MESSAGE.model_copy(update={"body": HOSTILE})])
    hive.answers["GET /api/needs"] = answer_with([NEED.model_copy(update={"title": HOSTILE, "agent": "alice"})])
    async with show(hive, (160, 40)) as (top, pilot):
        await wait_for(pilot, lambda: read_screen(top).count("[red]x[/red]\\x1b") >= 4, "all of it is drawn")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "the last: [red]x[/red]\\x1b" in read_screen(top), "the details are drawn")
        shown = read_screen(top)
    assert "\x1b" not in shown
    assert "\u202e" not in shown


async def test_without_colours_it_is_drawn_all_the_same(hive: FakeHive, stream: Stream, no_colour: None) -> None:
    async with show(hive) as (top, pilot):
        await wait_for(pilot, lambda: "alice" in read_screen(top), "the agents are drawn")
        assert top.no_color
        assert top.query_one("#head", Static).is_mounted


@pytest.fixture
def no_colour() -> Iterator[None]:

    before = os.environ.get("NO_COLOR")
    os.environ["NO_COLOR"] = "1"
    yield
    os.environ.pop("NO_COLOR", None)
    if before is not None:
        os.environ["NO_COLOR"] = before


async def test_a_flood_is_taken_in_pieces_and_kept_bounded(hive: FakeHive) -> None:
    told: list[News] = []
    board = Board()
    body = MESSAGE.model_dump(mode="json")
    for number in range(10_000):
        message = body | {"id": number + 1, "body": "x" * 5000}
        board.apply("hive", {"name": "message.sent", "body": {"message": message}})
    assert len(board.flow) == FLOW_LIMIT
    assert sum(len(str(row["body"])) for row in board.flow) <= FLOW_LIMIT * 400
    assert told == []


def test_a_message_told_twice_is_shown_once() -> None:
    board = Board()
    event = {"name": "message.sent", "body": {"message": MESSAGE.model_dump(mode="json")}}
    board.apply("hive", event)
    board.apply("hive", event)
    assert len(render_flow(board, SCREEN, 10, 80)) == 1


@pytest.mark.parametrize("data", [{}, {"name": "message.sent"}, {"name": "message.sent", "body": {"message": 3}}])
def test_an_event_that_is_none_changes_nothing(data: dict[str, Any]) -> None:
    board = Board()
    board.apply("hive", data)
    assert render_flow(board, SCREEN, 10, 80) == ["nothing was said yet"]


def test_needs_beyond_their_lines_are_counted() -> None:
    board = Board(needs=[NEED.model_dump(mode="json")] * 9)
    lines = render_needs(board, SCREEN, 4, 60)
    assert (len(lines), lines[-1]) == (4, "and 6 more: hive needs")
    assert all(len(line) <= 60 for line in lines)


def test_a_row_says_why_and_what_is_not_known() -> None:
    row = AGENT.model_copy(update={"park": PARK, "config_error": "line 4", "context_tokens": 0, "day_unpriced": True})
    cells = render_cells(row.model_dump(mode="json"), SCREEN)
    assert cells[3:5] == ("-", "$3.10+")
    assert cells[-1] == "paused: by the operator · config: line 4"
    assert render_cells({}, SCREEN)[0] == "?"
    assert "not live" in render_head(Board(), SCREEN)
    assert render_details(Board(), "nobody", SCREEN) == "it is gone"


def test_a_stream_is_events_and_signs_of_life() -> None:
    lines = [b": alive\n", b"\n", b"id: 3:0\n", b"event: state\n", b'data: {"name": "a"}\n', b"\n", b"data: [\n", b"\n"]
    assert list(parse_events(lines)) == [("", {}), ("state", {"name": "a"}), ("", {})]


async def test_without_a_terminal_it_says_what_is_for_programs(hive: FakeHive) -> None:
    done = await call(hive.data, "top")
    assert done.status == 1
    assert b"hive ps --json" in done.stderr


async def test_a_narrow_screen_has_all_keys_and_why_an_agent_does_not_work(hive: FakeHive, stream: Stream) -> None:
    named = AGENT.model_copy(update={"name": "a-rather-long-name-of-an-agent", "park": PARK})
    hive.answers["GET /api/agents"] = answer_with([named])
    async with show(hive, (40, 20)) as (top, pilot):
        await wait_for(pilot, lambda: "a-rather-long-n…" in read_screen(top), "the agents are drawn")
        await wait_for(pilot, lambda: "q quit" in read_screen(top), "the keys are drawn")
        shown = read_screen(top)
        for text in ("details", "pause", "resume", "start", "stop", "paused:"):
            assert text in shown
        await pilot.resize_terminal(120, 40)
        await wait_for(pilot, lambda: "MODEL" in read_screen(top), "a wider one has more columns")
        assert named.name in read_screen(top)
        assert top.chosen == named.name


@pytest.mark.parametrize("width", [10, 40, 60, 80, 120])
def test_no_line_is_longer_than_the_screen(width: int) -> None:
    row = AGENT.model_copy(update={"name": "x" * 63, "reason": "y" * 400}).model_dump(mode="json")
    board = Board(agents={"x": row}, trouble="z" * 300)
    assert len(render_head(board, SCREEN, width)) <= width
    titles, _ = plan_columns(width)
    [cells] = render_table_rows([row], SCREEN, width)
    used = sum(max(len(title), len(cell)) + 2 for title, cell in zip(titles, cells, strict=True))
    assert used <= max(width, 45)
