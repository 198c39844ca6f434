"""Building agents anew: one, or all whose row says that they need it."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from hyperhive.host.api.services import Services
from hyperhive.wire.operator.agents import Updating

Name = Annotated[str, Path(max_length=200)]


def update_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])
    updates = services.updates

    @routes.post("/api/agents/{name}/rebuild", status_code=202)
    async def rebuild_agent(name: Name) -> Response:
        """Has a container built and started anew with what is deployed and installed, once its turn is over."""
        await updates.update(name)
        return Response(status_code=202)

    @routes.post("/api/update-all", status_code=202)
    async def update_all_agents() -> Updating:
        """The same for every agent whose row says `needs_update`. The rows tell how it goes on with each."""
        return Updating(agents=await updates.update_all())

    return routes
