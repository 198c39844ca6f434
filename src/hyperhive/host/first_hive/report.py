"""What an import took and what it left, for people and for programs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hyperhive.system.left_out import LeftOut

# Names of what was left that people see; there are more in the JSON.
_SHOWN_LIMIT = 10


@dataclass(slots=True)
class AgentReport:
    """`origin` is its name in the first hive. `left` says why nothing of it is taken, empty: it is."""

    origin: str
    name: str = ""
    left: str = ""
    commit: str = ""
    tags: int = 0
    size_bytes: int = 0
    notes: list[str] = field(default_factory=list[str])
    left_out: LeftOut = field(default_factory=LeftOut)

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "origin": self.origin,
            "taken": not self.left,
            "left": self.left or None,
            "commit": self.commit or None,
            "tags": self.tags,
            "size_bytes": self.size_bytes,
            "notes": self.notes,
            "left_out_count": self.left_out.count,
            "left_out": _describe_paths(self.left_out),
        }


@dataclass(slots=True)
class TableReport:
    """Rows of one table: `taken` by what they became, `left` by the reason, `already` were here before.

    `columns` are those that were understood, `unknown` those that were not, `missing` what no column was found for.
    """

    name: str
    problem: str = ""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    taken: Counter[str] = field(default_factory=Counter[str])
    left: Counter[str] = field(default_factory=Counter[str])
    already: int = 0

    def describe(self) -> dict[str, Any]:
        return {
            "problem": self.problem or None,
            "columns": dict(self.columns),
            "columns_not_taken": list(self.unknown),
            "columns_missing": list(self.missing),
            "taken": dict(self.taken),
            "already_here": self.already,
            "left": [{"reason": reason, "count": count} for reason, count in self.left.most_common()],
        }


@dataclass(slots=True)
class Report:
    source: str
    data: str
    dry_run: bool
    agents: list[AgentReport] = field(default_factory=list[AgentReport])
    tables: list[TableReport] = field(default_factory=list[TableReport])
    left: LeftOut = field(default_factory=LeftOut)

    @property
    def takes_something(self) -> bool:
        return any(not agent.left for agent in self.agents) or any(table.taken for table in self.tables)

    def describe(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "data": self.data,
            "dry_run": self.dry_run,
            "agents": [agent.describe() for agent in self.agents],
            **{table.name: table.describe() for table in self.tables},
            "left_count": self.left.count,
            "left": _describe_paths(self.left),
        }

    def summarise(self) -> dict[str, Any]:
        """For the audit."""
        return {
            "source": self.source,
            "agents": [agent.name for agent in self.agents if not agent.left],
            **{table.name: table.taken.total() for table in self.tables},
        }


def render_report(report: Report) -> str:
    """A line for each agent and each table, and below it what is left and why."""
    takes = "would take" if report.dry_run else "took"
    lines: list[str] = []
    for agent in report.agents:
        lines += _render_agent(agent, takes)
    for table in report.tables:
        lines += _render_table(table, takes)
    lines += _render_left(report.left, f"left in {report.source}")
    if not report.takes_something:
        lines.append("nothing to take over" + ("" if report.dry_run else ": nothing was changed"))
    elif report.dry_run:
        lines.append("nothing was changed; without --dry-run it is taken over")
    else:
        lines.append(f"the agents are stopped: `hive up --data {report.data}`, then `hive start NAME` for each")
    return "\n".join(lines)


def _render_agent(agent: AgentReport, takes: str) -> list[str]:
    if agent.left:
        return [f"{agent.origin}: left, {agent.left}"]
    origin = "" if agent.origin == agent.name else f" ({agent.origin} there)"
    head = f"{agent.name}{origin}: {takes} config {agent.commit[:12]}, {agent.tags} tags, {agent.size_bytes:,} bytes"
    return [head, *(f"  {note}" for note in agent.notes), *_render_left(agent.left_out, "  left")]


def _render_table(table: TableReport, takes: str) -> list[str]:
    if table.problem:
        return [f"{table.name}: left, {table.problem}"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(table.taken.items())) or "none"
    lines = [f"{table.name}: {takes} {kinds}"]
    if table.already:
        lines.append(f"  {table.already:,} were taken over before")
    lines += [f"  left {count:,}: {reason}" for reason, count in table.left.most_common()]
    if table.unknown:
        lines.append(f"  columns not taken: {', '.join(table.unknown)}")
    if table.missing:
        lines.append(f"  no column found for: {', '.join(table.missing)}")
    return lines


def _render_left(left: LeftOut, title: str) -> list[str]:
    if not left.count:
        return []
    indent = " " * (len(title) - len(title.lstrip()) + 2)
    lines = [f"{title}: {left.count}", *(f"{indent}{path}: {reason}" for path, reason in left.named[:_SHOWN_LIMIT])]
    if left.count > _SHOWN_LIMIT:
        lines.append(f"{indent}and {left.count - _SHOWN_LIMIT} more; --json names the first {left.limit}")
    return lines


def _describe_paths(left: LeftOut) -> list[dict[str, str]]:
    return [{"path": path, "reason": reason} for path, reason in left.named]
