"""Stats as CSV (RFC 4180). Names of tools and models are agents' words: none of them becomes a formula."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from hyperhive.host.stats.answers import Answer
from hyperhive.host.stats.usage import Usage

# A spreadsheet computes what begins so; a quote before it makes it text.
_FORMULA_SIGNS = ("=", "+", "-", "@")
_USAGE_HEAD = (
    "requests", "failures", "unpriced_requests", "work_tokens", "input_tokens", "output_tokens",
    "cache_write_tokens", "cache_read_tokens", "cost_usd",
)  # fmt: skip
_NAME_HEADS = {"agents": "agent", "days": "day", "models": "model"}


def render_series_csv(answer: Answer, first_s: int | None, last_s: int | None) -> str:
    """A row for each slot that begins between the two instants; a cell is empty where a figure is not known."""
    begin = answer.at_s[0] if first_s is None else first_s
    end = answer.at_s[-1] if last_s is None else last_s
    rows = (
        [_render_instant(at_s), *(column[index] for column in answer.columns.values())]
        for index, at_s in enumerate(answer.at_s)
        if begin <= at_s <= end
    )
    return _render(["at", *answer.columns], rows)


def render_tools_csv(answer: Answer) -> str:
    ranked = sorted(answer.tools.items(), key=lambda tool: (-tool[1], tool[0]))
    return _render(["tool", "calls"], ([render_name(name), calls] for name, calls in ranked))


def render_usage_csv(table: str, rows: Mapping[str, Usage]) -> str:
    """`table` is agents, days or models. The cost is empty where nothing of it has a price."""
    return _render(
        [_NAME_HEADS[table], *_USAGE_HEAD],
        ([render_name(name), *_list_cells(usage)] for name, usage in rows.items()),
    )


def _list_cells(usage: Usage) -> Sequence[object]:
    known = usage.micro_usd > 0 or usage.unpriced == 0
    cost = f"{usage.micro_usd / 1_000_000:.6f}" if known else None
    return (
        usage.requests, usage.failures, usage.unpriced, usage.work, usage.input, usage.output,
        usage.cache_write, usage.cache_read, cost,
    )  # fmt: skip


def render_name(name: str) -> str:
    """A name as a cell of text, whatever it begins with, and with nothing that cannot be seen."""
    visible = "".join(character if character.isprintable() else "\ufffd" for character in name)
    # Some spreadsheets skip the blanks before a formula.
    return f"'{visible}" if visible.lstrip().startswith(_FORMULA_SIGNS) else visible


def _render_instant(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def _render(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
