"""/api/agents, /api/kept: what runs, and steering it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Response

from hyperhive.core.names import OPERATOR
from hyperhive.host.api.services import Services
from hyperhive.wire.operator.agents import AgentRow, CancelResult, KeptState, SpawnRequest

# Validated by `core.names` in the service; the bound only keeps error messages short.
Name = Annotated[str, Path(max_length=200)]


def agent_routes(services: Services) -> APIRouter:
    routes = APIRouter(tags=["agents"])
    agents = services.agents

    @routes.get("/api/agents")
    async def list_agents() -> list[AgentRow]:
        return await agents.rows()

    @routes.post("/api/agents", status_code=201)
    async def spawn_agent(request: SpawnRequest) -> AgentRow:
        """Spawns an agent by the operator's own wish: no approval."""
        return await agents.spawn(request.name)

    @routes.post("/api/agents/{name}/cancel")
    async def cancel_turn(name: Name) -> CancelResult:
        return CancelResult(cancelled=await agents.cancel_turn(name))

    @routes.post("/api/agents/{name}/{act}", status_code=202)
    async def steer_agent(name: Name, act: Literal["start", "stop", "restart"]) -> Response:
        """Returns once the wish is stored; the row tells how it goes on."""
        acts = {"start": agents.start, "stop": agents.stop, "restart": agents.restart}
        await acts[act](name, OPERATOR)
        return Response(status_code=202)

    @routes.delete("/api/agents/{name}", status_code=204)
    async def destroy_agent(name: Name, purge: bool = False) -> None:
        """Ends an agent. Its state is kept unless `purge` is set."""
        await agents.destroy(name)
        if purge:
            await purge_kept(name)

    @routes.get("/api/kept")
    async def list_kept() -> list[KeptState]:
        return await services.kept.list_kept()

    @routes.post("/api/kept/{name}/revive", status_code=201)
    async def revive_kept(name: Name) -> AgentRow:
        """Brings a destroyed agent back with its state, config and login. The row tells how it starts."""
        return await services.kept.revive(name)

    @routes.delete("/api/kept/{name}", status_code=204)
    async def purge_kept(name: Name) -> None:
        await services.kept.purge(name)

    return routes
