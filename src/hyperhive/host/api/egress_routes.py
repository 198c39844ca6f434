"""/api/egress: what agents asked of the egress proxy."""

from typing import Annotated

from fastapi import APIRouter, Query

from hyperhive.host.api.services import Services
from hyperhive.wire.operator.records import EgressRequest


def egress_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])

    @routes.get("/api/egress")
    async def list_egress(
        agent: Annotated[str, Query(max_length=200)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[EgressRequest]:
        """The last requests that ended, the newest first; of all agents without `agent`."""
        return await services.egress.list_requests(agent, limit)

    return routes
