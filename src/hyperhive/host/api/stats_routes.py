"""/api/stats: what agents did and what it cost, as columns for charts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from hyperhive.core.names import parse_known_agent_name
from hyperhive.core.stats import HIVE, SERIES, SERIES_BY_KEY, parse_keys, parse_since
from hyperhive.host.api.services import Services
from hyperhive.host.stats.answers import Answer
from hyperhive.system.clock import now
from hyperhive.wire.operator import StatsOfAgents, StatsPage, StatsSeries

POINTS_DEFAULT = 400
# With all series some 100 KB: more than any screen shows.
POINTS_LIMIT = 1000
POINTS_LEAST = 20

Since = Annotated[str, Query(max_length=60, description="A span such as 90m, 24h, 7d, 2w, or an RFC 3339 instant.")]
Keys = Annotated[str, Query(max_length=2000, description="With commas between; empty: all.")]


def stats_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["stats"])

    @routes.get("/api/stats", response_model=StatsPage)
    async def read_stats(
        agent: Annotated[str, Query(max_length=200, description="'*' for the whole hive.")] = HIVE,
        since: Since = "24h",
        keys: Keys = "",
        points: Annotated[int, Query(ge=POINTS_LEAST, le=POINTS_LIMIT, description="At most.")] = POINTS_DEFAULT,
    ) -> Response:
        """The series of an agent or of the hive, from `since` until now."""
        name = agent if agent == HIVE else parse_known_agent_name(agent)
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

    return routes


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
