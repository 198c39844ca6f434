"""The screen of `hive top`. What agents wrote only ever becomes plain text: nothing in it is markup."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from queue import Queue
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from hyperhive.cli.client import Client
from hyperhive.cli.rendering import Screen
from hyperhive.cli.top_view.board import (
    Board,
    plan_columns,
    render_details,
    render_flow,
    render_head,
    render_needs,
    render_table_rows,
)
from hyperhive.cli.top_view.feed import Feed, Happened, Live, News, Snapshot
from hyperhive.core.errors import HiveError
from hyperhive.core.text import render_safe_line

# However much happens, it is drawn no more often.
DRAW_INTERVAL_S = 0.25
# Ages move on without any event.
AGE_INTERVAL_S = 5.0
_NEEDS_LINES = 4
# A footer is one line, and cuts what does not fit.
_NARROW_KEYS = "⏎ details  p pause  r resume\ns start  x stop  q quit"
# What waits to be taken: who tells more waits, and the hive has them look anew.
_NEWS_LIMIT = 1000

_COLOURS = {
    "idle": "green",
    "thinking": "yellow",
    "compacting": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "parked": "magenta",
    "needs_login": "red",
    "failed": "red",
    "crashed": "red",
    "unknown": "red",
}


class Details(ModalScreen[None]):
    """All of one agent, kept current."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q", "app.pop_screen", "close")]

    def __init__(self, agent: str, render_text: Callable[[], str]) -> None:
        super().__init__()
        self.agent = agent
        self._render_text = render_text

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="details"):
            yield Static(self.agent, markup=False, classes="title")
            yield Static(self._render_text(), markup=False, id="details-text")
        yield Footer()

    def draw(self) -> None:
        self.query_one("#details-text", Static).update(Text(self._render_text()))


class Question(ModalScreen[bool]):
    """One question that y answers with yes; anything else that closes it is a no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape,q", "dismiss(False)", "no"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        yield Static(self._text, markup=False, id="question")
        yield Footer()


class Agents(DataTable[Text]):
    """The rows; enter opens the one that the cursor is on."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "details")]


def _make_block(lines: Sequence[str]) -> Text:
    return Text("\n".join(lines), no_wrap=True)


