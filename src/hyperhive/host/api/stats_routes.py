"""/api/stats: what agents did and what it cost, as columns for charts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.stats import HIVE, SERIES, SERIES_BY_KEY, parse_keys, parse_since
from hyperhive.host.api.services import Services
from hyperhive.host.api.stats_csv import render_series_csv, render_tools_csv, render_usage_csv
from hyperhive.host.stats.answers import Answer
from hyperhive.host.stats.usage import Usage, UsageTables
from hyperhive.system.clock import now
from hyperhive.wire.operator.stats import StatsOfAgents, StatsPage, StatsSeries, StatsUsage, UsageRow

POINTS_DEFAULT = 400
# With all series some 100 KB: more than any screen shows.
POINTS_LIMIT = 1000
POINTS_LEAST = 20

Since = Annotated[str, Query(max_length=60, description="A span such as 90m, 24h, 7d, 2w, or an RFC 3339 instant.")]
Keys = Annotated[str, Query(max_length=2000, description="With commas between; empty: all.")]
Agent = Annotated[str, Query(max_length=200, description="'*' for the whole hive.")]
Points = Annotated[int, Query(ge=POINTS_LEAST, le=POINTS_LIMIT, description="At most.")]
Instant = Annotated[int | None, Query(ge=0, le=2**40, description="In seconds since 1970.")]
Table = Literal["series", "tools", "agents", "days", "models"]


def stats_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["stats"])

    @routes.get("/api/stats", response_model=StatsPage)
    async def read_stats(
        agent: Agent = HIVE,
        since: Since = "24h",
        keys: Keys = "",
        points: Points = POINTS_DEFAULT,
    ) -> Response:
        """The series of an agent or of the hive, from `since` until now."""
        name = _parse_agent(agent)
        wanted = parse_keys(keys, name)
        answer = await services.stats.read(name, parse_since(since, now()), wanted, points)
        return Response(_render_page(name, wanted, answer), media_type="application/json")

    @routes.get("/api/stats/keys")
    async def list_series() -> list[StatsSeries]:
        """All series that there are, in the order in which they are shown."""
        return [
            StatsSeries(key=one.key, unit=one.unit, fold=one.fold.value, scope=one.scope.value, meaning=one.meaning)
            for one in SERIES
        ]

    @routes.get("/api/stats/agents")
    async def compare_agents(since: Since = "24h", keys: Keys = "") -> StatsOfAgents:
        """What each agent comes to, from `since` until now."""
        wanted = parse_keys(keys, "")
        began = parse_since(since, now())
        answers = await services.stats.compare(began, wanted)
        totals = {name: dict(answer.totals) for name, answer in answers.items()}
        starts = [answer.at_s[0] for answer in answers.values()]
        return StatsOfAgents.model_validate(
            {"from": _instant(min(starts)) if starts else began, "agents": totals, "units": _units(wanted)}
        )

    @routes.get("/api/stats/usage")
    async def read_usage(agent: Agent = HIVE, since: Since = "24h") -> StatsUsage:
        """Tokens and cost by agent, by day and by model, from `since` until now."""
        name, began = _parse_agent(agent), parse_since(since, now())
        return _show_usage(name, began, await services.stats.usage.read(name, began))

    @routes.get("/api/stats.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
    async def download_stats(
        agent: Agent = HIVE,
        since: Since = "24h",
        keys: Keys = "",
        points: Points = POINTS_DEFAULT,
        table: Table = "series",
        first: Instant = None,
        last: Instant = None,
    ) -> Response:
        """One of the tables as a file: the slots of the series that begin between `first` and `last`, or another."""
        name, began = _parse_agent(agent), parse_since(since, now())
        if table in ("series", "tools"):
            wanted = parse_keys(keys, name)
            answer = await services.stats.read(name, began, wanted, points)
            text = render_tools_csv(answer) if table == "tools" else render_series_csv(answer, first, last)
        else:
            tables = await services.stats.usage.read(name, began)
            text = render_usage_csv(
                table, {"agents": tables.agents, "days": tables.days, "models": tables.models}[table]
            )
        # The name has no character that a header or a file system would mind.
        file = f"stats-{'hive' if name == HIVE else name}-{table}.csv"
        headers = {"content-disposition": f'attachment; filename="{file}"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers=headers)

    return routes


def _parse_agent(agent: str) -> str:
    return agent if agent == HIVE else parse_known_agent_name(agent)


def _show_usage(agent: str, began: datetime, tables: UsageTables) -> StatsUsage:
    rows = {
        title: [_show_row(name, usage) for name, usage in table.items()]
        for title, table in (("agents", tables.agents), ("days", tables.days), ("models", tables.models))
    }
    return StatsUsage.model_validate({"agent": agent, "from": began, "total": _show_row("total", tables.total), **rows})


def _show_row(name: str, usage: Usage) -> UsageRow:
    return UsageRow(
        name=name,
        requests=usage.requests,
        failures=usage.failures,
        unpriced=usage.unpriced,
        work_tokens=usage.work,
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_write_tokens=usage.cache_write,
        cache_read_tokens=usage.cache_read,
        cost_usd=usage.micro_usd / 1_000_000,
    )


def _render_page(agent: str, keys: Sequence[str], answer: Answer) -> str:
    """Written as JSON without a check of each figure: they are our own, and may be many."""
    page = StatsPage.model_construct(
        agent=agent,
        since=_instant(answer.at_s[0]),
        step_s=answer.step_s,
        at=list(answer.at_s),
        series=dict(answer.columns),
        totals=dict(answer.totals),
        units=_units(keys),
        tools=dict(sorted(answer.tools.items(), key=lambda tool: (-tool[1], tool[0]))),
    )
    return page.model_dump_json(by_alias=True)


def _units(keys: Sequence[str]) -> Mapping[str, str]:
    return {key: SERIES_BY_KEY[key].unit for key in keys}


def _instant(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
