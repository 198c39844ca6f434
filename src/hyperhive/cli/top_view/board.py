"""What is known of the hive, and how it is written: values in, text out. All of it is bounded."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hyperhive.cli.agents import render_update
from hyperhive.cli.client import Row
from hyperhive.cli.flow import render_line
from hyperhive.cli.needs import render_acts
from hyperhive.cli.rendering import Screen, line_field, render_age, render_wait
from hyperhive.cli.turns import render_park
from hyperhive.core.text import cut_text, render_safe_line

FLOW_LIMIT = 200
# What stands in a line of the flow: more would not be shown anyway.
_BODY_CHARS = 400
# No cell or line is longer, however wide the terminal.
_CELL_CHARS = 500


@dataclass
class Board:
    """One hive as it was last told. `is_live` says whether that goes on."""

    hive: Row = field(default_factory=dict[str, Any])
    agents: dict[str, Row] = field(default_factory=dict[str, Row])
    needs: Sequence[Row] = ()
    flow: deque[Row] = field(default_factory=lambda: deque[Row](maxlen=FLOW_LIMIT))
    is_live: bool = False
    trouble: str = ""

    def load(self, hive: Row, agents: Iterable[Row], needs: Sequence[Row], messages: Iterable[Row]) -> None:
        """All anew; `messages` with the newest first."""
        self.hive = hive
        self.load_agents(agents)
        self.needs = needs
        self.flow.clear()
        self.flow.extend(_cut_message(row) for row in sorted(messages, key=_order))

    def load_agents(self, rows: Iterable[Row]) -> None:
        self.agents = {str(row.get("name")): row for row in rows}

    def apply(self, kind: str, data: Row) -> bool:
        """Takes one event of the stream. Returns whether what it tells of has to be fetched."""
        if kind == "state":
            self.agents[str(data.get("name"))] = data
            return False
        if kind != "hive":
            return kind == "resync"
        name = str(data.get("name"))
        if name == "message.sent":
            self._add_message(data)
        return not name.startswith("message.") or name in {"message.dead", "message.requeued", "message.dismissed"}

    def _add_message(self, event: Row) -> None:
        body: Any = event.get("body")
        message: Any = cast("Row", body).get("message") if isinstance(body, dict) else None
        if not isinstance(message, dict):
            return
        row = cast("Row", message)
        if not self.flow or _order(row) > _order(self.flow[-1]):
            self.flow.append(_cut_message(row))

    def list_names(self) -> list[str]:
        """The manager, then the others by name: a row stays where it is while states change."""
        return sorted(self.agents, key=lambda name: (not self.agents[name].get("manager"), name))


def _order(row: Row) -> int:
    number = row.get("id")
    return number if isinstance(number, int) else 0


def _cut_message(row: Row) -> Row:
    return row | {"body": str(row.get("body", ""))[:_BODY_CHARS]}


# -- what is shown ---------------------------------------------------------------------------------------------

TITLES = ("AGENT", "STATE", "SINCE", "CONTEXT", "TODAY", "INBOX", "MODEL", "WHY")
_MIDDLE_TITLES = ("AGENT", "STATE", "SINCE", "CONTEXT", "TODAY", "INBOX", "WHY")
_NARROW_TITLES = ("AGENT", "STATE", "WHY")
# From which width on what is shown, and how much of a name: what a narrow screen has no room for, the details have.
_LAYOUTS = ((110, TITLES, 40), (78, _MIDDLE_TITLES, 24), (0, _NARROW_TITLES, 16))
# Between two columns.
_GAP_CHARS = 2


def plan_columns(width: int) -> tuple[tuple[str, ...], int]:
    """The columns on a screen so wide, and how many characters of a name fit in."""
    return next((titles, name_chars) for least, titles, name_chars in _LAYOUTS if width >= least)


def render_table_rows(rows: Sequence[Row], screen: Screen, width: int) -> list[tuple[str, ...]]:
    """The cells of each agent for a screen so wide; the last column has what the others leave."""
    titles, name_chars = plan_columns(width)
    whole: list[dict[str, str]] = [dict(zip(TITLES, render_cells(row, screen), strict=True)) for row in rows]
    for cells in whole:
        cells["AGENT"] = cut_text(cells["AGENT"], name_chars)
    others = titles[:-1]
    used = sum(max([len(title), *(len(cells[title]) for cells in whole)]) + _GAP_CHARS for title in others)
    for cells in whole:
        cells["WHY"] = cut_text(cells["WHY"], max(width - used - _GAP_CHARS, 10))
    return [tuple(cells[title] for title in titles) for cells in whole]


def render_cells(row: Row, screen: Screen) -> tuple[str, ...]:
    """The cells of an agent, in the order of `TITLES`."""
    cells = (
        line_field(row, "name"),
        line_field(row, "state"),
        render_age(str(row.get("since")), screen.now),
        render_context(row),
        render_cost(row),
        str(row.get("waiting") or "-"),
        line_field(row, "model") or "-",
        render_reason(row, screen),
    )
    return tuple(cut_text(render_safe_line(cell), _CELL_CHARS) for cell in cells)


def render_reason(row: Row, screen: Screen) -> str:
    """Why an agent is as it is; first of all that its config failed."""
    error = line_field(row, "config_error") if row.get("config_error") else ""
    why = render_park(row.get("park"), screen) or line_field(row, "reason")
    update = "" if error else render_update(row)
    return " · ".join(part for part in (why, f"config: {error}" if error else "", update) if part)


def render_context(row: Row) -> str:
    """How full the conversation is; `-` when that is not known."""
    tokens, limit = _number(row, "context_tokens"), _number(row, "context_limit")
    if not tokens:
        return "-"
    return f"{100 * tokens / limit:.0f} %" if limit else f"{tokens / 1000:.0f} k"


def render_cost(row: Row) -> str:
    """What the last 24 hours cost; with a + if not all of it has a price."""
    return f"${_number(row, 'day_usd'):.2f}{'+' if row.get('day_unpriced') else ''}"


def _number(row: Row, name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def render_head(board: Board, screen: Screen, width: int = _CELL_CHARS) -> str:
    """The first line: whether this is live, what waits, how many agents, what it cost; the end of it has to fit."""
    version = line_field(board.hive, "version") if board.hive else ""
    cost = sum(_number(row, "day_usd") for row in board.agents.values())
    busy = sum(row.get("state") in {"thinking", "compacting"} for row in board.agents.values())
    parts = [
        "hyperhive",
        "live" if board.is_live else f"not live: {board.trouble or 'connecting'}",
        render_park(board.hive.get("park"), screen),
        f"{len(board.needs)} for you" if board.needs else "nothing needs you",
        f"agents: {len(board.agents)}, {busy} at work",
        "rehearsal" if board.hive.get("rehearsal") else "",
        f"${cost:.2f} today",
        version,
    ]
    shown = [render_safe_line(part) for part in parts if part]
    while len(shown) > 2 and len(" · ".join(shown)) > width:
        shown.pop()
    return cut_text(" · ".join(shown), width)


def render_needs(board: Board, screen: Screen, lines: int, width: int) -> list[str]:
    """The most urgent that wait, a line each; the last one says how many more there are."""
    if not board.needs:
        return ["nothing"]
    shown = board.needs if len(board.needs) <= lines else board.needs[: max(lines - 1, 0)]
    found = [cut_text(_render_need(row, screen), width) for row in shown]
    rest = len(board.needs) - len(shown)
    return [*found, f"and {rest} more: hive needs"] if rest else found


def _render_need(row: Row, screen: Screen) -> str:
    deadline = row.get("deadline")
    when = f" ({render_wait(str(deadline), screen.now)} left)" if deadline else ""
    acts = render_acts(row)
    return f"{line_field(row, 'title')}{when}" + (f" · {acts}" if acts else "")


def render_flow(board: Board, screen: Screen, lines: int, width: int) -> list[str]:
    """The last messages, the newest last."""
    rows = list(board.flow)[-lines:] if lines > 0 else []
    plain = Screen(now=screen.now)
    return [cut_text(render_line(row, plain), width) for row in rows] or ["nothing was said yet"]


def render_details(board: Board, name: str, screen: Screen) -> str:
    """All that a row has no room for."""
    row = board.agents.get(name)
    if row is None:
        return "it is gone"
    facts = [
        ("state", f"{line_field(row, 'state')}, for {render_age(str(row.get('since')), screen.now)}"),
        ("why", render_reason(row, screen)),
        ("model", _join(line_field(row, "model"), _prefix("chosen: ", line_field(row, "chosen_model")))),
        ("context", _join(render_context(row), f"{_number(row, 'context_tokens'):.0f} tokens")),
        ("today", _join(render_cost(row), f"{_number(row, 'day_tokens'):.0f} tokens")),
        ("budget", _render_budget(row)),
        ("inbox", line_field(row, "waiting")),
        ("turns", _join(line_field(row, "turns"), _prefix("the last: ", line_field(row, "last_outcome")))),
        ("login", _join(line_field(row, "login"), line_field(row, "login_account"))),
        ("config", line_field(row, "commit")[:12]),
        ("spawned", f"{render_age(str(row.get('spawned_at')), screen.now)} ago"),
    ]
    lines = [f"{title:<8} {value}" for title, value in facts if value]
    needs = [_render_need(need, screen) for need in board.needs if need.get("agent") == name]
    said = [
        render_line(message, Screen(now=screen.now))
        for message in list(board.flow)
        if name in (message.get("sender"), message.get("recipient"))
    ]
    if needs:
        lines += ["", "needs you", *(f"  {need}" for need in needs)]
    if said:
        lines += ["", "said", *(f"  {line}" for line in said[-10:])]
    return "\n".join(lines)


def _render_budget(row: Row) -> str:
    tokens, usd = row.get("budget_tokens"), row.get("budget_usd")
    return _join(f"{tokens} tokens" if tokens is not None else "", f"${usd}" if usd is not None else "")


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _prefix(title: str, text: str) -> str:
    return f"{title}{text}" if text else ""