class Top(App[None]):
    """`hive` does what is asked for; `feed` is made with what takes its news, and told when to begin and end."""

    CSS_PATH = "top.tcss"
    ENABLE_COMMAND_PALETTE = False
    TITLE = "hive top"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (60, "-wide")]  # noqa: RUF012 - Textual declares it so
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "act('pause')", "pause"),
        Binding("r", "act('resume')", "resume"),
        Binding("s", "act('start')", "start"),
        Binding("x", "stop", "stop"),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, hive: Client, make_feed: Callable[[Callable[[News], None]], Feed]) -> None:
        # Whoever wants no colours gets none, greys neither, and the terminal's own background.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self._hive = hive
        self._feed = make_feed(self._hear)
        self.board = Board()
        self._stale = True
        self._news: Queue[News] = Queue(_NEWS_LIMIT)
        self._titles: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        yield Static(id="head", markup=False)
        yield Agents(id="agents", cursor_type="row")
        yield Static("needs you", classes="title", markup=False)
        yield Static(id="needs", markup=False)
        yield Static("message flow", classes="title", markup=False)
        yield Static(id="flow", markup=False)
        yield Footer(id="foot")
        yield Static(_NARROW_KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        self._table().focus()
        self.set_interval(DRAW_INTERVAL_S, self._tick)
        self.set_interval(AGE_INTERVAL_S, self._mark_stale)
        self._feed.start()
        self._draw()

    def on_unmount(self) -> None:
        self._feed.close()

    def on_resize(self) -> None:
        self._mark_stale()

    # -- what is told --------------------------------------------------------------------------------------

    def _hear(self, news: News) -> None:
        """Called from the feed's threads: they wait while there is too much that was not taken yet."""
        self._news.put(news)

    def _tick(self) -> None:
        """Takes what was told since the last one, and draws what came of it."""
        for _ in range(self._news.qsize()):
            self._take(self._news.get_nowait())
        if self._stale:
            self._draw()

    def _take(self, news: News) -> None:
        board = self.board
        if isinstance(news, Happened):
            if board.apply(news.kind, news.data):
                self._feed.refresh_soon()
        elif isinstance(news, Snapshot):
            if news.hive is None:
                board.load_agents(news.agents)
                board.needs = news.needs
            else:
                board.load(news.hive, news.agents, news.needs, news.messages or [])
        elif isinstance(news, Live):
            board.is_live, board.trouble = True, ""
        else:
            board.is_live, board.trouble = False, render_safe_line(news.trouble)
        self._stale = True

    # -- what is drawn -------------------------------------------------------------------------------------

    def _mark_stale(self) -> None:
        self._stale = True

    def _draw(self) -> None:
        self._stale = False
        screen = Screen(now=datetime.now(UTC))
        main = self.screen_stack[0]
        head = render_head(self.board, screen, max(self.size.width, 1))
        main.query_one("#head", Static).update(Text(head, no_wrap=True))
        self._draw_agents(screen)
        needs, flow = main.query_one("#needs", Static), main.query_one("#flow", Static)
        width = max(flow.size.width, 1)
        needs.update(_make_block(render_needs(self.board, screen, _NEEDS_LINES, width)))
        flow.update(_make_block(render_flow(self.board, screen, flow.size.height, width)))
        if isinstance(self.screen, Details):
            self.screen.draw()

    def _draw_agents(self, screen: Screen) -> None:
        """Changes the cells that differ; rows are made anew only when agents come or go, with the cursor kept."""
        table = self._table()
        names = self.board.list_names()
        width = self.size.width
        titles, _ = plan_columns(width)
        if titles != self._titles or [str(key.value) for key in table.rows] != names:
            self._make_rows(titles, names)
        rows = render_table_rows([self.board.agents[name] for name in names], screen, width)
        for name, cells in zip(names, rows, strict=True):
            for title, cell in zip(titles, cells, strict=True):
                text = Text(cell, style=_COLOURS.get(cell, "dim") if title == "STATE" else "", no_wrap=True)
                if table.get_cell(name, title) != text:
                    table.update_cell(name, title, text, update_width=True)

    def _make_rows(self, titles: tuple[str, ...], names: list[str]) -> None:
        table = self._table()
        chosen, row = self.chosen, table.cursor_row
        table.clear(columns=True)
        self._titles = titles
        for title in titles:
            table.add_column(title, key=title)
        for name in names:
            table.add_row(*(Text("") for _ in titles), key=name)
        if names:
            table.move_cursor(row=names.index(chosen) if chosen in names else min(row, len(names) - 1))

    def _table(self) -> Agents:
        return self.screen_stack[0].query_one("#agents", Agents)

    @property
    def chosen(self) -> str | None:
        """The agent that the cursor is on."""
        table = self._table()
        if not 0 <= table.cursor_row < table.row_count:
            return None
        return str(table.ordered_rows[table.cursor_row].key.value)

    # -- what is asked for ---------------------------------------------------------------------------------

    def on_data_table_row_selected(self) -> None:
        self.action_details()

    def action_details(self) -> None:
        agent = self.chosen
        if agent is not None and len(self.screen_stack) == 1:
            self.push_screen(Details(agent, lambda: render_details(self.board, agent, Screen(now=datetime.now(UTC)))))

    def action_act(self, act: str) -> None:
        agent = self.chosen
        if agent is not None and len(self.screen_stack) == 1:
            self._ask_hive(agent, act)

    def action_stop(self) -> None:
        agent = self.chosen
        if agent is None or len(self.screen_stack) > 1:
            return

        def decide(yes: bool | None) -> None:
            if yes:
                self._ask_hive(agent, "stop")

        self.push_screen(Question(f"stop {agent}? its messages wait"), decide)

    @work(thread=True)
    def _ask_hive(self, agent: str, act: str) -> None:
        try:
            self._hive.post(f"/api/agents/{agent}/{act}")
            said, severity = f"{act}: {agent}", "information"
        except HiveError as error:
            said, severity = render_safe_line(error.message), "error"
        self.call_from_thread(partial(self.notify, said, severity=severity, markup=False, timeout=4))
        self._feed.refresh_soon()
